/*
 * RoPE scaling kinds as ggml has them: none, linear, yarn; llama3's are frequency factors in the
 * tensor rope_freqs.weight. Formulas: YaRN (Peng et al. 2023, arXiv:2309.00071) in the form of
 * ggml's rope_yarn and llama.cpp's context set-up.
 */
#ifndef ASSAY_ROPE_H
#define ASSAY_ROPE_H

#include "hparams.h"

/* Fills h->rope (but freq_factors) and the scaling fields; head_dim is known. */
int rope_read(struct hparams *h, const struct gguf *g, const struct overrides *o,
	      bool bitnet_family, struct err *e);

const char *rope_scaling_name(enum rope_scaling s);	/* "none", "linear", "yarn" */

#endif
