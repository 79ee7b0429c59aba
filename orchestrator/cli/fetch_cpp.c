#include "cli.h"
#include "provision/reference_build.h"
#include "reference_show.h"
#include "term.h"

#include <stdlib.h>
#include <string.h>

static const struct opt opts[] = {
	{"repo", OPT_STR, "URL|DIR",
	 "clone from here instead of the lockfile's URL (bitnet: or $BITNET_CPP_REPO)", NULL, NULL,
	 NULL, 0},
	{"rev", OPT_STR, "COMMIT|NAME",
	 "another commit than the pinned one, said everywhere (bitnet: or $BITNET_CPP_REV)", NULL,
	 NULL, NULL, 0},
	{"submodule", OPT_LIST, "PATH=URL", "clone this submodule from here", NULL, NULL, NULL, 0},
	{"source", OPT_STR, "HOW", "clone, or archive: the pinned commit's tarball", "clone", NULL,
	 "clone|archive", 0},
	{"archive", OPT_STR, "FILE|URL",
	 "take the sources from a tarball whose git tree id is the lock's", NULL, NULL, NULL, 0},
	{"git", OPT_STR, "HOW", "libgit2 in a sandbox, or the git program (one commit deep)",
	 "library", NULL, "library|cli", 0},
	{"for", OPT_STR, "USE", "parity: comparing bits; speed: the engine's own flags", "parity",
	 NULL, "parity|speed", 0},
	{"rebuild", OPT_FLAG, NULL, "build again what is there already", NULL, NULL, NULL, 0},
	{"check", OPT_FLAG, NULL, "run the self-check again", NULL, NULL, NULL, 0},
	{"allow-bad-reference", OPT_FLAG, NULL, "go on with a reference that fails its self-check",
	 NULL, "ASSAY_ALLOW_BAD_REFERENCE", NULL, 0},
	{"explain", OPT_FLAG, NULL, "only say what is there and what would be done", NULL, NULL,
	 NULL, 0},
	{0},
};

static int run(struct cli *c, struct err *e)
{
	struct reference_build_options o = {0};
	struct reference_build_result *out = calloc(1, sizeof(*out));
	const char *const *names, *const *subs;
	int n = cli_positional(c, &names), r;

	if (!out)
		abort();
	if (n > 1) {
		free(out);
		return err_set(e, EXIT_USAGE, "one reference at a time, got \"%s\" and \"%s\"",
			       names[0], names[1]);
	}
	o.name = n ? names[0] : "bitnet";
	o.source.repo = cli_str(c, "repo");
	o.source.rev = cli_str(c, "rev");
	o.source.archive = cli_str(c, "archive");
	o.source.from_archive = strcmp(cli_str(c, "source"), "archive") == 0;
	o.source.with_git = strcmp(cli_str(c, "git"), "cli") == 0;
	o.source.n_submodules = cli_list(c, "submodule", &subs);
	if (o.source.n_submodules > SOURCE_OVERRIDES_MAX) {
		free(out);
		return err_set(e, EXIT_USAGE, "--submodule %d times, at most %d",
			       o.source.n_submodules, SOURCE_OVERRIDES_MAX);
	}
	for (int i = 0; i < o.source.n_submodules; i++)
		o.source.submodules[i] = subs[i];
	o.speed = strcmp(cli_str(c, "for"), "speed") == 0;
	o.rebuild = cli_flag(c, "rebuild");
	o.check_again = cli_flag(c, "check");
	o.allow_bad = cli_flag(c, "allow-bad-reference");
	o.explain = cli_flag(c, "explain");
	reference_show_setup(&o);
	r = reference_build(&o, out, e);
	term_clear();
	if (r == 0)
		reference_show_result(&o, out, cli_json(c));
	free(out);
	return r;
}

const struct command cmd_fetch_cpp = {
	.name = "fetch-cpp",
	.group = "Provisioning",
	.summary = "clone, build and check a C++ reference",
	.positional = "[NAME]",
	.examples = "assay fetch-cpp llama\n"
		    "assay fetch-cpp llama --repo /srv/mirrors/llama.cpp.git\n"
		    "assay fetch-cpp bitnet --for speed",
	.opts = opts,
	.run = run,
	.details =
		"NAME is an entry of the references lockfile (default: bitnet). The pinned commit is\n"
		"cloned in a sandboxed child, built in a folder of its own, checked against the\n"
		"oracle, and installed under a key of everything that went into it. A second run\n"
		"finds it there. With BITNET_CPP_DIR (for bitnet) or LLAMA_CPP_DIR (for llama) set, that\n"
		"build is used instead, when it passes the self-check. docs/references.md has the whole\n"
		"story.",
};
