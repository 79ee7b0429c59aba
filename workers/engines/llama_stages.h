/*
 * Which canonical stage (trace.h) a tensor of a llama.h reference is. Pure: names and operations
 * in, stages out. One table for every tree that is known: bitnet.cpp's forks of 2024 and 2026,
 * llama.cpp v0.5.0. The key is (name without its layer, operation); a name that occurs twice with
 * operations that change nothing but add a bias or a scale counts with its last occurrence,
 * which the caller sees to (llama_trace.c).
 */
#ifndef ASSAY_LLAMA_STAGES_H
#define ASSAY_LLAMA_STAGES_H

#include "trace.h"

#include <stdbool.h>

enum { LLAMA_UNKNOWN = -2, LLAMA_INTERMEDIATE = -1 };

/*
 * name: "ffn_gate-3"; op as ggml_op_desc gives it: "MUL_MAT"; source: the name of the first
 * source or NULL, which tells a product that has no name of its own ("node_17"): its weight
 * "blk.3.attn_output.weight". Returns an enum trace_stage and the
 * layer (−1 for embeddings, output_norm, logits); LLAMA_INTERMEDIATE for what belongs to no stage
 * (a norm before its weight, a view, a store into the cache); LLAMA_UNKNOWN for what the table
 * does not have, which is an error wherever traces are asked for.
 */
int llama_stage(const char *name, const char *op, const char *source, int *layer);

/* Stages that every layer of an architecture has; layer −1: those outside the layers. */
uint64_t llama_stages_expected(const char *arch, int layer);

#endif
