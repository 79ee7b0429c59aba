/*
 * What can be said about a model file without evaluating it: whether its tensors are what its
 * architecture needs, whether its tokenizer fits together, and figures for people. Figures are
 * information: nothing is ever corrected.
 */
#ifndef ASSAY_INSPECT_H
#define ASSAY_INSPECT_H

#include "gguf.h"

enum { INSPECT_FINDINGS_MAX = 64, INSPECT_GAMMAS_MAX = 16 };

enum inspect_level { INSPECT_NOTE, INSPECT_PROBLEM };

/* Norm weights of one kind over all layers. */
struct inspect_gamma {
	char name[48];			/* "attn_norm", … */
	int n_tensors;
	double rms_min, rms_max;	/* of a tensor's values */
	double low, high;		/* of single values */
};

struct inspection {
	struct { enum inspect_level level; char text[512]; } findings[INSPECT_FINDINGS_MAX];
	int n_findings, n_problems;	/* n_findings counts those that found room */
	struct inspect_gamma gammas[INSPECT_GAMMAS_MAX];
	int n_gammas;
	char types[256];		/* "i2_s:210 f16:1 f32:121" */
	char tokenizer[72], pre[72];	/* "" when absent */
	bool pre_missing;		/* a byte-level BPE vocabulary without tokenizer.ggml.pre */
	uint64_t n_tokens, n_merges, chat_template_bytes;
	int64_t bos, eos;		/* −1 when absent */
};

/* path is opened once more to build the table of tensors as an engine would. */
void inspect_model(struct inspection *r, const struct gguf *g, const char *path);

#endif
