#include "cli.h"

#include "model/fixtures.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static int run(struct cli *c, struct err *e)
{
	const char *out = cli_str(c, "out"), *layout = cli_str(c, "layout");
	int version = (int)cli_int(c, "version"), rc;
	struct stat st;

	if ((rc = fixture_write_mini(out, version, strcmp(layout, "legacy") == 0, e)) < 0)
		return rc;
	if (stat(out, &st) < 0)
		return err_set(e, EXIT_INTERNAL, "%s is not there after writing it", out);
	if (!cli_json(c)) {
		printf("%s\t%lld bytes\n", out, (long long)st.st_size);
		return 0;
	}
	json_t *o = json_pack("{s:s, s:I, s:i, s:s}", "path", out, "bytes", (json_int_t)st.st_size,
			      "version", version, "layout", layout);
	if (!o)
		return err_set(e, EXIT_INTERNAL, "out of memory");
	json_dumpf(o, stdout, JSON_SORT_KEYS);
	putchar('\n');
	json_decref(o);
	return 0;
}

const struct command cmd_gen_mini_gguf = {
	.name = "gen-mini-gguf",
	.group = "Models",
	.summary =
		"write the 224-byte GGUF file without tensors that loaders are smoke-tested with",
	.examples = "  assay gen-mini-gguf --out mini.gguf\n"
		    "  assay gen-mini-gguf --out mini-v2.gguf --version 2\n",
	.opts =
		(const struct opt[]){
			{"out", OPT_STR, "FILE", "where to write", "mini.gguf", NULL, NULL, 0},
			{"version", OPT_INT, "2|3", "GGUF version", "3", NULL, NULL, 0},
			{"layout", OPT_STR, "KIND",
			 "spec, or the older generator's, which readers refuse", "spec", NULL,
			 "spec|legacy", 0},
			{0},
		},
	.run = run,
};
