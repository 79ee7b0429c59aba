/*
 * The operations of a transformer layer, each over many rows and all threads of a team. The
 * forward pass is a list of them; replay runs one alone on given inputs. No operation's bits
 * depend on the number of threads or rows.
 *
 * A row is one position. Arrays are [n_rows, width], contiguous.
 */
#ifndef ASSAY_OPS_H
#define ASSAY_OPS_H

#include "engine.h"
#include "kernels.h"
#include "model.h"
#include "threads.h"

enum { OPS_WEIGHT_TYPES_MAX = 48, OPS_LINEAR_MAX = 3 };

/* Calls of kernels really made, counted where they are made. */
struct op_counts {
	uint64_t matmul[OPS_WEIGHT_TYPES_MAX];	/* rows, by the weight's row in weight_types */
	uint64_t embed[OPS_WEIGHT_TYPES_MAX];
	uint64_t quantize[ACT_COUNT];
	uint64_t rms_norm, rope_neox, rope_norm, kv_store, attend_f16, attend_f32;
	uint64_t glu[ACTIVATION_COUNT], add, softmax, dot;
};

struct ops {
	const struct kernels *k;
	struct team *team;
	bool defects;			/* reproduce the reference's int16 wrap */
	uint8_t *scratch;		/* [team size, scratch_bytes] for attention */
	size_t scratch_bytes;
	uint8_t *shared;		/* [n_kv_head, shared_bytes] for attention in parts */
	size_t shared_bytes;
	struct op_counts count;
};

/* Activation rows in the form a weight type wants. */
struct act_rows {
	const uint8_t *data;
	size_t row_bytes;
};

/* KV cache, a plane of every head: K [n_kv_head, n_ctx, d]; V transposed [n_kv_head, d, v_stride]. */
struct kv_cache {
	bool f32, k_blocks;		/* keys in blocks (kernels.h) or rows */
	int n_layers, n_ctx, n_heads, head_dim;
	uint8_t k_place[ATTEND_DIM_MAX];	/* of each dimension in a block */
	int64_t v_stride;		/* ≥ n_ctx, elements */
	int64_t n_stored;		/* cells from here on are zero */
	size_t k_bytes, v_bytes;	/* of one layer */
	uint8_t *k, *v;			/* mapped, touched only where written */
};

int kv_cache_new(struct kv_cache *c, const struct kernels *k, int n_layers, int n_ctx, int n_heads,
		 int head_dim, bool f32, struct err *e);
void kv_cache_clear(struct kv_cache *c);	/* all zero again */
void kv_cache_free(struct kv_cache *c);		/* accepts zeroed */
/* Where the keys of one head begin, rows head_dim elements apart or blocks; the values, channels
 * v_stride apart. */
void *kv_cache_keys(const struct kv_cache *c, int layer, int64_t head);
void *kv_cache_values(const struct kv_cache *c, int layer, int64_t head);
const uint8_t *kv_cache_places(const struct kv_cache *c);	/* k_place, NULL for rows */

/* Attention of n_rows positions from pos0 on. */
struct attention {
	const struct kv_cache *kv;
	int layer;			/* in the cache */
	int n_head, n_kv_head, head_dim;
	float scale;
	int64_t pos0, n_rows;
	int64_t n_used;			/* cells stored so far */
	int64_t n_kv;			/* padded length, the same for all rows */
	int64_t shift; /* 0; a hypothesis shows a row so many cells more or fewer */
	const float *q;			/* [n_rows, n_head · head_dim] after RoPE */
	float *out;			/* the same shape */
	float *scores, *probs;		/* [n_head, n_rows, n_kv] for a trace, or NULL */
};

/* cells_max: the longest padded cache that op_attend will see. */
int ops_init(struct ops *o, const struct kernels *k, struct team *team, int64_t cells_max,
	     int head_dim, int n_kv_head, struct err *e);
void ops_free(struct ops *o);
/* Rows per chunk: a few chunks for every thread. */
int64_t op_row_chunk(const struct ops *o, int64_t n_rows);

void op_embed(struct ops *o, const struct weight *w, const int32_t *tokens, int64_t n_rows,
	      float *out);
/* out may be in. Rows of n values; w [n]. */
void op_norm(struct ops *o, const float *in, const float *w, float eps, int64_t n, int64_t n_rows,
	     float *out);
/* Rows as `format`, into dst unless they can be used as they are. */
struct act_rows op_quantize(struct ops *o, enum act_format format, const float *in, int64_t n,
			    int64_t n_rows, uint8_t *dst);

/* Products of the same rows with up to OPS_LINEAR_MAX weights of one activation format. */
struct op_product {
	const struct linear *lin;
	float *out;			/* [n_rows, lin->w.n_out] */
};
void op_linear(struct ops *o, const struct op_product *p, int n, struct act_rows act,
	       int64_t n_rows);

/* cs: [n_rows, n_dims] from kernels_rope_angles. */
void op_rope(struct ops *o, float *x, const float *cs, int n_heads, int head_dim, int n_dims,
	     bool neox, int64_t n_rows);
void op_rope_angles(struct ops *o, const struct rope_params *p, int64_t pos0, int64_t n_rows,
		    float *cs);
void op_kv_store(struct ops *o, struct kv_cache *kv, int layer, const float *k, const float *v,
		 int64_t pos0, int64_t n_rows);
void op_attend(struct ops *o, const struct attention *a);
void op_glu(struct ops *o, enum activation a, const float *gate, const float *up, float *out,
	    int64_t n, int64_t n_rows);
void op_add(struct ops *o, const float *a, const float *b, float *out, int64_t n, int64_t n_rows);

/* Calls fn for every kernel that ran, by name: "matmul_i2_s", "attend_f16", … */
void op_counts_each(const struct op_counts *c, engine_counter_fn *fn, void *ctx);

#endif
