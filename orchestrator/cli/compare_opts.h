/*
 * What sweep, crossval and crossval-per-token have in common: the options that say what is
 * compared with what, and the run itself.
 */
#ifndef ASSAY_COMPARE_OPTS_H
#define ASSAY_COMPARE_OPTS_H

#include "cli.h"
#include "sweep/sweep.h"

#define COMPARE_OPTS                                                                              \
	{"model", OPT_STR, "FILE", "the model (GGUF)", NULL, "CROSSVAL_GGUF", NULL, 'm'},          \
	{"tokenizer", OPT_STR, "FILE", "tokenizer for both sides, default the model's own", NULL,  \
	 "CROSSVAL_GGUF_TOKENIZER", NULL, 0},                                                      \
	{"reference-model", OPT_STR, "FILE", "another model for the reference", NULL, NULL, NULL,  \
	 0},                                                                                       \
	{"engine", OPT_STR, "NAME", "engine under test: native, oracle, exec:COMMAND, a reference", \
	 "native", NULL, NULL, 0},                                                                 \
	{"reference", OPT_LIST, "NAME", "what it is compared with; default oracle",    \
	 NULL, NULL, NULL, 0},                                                                     \
	{"backend", OPT_STR, "SIDE", "native or cpp alone, or both compared", NULL, NULL,          \
	 "native|cpp|both", 0},                                                                    \
	{"cpp-backend", OPT_LIST, "NAME", "the C++ reference; default by the model",   \
	 NULL, NULL, NULL, 0},                                                                     \
	{"profile", OPT_STR, "NAME", "numerics profile of native", NULL, NULL, NULL, 0},           \
	{"isa", OPT_STR, "NAME", "instruction set of our engines", NULL, NULL, NULL, 0},           \
	{"kv", OPT_STR, "TYPE", "type of the KV cache", NULL, NULL, "f16|f32", 0},                 \
	{"threads", OPT_INT, "N", "threads per worker, default shares the processors", "0", NULL,  \
	 NULL, 't'},                                                                               \
	{"ctx", OPT_INT, "N", "positions of the context, 0 = the model's", "0", NULL, NULL, 0},    \
	{"ubatch", OPT_INT, "N", "positions evaluated at once, 0 = the engine's", "0", NULL, NULL, \
	 0},                                                                                       \
	{"batch", OPT_INT, "N", "positions per call, 0 = all, 1 = one at a time", "0", NULL, NULL, \
	 0},                                                                                       \
	{"override-kv", OPT_LIST, "KEY=TYPE:VALUE", "metadata of the model, for both sides", NULL, \
	 NULL, NULL, 0},                                                                           \
	{"allow-bad-reference", OPT_FLAG, NULL, "use a reference that fails its self-check",       \
	 NULL, "ASSAY_ALLOW_BAD_REFERENCE", NULL, 0},                                              \
	{"thresholds", OPT_STR, "SET", "named set of thresholds; auto: by the numerics profiles",  \
	 "auto", NULL, NULL, 0},                                                                   \
	{"thresholds-file", OPT_STR, "FILE", "where the sets are, default the program's own",      \
	 NULL, NULL, NULL, 0},                                                                     \
	{"reproduce-defects", OPT_FLAG, NULL, "native: the reference's known defects too", NULL,   \
	 NULL, NULL, 0},                                                                           \
	{"reference-override", OPT_LIST, "KEY=TYPE:VALUE", "metadata for the reference only",      \
	 NULL, NULL, NULL, 0},                                                                     \
	{"local", OPT_FLAG, NULL, "replay every operation on the reference's own inputs; by "      \
	 "default done up to 64 positions where the bits differ", NULL, NULL, NULL, 0},            \
	{"no-local", OPT_FLAG, NULL, "never do that", NULL, NULL, NULL, 0},                        \
	{"strict", OPT_FLAG, NULL, "drift counts as divergence", NULL, NULL, NULL, 0}

struct compare_run {
	struct sweep_options o;
	struct scenario_set scenarios;
	struct summary summary;
	char detected[64];		/* reference chosen by the model */
	char *thresholds_text;		/* of --thresholds-file */
};

/* Fills r->o from the options; template_default where the scenario names none. */
int compare_setup(struct compare_run *r, struct cli *c, int n_workers, const char *template_name,
		  struct err *e);

/* Fills weights and arch from the model's file; "" where it cannot be read: workers say why. */
void compare_read_model(struct exchange_setup *u);

/* Runs; the live line is cleared at the end. */
int compare_run_now(struct compare_run *r, struct err *e);

void compare_release(struct compare_run *r);	/* accepts zeroed */

#endif
