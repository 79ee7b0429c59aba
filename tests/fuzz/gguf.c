/*
 * Any bytes either are a GGUF file all of whose promises hold, or are refused with a sentence:
 * after a successful parse every accessor, every string and every tensor's bytes are walked.
 */
#include "gguf.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t sum;	/* keeps the reads */

static void walk_bytes(const void *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		sum += ((const uint8_t *)p)[i];
}

static void walk_kv(const struct gguf *g, const struct gguf_kv *kv)
{
	char key[256];
	struct gguf_str s;
	uint64_t u, strings = 0;
	size_t at = 0;
	double d;
	bool b;

	while (gguf_next_string(kv, &at, &s)) {
		walk_bytes(s.s, s.n);
		strings++;
	}
	if (kv->type == GGUF_ARRAY && kv->elem == GGUF_STRING)
		assert(strings == kv->count);
	for (uint64_t i = 0; kv->type == GGUF_ARRAY && i < kv->count; i++)
		sum += (uint64_t)gguf_array_i64(kv, i) + (gguf_array_f64(kv, i) > 0);
	if (kv->key.n >= sizeof(key))
		return;
	memcpy(key, kv->key.s, kv->key.n);
	key[kv->key.n] = 0;
	assert(gguf_find(g, key) == kv);
	if (gguf_string(g, key, &s))
		walk_bytes(s.s, s.n);
	sum += gguf_u64(g, key, &u) + gguf_f64(g, key, &d) + gguf_bool(g, key, &b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gguf g = {0};
	struct err e = ERR_NONE;

	if (gguf_parse(&g, data, size, &e) < 0) {
		assert(e.code == EXIT_MODEL_INVALID && e.msg[0]);
		assert(g.map == NULL);
		return 0;
	}
	for (uint64_t i = 0; i < g.n_kv; i++)
		walk_kv(&g, &g.kv[i]);
	for (uint64_t i = 0; i < g.n_tensors; i++) {
		const struct gguf_tensor *t = &g.tensors[i];

		assert(t->data >= data && t->data + t->bytes <= data + size);
		walk_bytes(t->data, t->bytes);
	}
	gguf_close(&g);
	return 0;
}
