/*
 * The kernel table: filled once from CPU flags and a profile, then handed around const.
 * Every entry computes exactly the bits of its profile (fast excepted); variants differ in speed
 * only. Rows are contiguous float32 unless said; strides are in elements.
 */
#ifndef ASSAY_KERNELS_H
#define ASSAY_KERNELS_H

#include "profile.h"
#include "weight_type.h"

#include <stdint.h>

enum isa {
	ISA_C, ISA_AVX2, ISA_AVX2_VNNI, ISA_AVX512, ISA_AVX512_VNNI, ISA_AVX512_AMX, ISA_NEON,
	ISA_COUNT
};

struct cpu_flags {
	bool avx2, fma, f16c, bmi2, avx_vnni;
	bool avx512f, avx512bw, avx512dq, avx512vl, avx512_vnni, avx512_vbmi, avx512_bf16,
		avx512_fp16;
	bool amx_int8;	/* and the system grants its registers */
	bool neon, dotprod, i8mm;
	bool prefetches_far;	/* the hardware runs ahead of plain reading (AMD) */
};

/* A weight matrix as it lies in the file (or in a repacked copy). */
struct weight {
	const struct weight_type *type;
	const uint8_t *data;	/* rows blocks, row_bytes apart */
	const uint8_t *tail;	/* I2_S: the scale; NULL otherwise */
	size_t row_bytes;
	int64_t n_in, n_out;	/* columns (ne0) and rows (ne1) */
	const uint8_t *packed; /* TL1, TL2: the codes as rows of I2_S (tl_unpack); NULL otherwise */
};

enum activation { ACTIVATION_SILU, ACTIVATION_RELU2, ACTIVATION_COUNT };

struct kernels;
/*
 * What attend works on: one KV head, the query heads that share it, a run of consecutive tokens.
 * Only cells below the last token's visible ones are read, rounded up to a whole group of lanes
 * (at most 128): those must lie in the allocation and be finite (zero when never stored).
 */
struct attend {
	const float *q;		/* head h of token t at q + t · q_stride + h · head_dim */
	float *out;		/* head h of token t at out + t · out_stride + h · head_dim */
	int64_t q_stride, out_stride;
	int n_heads, n_tok, head_dim;
	int64_t n_vis; /* cells that token 0 sees (its position + 1); token t sees t more */
	int64_t n_kv;		/* padded length the reference would use: decides where lanes end */
	const void *kc;		/* keys, F16 or F32: cell c at kc + c · k_stride elements; … */
	const uint8_t *k_place;	/* … or NULL; else F16, whole blocks, and the place of each dimension */
	const void *vc; /* values, transposed: channel i, cell c at vc + i · v_stride + c */
	int64_t k_stride, v_stride;
	bool kv_f32; /* keys and values are float32, else F16 (q is then rounded to F16) */
	float scale;
	/* Traces, or NULL: raw scores and softmax weights, head h, token t at
	 * + h · trace_stride + t · n_kv, n_kv values each; scores cover n_used cells. */
	float *scores, *probs;
	int64_t trace_stride, n_used;
	/* What the thread reads next, fetched meanwhile; or NULL: keys from a block on, or
	 * values of ATTEND_CHANNELS channels (v_stride). */
	const void *next_keys, *next_values;
	void *scratch;		/* attend_scratch_bytes(a), aligned to 64 */
};
size_t attend_scratch_bytes(const struct attend *a);

/*
 * A head's keys in blocks: the dimension at place i of cell c at (c / ATTEND_BLOCK · head_dim + i) ·
 * ATTEND_BLOCK + c % ATTEND_BLOCK, so that a vector holds one dimension of neighbouring cells. The
 * dimensions lie in the order in which the profile adds them.
 * attend wants F16 keys so where attend_in_blocks says it, and only there.
 */
enum { ATTEND_BLOCK = 16, ATTEND_DIM_MAX = 256 };
bool attend_in_blocks(const struct kernels *k, int head_dim);
void attend_places(const struct kernels *k, int head_dim, uint8_t *place);	/* [dimension] */
int64_t attend_block_at(int64_t cell, int64_t place, int64_t head_dim);		/* elements */
int64_t attend_block_cells(int64_t n_cells);	/* of whole blocks */

/*
 * attend in parts that threads share, for few queries over many cells in blocks; without traces. First
 * the queries, then the scores of all cells, then the weights of all queries (n_heads · n_tok), then
 * all values. `shared` is one of attend_shared_bytes for all parts.
 */
enum {
	ATTEND_QUERIES = 16,		/* at most */
	ATTEND_CELLS = 64,		/* of a part, … */
	ATTEND_CHANNELS = 32,		/* … for which what is next is fetched best */
};
struct attend_parts {
	bool (*takes_blocks)(const struct kernels *k, int head_dim);
	void (*queries)(const struct attend *a, float *shared);
	/* Cells [c0, c1), c0 a multiple of ATTEND_BLOCK. */
	void (*scores)(const struct kernels *k, const struct attend *a, float *shared, int64_t c0,
		       int64_t c1);
	void (*weights)(const struct kernels *k, const struct attend *a, float *shared, int q0,
			int q1);
	void (*values)(const struct kernels *k, const struct attend *a, float *shared, int i0,
		       int i1);	/* channels */
};
size_t attend_shared_bytes(const struct attend *a);	/* of ATTEND_QUERIES, a multiple of 64 */

/* A faster matmul of one weight type, parameters as in struct kernels; false: not for this case. */
typedef bool matmul_variant(const struct kernels *k, const struct weight *w, int64_t r0, int64_t r1,
			    const void *act, size_t act_bytes, int64_t n_tok, float *out,
			    int64_t out_stride);

enum { WEIGHT_TYPE_IDS = 40 };

struct kernels {
	enum isa isa;
	struct profile profile;
	int64_t ahead_bytes; /* how far one-token products of quantised rows prefetch them */
	matmul_variant *by_type[WEIGHT_TYPE_IDS];	/* what matmul tries first; NULL: plain */

	/* One activation row of n floats to `dst`, act_row_bytes(act, n) bytes. */
	void (*quantize[ACT_COUNT])(const struct kernels *k, const float *x, void *dst, int64_t n);

	/*
	 * out[t · out_stride + r] = dot(row r of w, activation row t) for r in [r0, r1) and
	 * t in [0, n_tok). act: rows of w->type->act, act_bytes apart. Works for 1 (GEMV) and for
	 * many tokens (GEMM); the bits do not depend on n_tok nor on the split of rows. Row ranges
	 * in multiples of 48 and all tokens in one call are fastest; it takes up to 2.5 MiB of stack.
	 * `defects` reproduces the reference's int16 wrap (I2_S only).
	 */
	void (*matmul)(const struct kernels *k, const struct weight *w, int64_t r0, int64_t r1,
		       const void *act, size_t act_bytes, int64_t n_tok, float *out,
		       int64_t out_stride, bool defects);

	/* y = (x · 1/√(mean(x²)+eps)) · w, for n_rows rows; w may be NULL. In place allowed. */
	void (*rms_norm)(const struct kernels *k, const float *x, const float *w, float eps,
			 float *y, int64_t n, int64_t n_rows);

	/* cs: [n_dims/2] cosines and sines interleaved (c0,s0,c1,s1,…) for this position, see
	 * kernels_rope_angles. Rotates n_heads heads of head_dim in place. */
	void (*rope)(const struct kernels *k, float *x, const float *cs, int n_heads, int head_dim,
		     int n_dims, bool neox);

	/* y = activation(gate) · up, elementwise over a row of n. */
	void (*glu)(const struct kernels *k, enum activation a, const float *gate, const float *up,
		    float *y, int64_t n);

	void (*add)(const float *a, const float *b, float *y, int64_t n);
	void (*to_f16)(const float *x, uint16_t *y, int64_t n);	/* RNE */
	void (*from_f16)(const uint16_t *x, float *y, int64_t n);

	/* Dot of two F16 / F32 rows in the profile's order (KQ, KQV, LM head). */
	float (*dot_f16)(const struct kernels *k, const uint16_t *x, const uint16_t *y, int64_t n);
	float (*dot_f32)(const struct kernels *k, const float *x, const float *y, int64_t n);

	/* Softmax of scores · scale over the first n_vis of n_kv cells (a multiple of 16) as attend
	 * computes it; the rest of probs [n_kv] becomes 0. */
	void (*softmax)(const struct kernels *k, const float *scores, float scale, int64_t n_vis,
			int64_t n_kv, float *probs);

	/* Softmax attention of one KV head's group of query heads over the cache. */
	void (*attend)(const struct kernels *k, const struct attend *a);
	const struct attend_parts *attend_parts;	/* NULL: attend alone */
};

/* Detects this CPU. */
struct cpu_flags cpu_flags_detect(void);
const char *isa_name(enum isa isa);		/* "c", "avx2", "avx2-vnni", "avx512", … */
int isa_by_name(const char *name);		/* −1 when unknown */

/* The KV length a reference works on: n_used cells, padded as the profile says, at most n_ctx. */
int64_t kernels_kv_length(const struct profile *p, int64_t n_used, int64_t n_ctx);

/* force: an isa name or NULL for the widest that cpu has. Refuses an isa the CPU lacks. */
int kernels_init(struct kernels *k, const struct cpu_flags *cpu, const char *force,
		 const struct profile *p, struct err *e);

/*
 * cos/sin of every angle of position pos: theta_0 = pos, theta_{i+1} = theta_i · powf(base,
 * −2/n_dims) in f32; angle = freq_scale · theta/ff (ff NULL = 1). mscale multiplies both.
 * ext_factor ≠ 0: YaRN as ggml does it (corr_low, corr_high the ramp's dims). cs: [n_dims].
 */
struct rope_params {
	float base, freq_scale, attn_factor, ext_factor, corr_low, corr_high;
	int n_dims;
	const float *freq_factors;	/* [n_dims/2] or NULL */
};
void kernels_rope_angles(const struct rope_params *p, int64_t pos, float *cs);

/* Our own elementary functions, equal to glibc 2.36's (FMA variants) bit for bit. */
float m_sinf(float x);
float m_cosf(float x);
float m_expf(float x);
float m_powf(float x, float y);
float m_logf(float x);

/* w->n_in values of one row, whatever the layout. */
void weight_row(const struct weight *w, int64_t row, float *dst);

float f16_to_f32(uint16_t h);
uint16_t f32_to_f16(float x);

#endif
