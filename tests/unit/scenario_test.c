/* Scenario files: what is read, and the sentences for what is not. */
#include "test.h"

#include "scenario.h"

#include <unistd.h>

static char path[] = "/tmp/assay-scenario-XXXXXX";

static int load(struct scenario_set *s, const char *text, struct err *e)
{
	FILE *f = fopen(path, "w");

	fputs(text, f);
	fclose(f);
	return scenario_load(s, path, e);
}

static void check_refused(const char *text, const char *sentence)
{
	struct scenario_set s = {0};
	struct err e = ERR_NONE;
	char want[1200];
	int r = load(&s, text, &e);

	snprintf(want, sizeof(want), "%s:%s", path, sentence);
	CHECK(r == -EXIT_USAGE && s.n == 0, "refused");
	CHECK_STR(e.msg, want, "%.60s", sentence);
}

static void check_defaults(void)
{
	struct scenario_set s = {0};
	struct err e = ERR_NONE;

	unsetenv("CROSSVAL_TIMEOUT_SECS");
	CHECK(scenario_defaults(&s, &e) == 0 && s.n == 3, "three default scenarios");
	CHECK_STR(s.items[0].prompt, "2+2=", "the first prompt");
	CHECK(s.items[2].max_new_tokens == 4 && s.items[2].timeout_s == 180, "tokens and timeout");
	scenario_free(&s);
	setenv("CROSSVAL_TIMEOUT_SECS", "7", 1);
	CHECK(scenario_defaults(&s, &e) == 0 && s.items[1].timeout_s == 7, "CROSSVAL_TIMEOUT_SECS");
	scenario_free(&s);
	setenv("CROSSVAL_TIMEOUT_SECS", "soon", 1);
	CHECK(scenario_defaults(&s, &e) == -EXIT_USAGE, "a timeout that is no number");
	CHECK_STR(e.msg, "CROSSVAL_TIMEOUT_SECS=soon: expected seconds from 1 to 86400", "says so");
	unsetenv("CROSSVAL_TIMEOUT_SECS");
}

static void check_read(void)
{
	struct scenario_set s = {0};
	struct err e = ERR_NONE;

	CHECK(load(&s,
		   "{\"scenarios\": [{\"id\": \"a\", \"prompt\": \"x\\\"y\", \"system\": \"s\",\n"
		   "\"template\": \"raw\", \"max_new_tokens\": 3, \"seed\": 5, \"timeout_s\": 9,\n"
		   "\"thresholds\": \"bits\", \"engines\": [\"native\", \"oracle\"]},\n"
		   "{\"id\": \"b\", \"tokens\": [1, 2, 3]}]}",
		   &e) == 0 &&
		      s.n == 2,
	      "two scenarios %s", e.msg);
	CHECK_STR(s.items[0].prompt, "x\"y", "prompt");
	CHECK_STR(s.items[0].engines[1], "oracle", "engines");
	CHECK_STR(s.items[0].thresholds, "bits", "thresholds");
	CHECK(s.items[0].timeout_s == 9 && s.items[0].seed == 5 && s.items[0].max_new_tokens == 3,
	      "numbers");
	CHECK(s.items[1].n_tokens == 3 && s.items[1].tokens[2] == 3 && !s.items[1].prompt, "ids");
	scenario_free(&s);
	CHECK(load(&s, "[]", &e) == 0 && s.n == 0, "an empty list is read");
	scenario_free(&s);
}

int main(void)
{
	int fd = mkstemp(path);

	close(fd);
	check_defaults();
	check_read();
	check_refused(
	    "[\n{\"id\": \"a\", \"prompt\": \"x\"},\n{\"id\": \"b\", \"prompt\": \"id\",\n"
	    "\"promt_file\": 3}]",
	    "4: scenario \"b\", promt_file: unknown key; known are id, prompt, prompt_file, "
	    "system, template, tokens, max_new_tokens, seed, timeout_s, thresholds, engines");
	check_refused("[\n{\"id\": \"a\"}]",
		      "2: scenario \"a\": expected one of prompt, prompt_file and tokens, got 0");
	check_refused("[{\"id\": \"../x\", \"prompt\": \"x\"}]",
		      "1: scenario #1, id: expected 1 to 63 characters of A-Z a-z 0-9 . _ -, the "
		      "first no . or -");
	check_refused("[{\"id\": \"a\", \"prompt\": \"x\"},\n{\"prompt\": \"y\", \"id\": \"a\"}]",
		      "2: scenario \"a\", id: the id is taken by scenario #1");
	check_refused("[{\"id\": \"a\", \"prompt\": \"x\", \"timeout_s\": 0}]",
		      "1: scenario \"a\", timeout_s: expected an integer from 1 to 86400");
	check_refused("[{\"id\": \"a\", \"prompt\": \"x\", \"engines\": [\"native\"]}]",
		      "1: scenario \"a\", engines: expected the engine under test and 1 to 3 "
		      "references");
	check_refused("[{\"id\": \"a\",\n\"prompt\": \"x\",\n}]",
		      "3: string or '}' expected near '}'");
	check_refused("[{\"id\": \"a\", \"prompt_file\": \"/nowhere/at/all\"}]",
		      "1: scenario \"a\", prompt_file: /nowhere/at/all: No such file or directory");
	check_refused("{\"scenarios\": [], \"extra\": 1}",
		      " unknown key \"extra\", or a schema_version that is not \"1.0.0\"; expected "
		      "{\"scenarios\": […]} or an array");
	unlink(path);
	return TEST_END();
}
