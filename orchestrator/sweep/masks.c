#include "masks.h"

#include "client.h"
#include "digest.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct asking {
	struct client *client;
	struct wire_builder b;
	int n, n_vocab, n_rows;
	uint8_t rows[MASKS_POSITIONS_MAX][DIGEST_BYTES];
};

static int on_opened(void *ctx, const struct wire_frame *f, struct err *e)
{
	struct asking *a = ctx;

	(void)e;
	if (f->type == WIRE_OPENED)
		a->n_vocab = (int)wire_get_int(f, "n_vocab", 0);
	return 0;
}

static int on_row(void *ctx, const struct wire_frame *f, struct err *e)
{
	struct asking *a = ctx;
	struct digest d;

	if (f->type != WIRE_LOGITS)
		return 0;
	if (wire_get_int(f, "pos", -1) != a->n_rows || a->n_rows == a->n)
		return err_set(e, EXIT_WORKER, "LOGITS of position %lld where %d was expected",
			       (long long)wire_get_int(f, "pos", -1), a->n_rows);
	digest_init(&d);
	digest_update(&d, f->body, f->body_bytes);
	digest_final(&d, a->rows[a->n_rows++]);
	return 0;
}

static int call(struct asking *a, client_frame_fn *fn, struct err *e)
{
	int rc = wire_finish(&a->b, e);

	return rc < 0 ? rc : client_call(a->client, &a->b, fn, a, e);
}

static int open_model(struct asking *a, const struct exchange_setup *u, const char *model,
		      struct err *e)
{
	const char *const keys[] = {"tokenizer", "isa", "kv", "profile"};
	const char *const values[] = {u->tokenizer, u->isa, u->kv, u->profile};
	int rc;

	wire_begin(&a->b, WIRE_OPEN);
	wire_put(&a->b, "model", "%s", model);
	for (int i = 0; i < 4; i++)
		if (values[i])
			wire_put(&a->b, keys[i], "%s", values[i]);
	wire_put(&a->b, "threads", "%d", u->threads);
	wire_put(&a->b, "ctx", "%d", u->ctx);
	wire_put(&a->b, "ubatch", "%d", u->ubatch);
	for (int i = 0; i < u->n_overrides; i++)
		wire_put(&a->b, "override", "%s", u->overrides[i]);
	rc = call(a, on_opened, e);
	if (rc == 0 && a->n_vocab < 2)
		rc = err_set(e, EXIT_WORKER, "n_vocab=%d", a->n_vocab);
	return rc;
}

static int evaluate(struct asking *a, const int32_t *ids, struct err *e)
{
	int rc;

	a->n_rows = 0;
	wire_begin(&a->b, WIRE_EVALUATE);
	wire_put(&a->b, "logits", "all");
	wire_put(&a->b, "greedy", "0");
	wire_put(&a->b, "tokens", "%d", a->n);
	wire_body(&a->b, ids, (size_t)a->n * sizeof(*ids));
	rc = call(a, on_row, e);
	if (rc == 0 && a->n_rows != a->n)
		rc = err_set(e, EXIT_WORKER, "%d positions answered, %d asked", a->n_rows, a->n);
	return rc;
}

static int exchange_each(struct masks *m, struct asking *a, int32_t *ids, struct err *e)
{
	uint8_t first[MASKS_POSITIONS_MAX][DIGEST_BYTES];
	int rc = evaluate(a, ids, e);

	memcpy(first, a->rows, sizeof(first));
	for (int i = 0; rc == 0 && i < a->n; i++) {
		int32_t own = ids[i];

		ids[i] = (own + 1) % a->n_vocab;
		rc = evaluate(a, ids, e);
		ids[i] = own;
		for (int t = 0; rc == 0 && t < a->n; t++)
			m->sees[t][i] = memcmp(first[t], a->rows[t], DIGEST_BYTES) != 0;
	}
	return rc;
}

int masks_measure(struct masks *m, const char *engine, const struct exchange_setup *setup,
		  const char *model, const int32_t *ids, int n, struct err *e)
{
	struct client_options co = {.engine = engine};
	struct asking a = {.n = n < MASKS_POSITIONS_MAX ? n : MASKS_POSITIONS_MAX};
	int32_t copy[MASKS_POSITIONS_MAX];
	int rc = client_open(&a.client, &co, e);

	if (rc < 0)
		return rc;
	*m = (struct masks){.n = a.n};
	memcpy(copy, ids, (size_t)a.n * sizeof(*ids));
	rc = open_model(&a, setup, model, e);
	if (rc == 0)
		rc = exchange_each(m, &a, copy, e);
	client_close(a.client);
	wire_builder_free(&a.b);
	return rc < 0 ? err_prefix(e, "engine %s", engine) : 0;
}

bool masks_equal(const struct masks *a, const struct masks *b, int *position, int *id)
{
	assert(a->n == b->n);
	for (int t = 0; t < a->n; t++)
		for (int i = 0; i < a->n; i++)
			if (a->sees[t][i] != b->sees[t][i]) {
				*position = t;
				*id = i;
				return false;
			}
	return true;
}

bool masks_causal(const struct masks *m, int *position, int *id)
{
	struct masks causal = {.n = m->n};

	for (int t = 0; t < m->n; t++)
		for (int i = 0; i <= t; i++)
			causal.sees[t][i] = true;
	return masks_equal(m, &causal, position, id);
}
