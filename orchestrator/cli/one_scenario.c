#include "one_scenario.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int read_ids(struct scenario *s, const char *text, struct err *e)
{
	s->tokens = calloc(strlen(text) + 1, sizeof(*s->tokens));
	assert(s->tokens);
	for (const char *p = text; *p;) {
		char *end;
		long id;

		errno = 0;
		id = strtol(p, &end, 10);
		if (end == p || errno || id < 0 || id > INT32_MAX || !strchr(", \n", *end) ||
		    s->n_tokens == SCENARIO_TOKENS_MAX)
			return err_set(e, EXIT_USAGE,
				       "--tokens: expected ids as in 1,2,3, got \"%.40s\"", p);
		s->tokens[s->n_tokens++] = (int32_t)id;
		p = end + strspn(end, ", \n");
	}
	if (s->n_tokens == 0)
		return err_set(e, EXIT_USAGE, "--tokens: no ids");
	return 0;
}

static int read_prompt(struct scenario *s, const char *path, struct err *e)
{
	FILE *f = fopen(path, "rbe");
	size_t n;

	if (!f)
		return err_set(e, EXIT_USAGE, "--prompt-file %s: %s", path, strerror(errno));
	s->prompt = calloc(1, SCENARIO_PROMPT_MAX + 2);
	assert(s->prompt);
	n = fread(s->prompt, 1, SCENARIO_PROMPT_MAX + 1, f);
	fclose(f);
	if (n > SCENARIO_PROMPT_MAX || memchr(s->prompt, 0, n))
		return err_set(e, EXIT_USAGE,
			       "--prompt-file %s: longer than %d bytes, or with a NUL", path,
			       SCENARIO_PROMPT_MAX);
	return 0;
}

int one_scenario(struct scenario_set *set, struct cli *c, struct err *e)
{
	const char *system = cli_str(c, "system-prompt");
	int64_t more = cli_int(c, "max-tokens"), timeout_s = cli_int(c, "timeout");
	struct scenario *s;

	if (more < 0 || more > SCENARIO_NEW_TOKENS_MAX)
		return err_set(e, EXIT_USAGE, "--max-tokens: expected 0 to %d",
			       SCENARIO_NEW_TOKENS_MAX);
	if (timeout_s < 1 || timeout_s > 86400)
		return err_set(e, EXIT_USAGE, "--timeout: expected 1 to 86400 seconds");
	s = set->items = calloc(1, sizeof(*s));
	assert(s);
	set->n = 1;
	snprintf(s->id, sizeof(s->id), "prompt");
	s->max_new_tokens = (int)more;
	s->timeout_s = (int)timeout_s;
	s->seed = (uint64_t)cli_int(c, "seed");
	if (system)
		s->system = strdup(system);
	if (cli_str(c, "tokens"))
		return read_ids(s, cli_str(c, "tokens"), e);
	if (cli_str(c, "prompt-file"))
		return read_prompt(s, cli_str(c, "prompt-file"), e);
	s->prompt = strdup(cli_str(c, "prompt"));
	assert(s->prompt);
	return 0;
}
