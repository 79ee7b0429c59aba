#include "engine_check.h"

#include "cli.h"
#include "model/fixtures.h"
#include "sweep/engines.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const words[] = {"ok", "FAILED", "warning", "missing"};

struct output {
	json_t *steps;		/* NULL for text */
};

static void print_step(void *ctx, enum check_result r, const char *step, const char *text)
{
	struct output *o = ctx;

	if (o->steps)
		json_array_append_new(o->steps,
				      json_pack("{s:s, s:s, s:s}", "step", step, "result", words[r],
						"detail", text));
	else
		printf("%-8s %-12s %s\n", words[r], step, text);
	fflush(stdout);
}

void check_say(struct engine_check *k, enum check_result r, const char *step, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	k->n[r]++;
	k->say(k->ctx, r, step, text);
}

static void run_steps(struct engine_check *k)
{
	void (*const steps[])(struct engine_check *) = {
		check_hello, check_refusals, check_open,      check_words,  check_positions,
		check_again, check_greedy,   check_less,      check_wrong_ids, check_traces,
		check_splice, check_replay,
	};

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]) && !k->dead; i++) {
		if ((i > 2 && !k->opened) || (i > 4 && !k->has_base))
			break;
		steps[i](k);
	}
}

static void print_end(const struct engine_check *k, const char *engine, struct output *o)
{
	bool usable = k->n[CHECK_FAILED] == 0;

	if (o->steps) {
		json_t *all = json_pack("{s:s, s:o, s:i, s:i, s:i, s:i, s:b}", "engine", engine,
					"steps", o->steps, "ok", k->n[CHECK_OK], "failed",
					k->n[CHECK_FAILED], "warnings", k->n[CHECK_WARN], "missing",
					k->n[CHECK_ABSENT], "usable", usable);

		json_dumpf(all, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(all);
		return;
	}
	printf("%s: %d ok, %d failed, %d warnings, %d not offered\n", engine, k->n[CHECK_OK],
	       k->n[CHECK_FAILED], k->n[CHECK_WARN], k->n[CHECK_ABSENT]);
	if (usable)
		printf("this engine can be compared, calibrated and swept%s\n",
		       k->has_trace ? ", and explained" : "; with traces it could be explained");
	else
		printf("docs/engines.md says what each step needs\n");
}

/* The engine as sweep names it: what is neither a known engine nor a built reference is a command. */
static void engine_name(char *out, size_t size, const char *arg)
{
	struct engine_command *found = calloc(1, sizeof(*found));
	struct err ignored = ERR_NONE;
	bool word = strspn(arg, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen(arg);
	bool known = strncmp(arg, "exec:", 5) == 0 ||
		     (word && found && engine_command(found, arg, &ignored) == 0);

	snprintf(out, size, "%s%s", known ? "" : "exec:", arg);
	free(found);
}

static int make_model(char *path, struct err *e)
{
	struct fixture_options o = {.preset = "tiny-llama", .seed = 1};
	int fd = mkstemp(path);

	if (fd < 0)
		return err_set(e, EXIT_NO_SPACE, "cannot create %s", path);
	close(fd);
	return fixture_write(path, &o, e);
}

static int run(struct cli *c, struct err *e)
{
	char engine[1100], made[] = "/tmp/assay-engine-check-XXXXXX";
	struct client_options o = {.engine = engine,
				   .deadline_ms = (int)cli_int(c, "timeout") * 1000};
	struct output out = {.steps = cli_json(c) ? json_array() : NULL};
	struct engine_check *k = calloc(1, sizeof(*k));
	const char *const *args;
	struct err why = ERR_NONE;
	int rc = 0;

	if (!k || cli_positional(c, &args) != 1) {
		rc = err_set(e, EXIT_USAGE, "engine-check needs one COMMAND");
		goto out;
	}
	engine_name(engine, sizeof(engine), args[0]);
	k->say = print_step;
	k->ctx = &out;
	k->threads = (int)cli_int(c, "threads");
	k->model = cli_str(c, "model");
	if (!k->model) {
		rc = make_model(made, e);
		k->model = made;
	}
	if (rc < 0)
		goto out;
	if (client_open(&k->client, &o, &why) < 0)
		check_say(k, CHECK_FAILED, "hello", "%s", why.msg);
	else
		run_steps(k);
	client_close(k->client);
	print_end(k, engine, &out);
	out.steps = NULL;
	rc = k->n[CHECK_FAILED] ? EXIT_DIVERGED : EXIT_AGREE;
	probe_free(&k->base);
	probe_free(&k->traced);
out:
	if (k && k->model == made)
		unlink(made);
	json_decref(out.steps);
	free(k);
	return rc;
}

static const struct opt opts[] = {
	{"model", OPT_STR, "FILE", "model to open; default: a tiny generated one", NULL, NULL, NULL,
	 'm'},
	{"threads", OPT_INT, "N", "threads of the engine", "2", NULL, NULL, 't'},
	{"timeout", OPT_INT, "S", "seconds per request", "60", NULL, NULL, 0},
	{0},
};

const struct command cmd_engine_check = {
	.name = "engine-check",
	.group = "Engines",
	.summary = "test an engine of your own step by step and say what is missing",
	.positional = "COMMAND",
	.examples = "  assay engine-check ./my-engine\n"
		    "  assay engine-check --model model.gguf 'python3 adapter.py'\n"
		    "  assay engine-check native\n",
	.opts = opts,
	.run = run,
	.details = "The name of a built reference works too. Any other COMMAND is run by sh and\n"
		   "speaks the protocol of docs/engines.md on the descriptor in ASSAY_WIRE_FD.\n"
		   "Exit code 0: usable in every comparison; 1: a step failed.\n"
		   "A warning (an engine that is not equal to itself to the bit) does not fail.\n",
};
