#include "oracle_ops.h"

#include <math.h>
#include <string.h>

const char *const oracle_op_names[ORACLE_OPS] = {
	"oracle_embed",   "oracle_norm",   "oracle_linear", "oracle_rope", "oracle_scores",
	"oracle_softmax", "oracle_values", "oracle_glu",    "oracle_add",
};

void oracle_embed(const struct weight *w, const int32_t *tokens, int64_t n, float *scratch,
		  double *out)
{
	for (int64_t t = 0; t < n; t++) {
		weight_row(w, tokens[t], scratch);
		for (int64_t i = 0; i < w->n_in; i++)
			out[t * w->n_in + i] = (double)scratch[i];
	}
}

void oracle_norm(const double *x, const float *w, double eps, int64_t width, int64_t rows,
		 double *y)
{
	for (int64_t t = 0; t < rows; t++, x += width, y += width) {
		double sum = 0;

		for (int64_t i = 0; i < width; i++)
			sum += x[i] * x[i];
		double scale = 1 / sqrt(sum / (double)width + eps);

		for (int64_t i = 0; i < width; i++)
			y[i] = x[i] * scale * (double)w[i];
	}
}

/* ---- products with weights ---------------------------------------------------------------- */

/* Eight sums side by side, so that one addition need not wait for the one before. */
static double dot(const float *w, const double *x, int64_t n)
{
	double sum[8] = { 0 };
	int64_t i = 0;

	for (; i + 8 <= n; i += 8)
		for (int k = 0; k < 8; k++)
			sum[k] += (double)w[i + k] * x[i + k];
	for (; i < n; i++)
		sum[i % 8] += (double)w[i] * x[i];
	return ((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7]));
}

struct product {
	const struct linear *l;
	const double *x;
	double *y;
	float *scratch;
	int64_t rows;
};

static void product_rows(void *ctx, int64_t begin, int64_t end, int thread)
{
	const struct product *p = ctx;
	const struct weight *w = &p->l->w;
	float *row = p->scratch + (int64_t)thread * w->n_in;

	for (int64_t r = begin; r < end; r++) {
		weight_row(w, r, row);
		for (int64_t t = 0; t < p->rows; t++) {
			double v = dot(row, p->x + t * w->n_in, w->n_in);

			if (p->l->bias && p->l->bias_first)
				v += (double)p->l->bias[r];
			if (p->l->scale)
				v *= (double)p->l->scale[0];
			if (p->l->bias && !p->l->bias_first)
				v += (double)p->l->bias[r];
			p->y[t * w->n_out + r] = v;
		}
	}
}

void oracle_linear(struct team *team, const struct linear *l, const double *x, int64_t rows,
		   float *scratch, double *y)
{
	struct product p = { l, x, y, scratch, rows };

	team_run(team, l->w.n_out, 16, product_rows, &p);
}

/* ---- positions ---------------------------------------------------------------------------- */

/* The angle of dimension pair i at position pos, and what YaRN multiplies cosine and sine by. */
static double angle(const struct rope_params *p, int64_t pos, int i, double *magnitude)
{
	double theta = (double)pos * pow((double)p->base, -2.0 * i / p->n_dims);

	if (p->freq_factors)
		theta /= (double)p->freq_factors[i];
	*magnitude = (double)p->attn_factor;
	double scaled = theta * (double)p->freq_scale;

	if (p->ext_factor == 0)
		return scaled;
	double span = fmax(0.001, (double)p->corr_high - (double)p->corr_low);
	double ramp =
		(double)p->ext_factor * (1 - fmin(1, fmax(0, (i - (double)p->corr_low) / span)));

	*magnitude *= 1 + 0.1 * log(1 / (double)p->freq_scale);
	return scaled * (1 - ramp) + theta * ramp;
}

void oracle_rope(double *x, const struct rope_params *p, bool neox, int64_t pos0, int64_t rows,
		 int n_heads, int head_dim)
{
	int half = p->n_dims / 2;

	for (int64_t t = 0; t < rows; t++)
		for (int i = 0; i < half; i++) {
			double magnitude, theta = angle(p, pos0 + t, i, &magnitude);
			double c = cos(theta) * magnitude, s = sin(theta) * magnitude;

			for (int h = 0; h < n_heads; h++) {
				double *head = x + (t * n_heads + h) * head_dim;
				double *a = head + (neox ? i : 2 * i),
				       *b = head + (neox ? i + half : 2 * i + 1);
				double turned = *a * c - *b * s;

				*b = *a * s + *b * c;
				*a = turned;
			}
		}
}

/* ---- attention ---------------------------------------------------------------------------- */

void oracle_scores(const struct oracle_shape *s, const double *q, const double *k, int64_t pos0,
		   int64_t rows, int64_t n_cells, double *scores)
{
	int d = s->head_dim, share = s->n_head / s->n_kv_head;

	for (int64_t t = 0; t < rows; t++)
		for (int h = 0; h < s->n_head; h++) {
			const double *qh = q + (t * s->n_head + h) * d;
			double *out = scores + (t * s->n_head + h) * n_cells;

			for (int64_t c = 0; c < n_cells; c++) {
				const double *kh = k + (c * s->n_kv_head + h / share) * d;
				double sum = 0;

				for (int i = 0; i < d && c <= pos0 + t; i++)
					sum += qh[i] * kh[i];
				out[c] = sum;
			}
		}
}

void oracle_softmax(const struct oracle_shape *s, const double *scores, double scale, int64_t pos0,
		    int64_t rows, int64_t n_cells, double *p)
{
	for (int64_t t = 0; t < rows; t++)
		for (int h = 0; h < s->n_head; h++) {
			const double *in = scores + (t * s->n_head + h) * n_cells;
			double *out = p + (t * s->n_head + h) * n_cells, most = -INFINITY, sum = 0;
			int64_t seen = pos0 + t + 1 < n_cells ? pos0 + t + 1 : n_cells;

			for (int64_t c = 0; c < seen; c++)
				most = fmax(most, in[c] * scale);
			for (int64_t c = 0; c < n_cells; c++)
				sum += out[c] = c < seen ? exp(in[c] * scale - most) : 0;
			for (int64_t c = 0; c < seen; c++)
				out[c] /= sum;
		}
}

void oracle_values(const struct oracle_shape *s, const double *p, const double *v, int64_t rows,
		   int64_t n_cells, double *out)
{
	int d = s->head_dim, share = s->n_head / s->n_kv_head;

	memset(out, 0, (size_t)(rows * s->n_head * d) * sizeof(*out));
	for (int64_t t = 0; t < rows; t++)
		for (int h = 0; h < s->n_head; h++)
			for (int64_t c = 0; c < n_cells; c++) {
				double w = p[(t * s->n_head + h) * n_cells + c];
				const double *vh = v + (c * s->n_kv_head + h / share) * d;

				for (int i = 0; i < d && w != 0; i++)
					out[(t * s->n_head + h) * d + i] += w * vh[i];
			}
}

/* ---- elementwise -------------------------------------------------------------------------- */

void oracle_glu(enum activation a, const double *gate, const double *up, int64_t n, double *y)
{
	for (int64_t i = 0; i < n; i++) {
		double g = gate[i], r = g > 0 ? g : 0;

		y[i] = (a == ACTIVATION_RELU2 ? r * r : g / (1 + exp(-g))) * up[i];
	}
}

void oracle_add(const double *a, const double *b, int64_t n, double *y)
{
	for (int64_t i = 0; i < n; i++)
		y[i] = a[i] + b[i];
}
