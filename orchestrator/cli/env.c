#include "cli.h"
#include "provision/environment.h"

#include <stdio.h>
#include <stdlib.h>

static const struct opt opts[] = {
	{"emit", OPT_STR, "FORM", "for which shell", "sh", NULL, "sh|fish|pwsh|json|github", 0},
	{0},
};

static int run(struct cli *c, struct err *e)
{
	struct environment *v = calloc(1, sizeof(*v));
	char *text = malloc(ENVIRONMENT_TEXT_MAX);
	int r;

	if (!v || !text)
		abort();
	r = environment_collect(v, e);
	if (r == 0)
		r = environment_print(v, cli_json(c) ? "json" : cli_str(c, "emit"), text,
				      ENVIRONMENT_TEXT_MAX, e);
	if (r == 0)
		fputs(text, stdout);
	free(text);
	free(v);
	return r;
}

const struct command cmd_env = {
	.name = "env",
	.group = "Provisioning",
	.summary = "the environment variables that other tools of the field read",
	.examples = "eval \"$(assay env)\"\n"
		    "assay env --emit fish | source\n"
		    "assay env --emit github >> \"$GITHUB_ENV\"",
	.opts = opts,
	.run = run,
	.details =
		"BITNET_CPP_DIR and LLAMA_CPP_DIR are the folders with lib/ and include/ of the built\n"
		"references, CROSSVAL_GGUF the integration model. What is missing has no line.\n"
		"assay itself needs none of them.",
};
