/*
 * Local against inherited error: what every operation of an engine's run gives when it is fed
 * that engine's own inputs, judged operation by operation. Pure: tensors in, a table out.
 *
 * EQUIVALENT is a proof by induction over the graph. Let R be the reference's run, O ours:
 *	weights	both read the same weights, tokens	both evaluate the same ids
 *	pass 1	for every operation f of R with inputs x and output y: |ours f(x) − y| is inside the
 *		bound of f's kind, and no operation is missing
 *	pass 2	for every operation of O the same with *equal bits*: our run is nothing but the
 *		composition of the operations that pass 1 judged
 * Then both runs compute the same function up to rounding, whatever became of the rounding at
 * the end.
 *
 * Bounds are in row_ulp of verdict/tensor_diff.h (u = 2⁻²³ of the row's greatest value), on equal
 * inputs, for any order of summation in float32 or better:
 *
 *	kind	    bound		derivation
 *	embeddings  2			a product and a sum, half a unit each, with or without fma
 *	norm	    16			mean of n squares: float64 sum 1, float32 in 8 lanes √(n/8)·u for
 *					n ≤ 2¹³ (6σ, halved by the root), then root, division, two
 *					products
 *	product	    8 + 2·√terms	terms added up in float32, in any order: error ≈ √terms·u/15 of the
 *					row's greatest value, 6σ and two orders 0.6·√terms. A float16 or
 *					float32 weight is a term each; blocks of 32 and 256 are exact
 *					integers inside, one term for 32 weights, for 16 where sums with
 *					minima cancel; I2_S, TL1 and TL2 are exact integers throughout.
 *					Not known: 2¹⁴ terms. Beyond it only rounding ties of *these*
 *					inputs are forgiven, one by one (ties.h)
 *	rope	    8 + 4·positions	the angle is good to a few u of itself, so its sine is to
 *					position · u; then a product and an fma
 *	scores	    256			as product (operands rounded to the cache's type are equal)
 *	softmax	    128			exp of a difference: (8·max|s| + 24)·2⁻²⁴ (oracle_bounds.h)
 *	values	    256			as product
 *	flash	    8192·√positions	attention in one operation, as default builds of llama.cpp compute
 *	attention			it: the sum over cells is kept in half precision, one rounding
 *					(σ = 2⁻¹¹/√12 of what is summed so far) per cell and one where a
 *					new maximum rescales it; √(2n/2) · σ, 6σ: 1.73 · √n · 2¹² u
 *	activation  16			exp and division good to 4 units each, two products
 *	add	    1			one rounding
 *
 * A half-precision accumulator (2⁻¹¹) or a half-precision cache against float32 (2⁻¹²: 2048 u) is
 * outside on purpose: these are other functions. Only where a run shows neither scores nor
 * probabilities is its attention judged as flash attention, in a row of its own in every table.
 */
#ifndef ASSAY_LOCAL_H
#define ASSAY_LOCAL_H

#include "tensor_diff.h"
#include "trace.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum local_kind {
	LOCAL_EMBEDDINGS,
	LOCAL_NORM,
	LOCAL_PRODUCT,
	LOCAL_ROPE,
	LOCAL_SCORES,
	LOCAL_SOFTMAX,
	LOCAL_VALUES,
	LOCAL_ACTIVATION,
	LOCAL_ADD,
	LOCAL_FLASH,	/* attention heads straight from q, k and v: stage ATTN_OUT_HEADS, too */
	LOCAL_KINDS,
};

enum {
	LOCAL_INPUTS_MAX = 3, LOCAL_TEXT_MAX = 512, LOCAL_POSITIONS_MAX = 64,
	LOCAL_TERMS_UNKNOWN = 1 << 14, LOCAL_TERMS_MAX = 1 << 17,
};

const char *local_kind_name(enum local_kind k);
enum local_kind local_kind_of(enum trace_stage s);

/* n_positions: of the whole run; terms: of a product, 0 = not known. */
double local_bound(enum local_kind k, double terms, int n_positions);
/* Float32 terms of a product with n_in weights of a type ("q8_0") per result; 0 = not known. */
double local_terms(const char *type, int64_t n_in);
bool local_quantised(const char *weights);	/* from "i2_s:210 f16:1 f32:121" */

/* What an operation reads. LAYER_OUT of layer 0's predecessor is EMBEDDINGS of layer −1. */
struct local_input {
	enum trace_stage stage;
	int layer;
	bool whole;	/* all rows from position 0 on (keys, values) */
};

/*
 * The one dependency table. has: bits of the stages of this layer (norms of q and k, sub-norms,
 * softmax) that exist; where the probabilities do not, attention is one operation on q, k and v.
 * Returns the number of inputs; 0 for embeddings, which read token ids.
 */
int local_inputs(enum trace_stage stage, int layer, int n_layer, uint64_t has,
		 struct local_input in[LOCAL_INPUTS_MAX]);

struct local_row {		/* one operation */
	enum trace_stage stage;
	int layer, seq;
	struct tensor_diff diff;	/* a = replayed, b = what the run has */
	double bound;
	bool fused;	/* it is LOCAL_FLASH */
	/* numerics profile that gives the run's bits here where the replayer's own does not; NULL */
	const char *profile;
	int n_ties;	/* activations on rounding ties that were turned; diff is what they leave */
	bool inside;
};

struct local_kind_sum {
	int n, n_bits_equal;
	uint32_t worst_ulp;
	double worst_row_ulp, bound;
};

/* All operations of one run. */
struct local_pass {
	const char *source, *replayer;	/* engines; borrowed */
	struct local_row *rows;		/* [n], execution order; owned */
	int n, cap;
	int n_bits_equal, n_beyond;
	int first_different, first_beyond;	/* rows; −1 */
	struct local_kind_sum kinds[LOCAL_KINDS];
	int n_positions;
	int n_other;			/* rows with a profile */
	const char *other;		/* the last of these profiles; NULL */
	int n_ties, n_tied;		/* of all rows; rows with any */
	int n_missing;
	char missing[LOCAL_TEXT_MAX];	/* names of the first */
	char other_run[200];		/* why this is not the run that was compared; "" = it is */
};

void local_pass_init(struct local_pass *p, const char *source, const char *replayer);
void local_add(struct local_pass *p, const struct local_row *r); /* fills bound's judgement */
void local_missing(struct local_pass *p, const char *name, int seq);
void local_pass_free(struct local_pass *p);

struct local_result {
	bool tried, ran;
	bool weights_equal, tokens_equal, quantised;
	struct local_pass reference;	/* the reference's run, replayed by ours (or the reverse) */
	struct local_pass own;		/* the replaying engine's own run, replayed by itself */
	bool equivalent;
	char reason[LOCAL_TEXT_MAX];	/* why it is, or why not */
};

/* Fills equivalent and reason from the rest. */
void local_decide(struct local_result *r);
void local_free(struct local_result *r);	/* accepts zeroed */

/* "ffn_act of layer 3", "embeddings" */
void local_name(enum trace_stage stage, int layer, char *out, size_t size);

#endif
