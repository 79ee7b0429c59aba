/*
 * The operations of the oracle: what a transformer layer means, in float64 and plain loops, one
 * screen each. Nothing is quantised but the stored weights themselves, nothing is fused, padded
 * or reordered, so that a reader can check each against its formula. The only thing shared with
 * native is what a stored weight is (weight_type.h) and where it lies (model.h).
 *
 * Arrays are [rows, width], contiguous; a row is one position.
 */
#ifndef ASSAY_ORACLE_OPS_H
#define ASSAY_ORACLE_OPS_H

#include "model.h"
#include "threads.h"

/* Calls made of each operation, counted where the work is done. */
enum oracle_op {
	ORACLE_EMBED, ORACLE_NORM, ORACLE_LINEAR, ORACLE_ROPE, ORACLE_SCORES, ORACLE_SOFTMAX,
	ORACLE_VALUES, ORACLE_GLU, ORACLE_ADD, ORACLE_OPS,
};
extern const char *const oracle_op_names[ORACLE_OPS];

/* Rows of the table of embeddings. out: [n, n_in]. */
void oracle_embed(const struct weight *w, const int32_t *tokens, int64_t n, float *scratch,
		  double *out);

/* y = x / √(mean(x²) + eps) · w. Zhang, Sennrich, "Root mean square layer normalization", 2019. */
void oracle_norm(const double *x, const float *w, double eps, int64_t width, int64_t rows,
		 double *y);

/* y = W·x, times scale, plus bias; x: [rows, n_in], y: [rows, n_out]. Weight rows are shared among
 * the team; each is dequantised once for all positions. scratch: [team size, n_in]. */
void oracle_linear(struct team *team, const struct linear *l, const double *x, int64_t rows,
		   float *scratch, double *y);

/*
 * Rotates pairs of each head by pos · θ_i, θ_i = base^(−2i/n_dims) / ff_i: neighbouring pairs, or
 * (neox) element i with i + n_dims/2; elements from n_dims on stay. Su et al., "RoFormer", 2021;
 * linear scaling multiplies the angle by freq_scale; YaRN (Peng et al., arXiv:2309.00071) mixes
 * both by a ramp over dimensions and scales the result.
 */
void oracle_rope(double *x, const struct rope_params *p, bool neox, int64_t pos0, int64_t rows,
		 int n_heads, int head_dim);

/* scores[t, h, c] = q[t, h] · k[c, h's group], c < n_cells; 0 for cells a position cannot see.
 * q: [rows, n_head · d], k: [n_cells, n_kv_head · d]; position t is cell pos0 + t. */
struct oracle_shape { int n_head, n_kv_head, head_dim; };
void oracle_scores(const struct oracle_shape *s, const double *q, const double *k, int64_t pos0,
		   int64_t rows, int64_t n_cells, double *scores);

/* p = exp(scale · s − max) / Σ, over the cells each position sees; 0 for the others. */
void oracle_softmax(const struct oracle_shape *s, const double *scores, double scale, int64_t pos0,
		    int64_t rows, int64_t n_cells, double *p);

/* out[t, h] = Σ_c p[t, h, c] · v[c, h's group]. */
void oracle_values(const struct oracle_shape *s, const double *p, const double *v, int64_t rows,
		   int64_t n_cells, double *out);

/* silu: g / (1 + e^−g) · u (Shazeer, "GLU variants", 2020); relu2: max(g, 0)² · u. */
void oracle_glu(enum activation a, const double *gate, const double *up, int64_t n, double *y);

void oracle_add(const double *a, const double *b, int64_t n, double *y);

#endif
