/*
 * Deterministic, loadable models with real tensors for tests, benchmarks and the embedded default.
 * The same options give the same bytes on every machine.
 */
#ifndef ASSAY_FIXTURES_H
#define ASSAY_FIXTURES_H

#include "err.h"

#include <stdint.h>

struct fixture_options {
	const char *preset; /* tiny-bitnet, tiny-llama, bitnet-2b4t, … ; see fixture_presets */
	const char *weights;	/* weight type of the linear layers, NULL = the preset's own */
	const char *vocab_path;	/* GGUF whose tokenizer is copied, NULL = built-in byte-level BPE */
	uint64_t seed;
	const char *arch;	/* overrides the preset's architecture, NULL */
	int n_layer, n_embd, n_ff, n_head, n_kv_head, n_ctx;	/* 0 = the preset's own */
};

extern const char *const fixture_presets[];	/* names, NULL at the end */

/* Writes path (through a temporary name and rename). */
int fixture_write(const char *path, const struct fixture_options *o, struct err *e);

/* The 224-byte mini file: version 2 or 3; legacy adds the older generator's 12 header bytes. */
int fixture_write_mini(const char *path, int version, int legacy_layout, struct err *e);

#endif
