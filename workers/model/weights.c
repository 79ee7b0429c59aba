#include "weights.h"

#include "digest.h"
#include "tl.h"
#include "weight_type.h"

#include <stdio.h>
#include <stdlib.h>

void weights_row(const struct gguf_tensor *t, int64_t row, float *dst)
{
	const struct weight_type *w = weight_type_by_id(t->type);
	int64_t rows = t->ne[1] * t->ne[2] * t->ne[3];

	if (w->dequantize_row) {
		w->dequantize_row(t->data, t->ne[0], rows, row, dst);
		return;
	}
	size_t row_bytes = (size_t)t->ne[0] / w->block_elems * w->block_bytes;
	const uint8_t *tail = w->tail_bytes ? t->data + t->bytes - w->tail_bytes : NULL;

	w->dequantize(t->data + (size_t)row * row_bytes, tail, dst, t->ne[0]);
}

static int one(const struct gguf_tensor *t, bool values, engine_weight_fn *fn, void *ctx,
	       struct err *e)
{
	const struct weight_type *w = weight_type_by_id(t->type);
	int64_t shape[GGUF_DIMS_MAX], rows = t->ne[1] * t->ne[2] * t->ne[3];
	char name[80], hex[DIGEST_HEX];
	uint8_t sha256[DIGEST_BYTES];

	snprintf(name, sizeof(name), "%.*s", (int)t->name.n, t->name.s);
	if (!w)
		return err_set(e, EXIT_MODEL_LOAD, "tensor %s has type %s (%u), which is not supported",
			       name, gguf_weight_name(t->type), t->type);
	if (tl_type(w->id) && tl_check(w, name, t->ne[0], rows, e) < 0)
		return -EXIT_MODEL_LOAD;
	for (int d = 0; d < t->n_dims; d++)
		shape[d] = t->ne[t->n_dims - 1 - d];

	size_t row = (size_t)t->ne[0];
	float *x = malloc(row * (values ? (size_t)rows : 1) * sizeof(*x));
	struct digest d;

	if (!x)
		return err_set(e, EXIT_INTERNAL, "out of memory for tensor %s", name);
	digest_init(&d);
	for (int64_t r = 0; r < rows; r++) {
		float *dst = x + (values ? (size_t)r * row : 0);

		weights_row(t, r, dst);
		digest_update(&d, dst, row * sizeof(*x));
	}
	digest_final(&d, sha256);
	digest_hex(sha256, hex);
	int rc = fn(ctx, name, w->name, t->n_dims, shape, hex, values ? x : NULL);

	free(x);
	return rc;
}

int weights_each(const struct gguf *g, const char *name, bool values, engine_weight_fn *fn,
		 void *ctx, struct err *e)
{
	int rc = 0;

	if (name) {
		const struct gguf_tensor *t = gguf_tensor(g, name);

		if (!t)
			return err_set(e, EXIT_USAGE, "the model has no tensor called '%.64s'",
				       name);
		return one(t, values, fn, ctx, e);
	}
	for (uint64_t i = 0; i < g->n_tensors && rc == 0; i++)
		rc = one(&g->tensors[i], values, fn, ctx, e);
	return rc;
}
