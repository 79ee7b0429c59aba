/*
 * Speeds of the kernels on one thread: GB/s of weights read by one token, GMAC/s of 256 tokens.
 * The best of several repetitions, in processor time; for figures to publish use `assay bench`.
 */
#ifndef ASSAY_KERNELS_BENCH_H
#define ASSAY_KERNELS_BENCH_H

#include "kernels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

static inline double bench_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static inline void *bench_alloc(size_t bytes, uint8_t value)
{
	void *p = aligned_alloc(1 << 21, (bytes + (1 << 21) - 1) >> 21 << 21);

	madvise(p, bytes, MADV_HUGEPAGE);
	memset(p, value, bytes);
	return p;
}

/* Best seconds of one call in `seconds` of trying. */
static inline double bench_matmul(const struct kernels *k, const struct weight *w, const void *act,
				  size_t act_bytes, int64_t n_tok, float *out, double seconds)
{
	double best = 1e9, end = bench_now() + seconds;

	do {
		double t = bench_now();

		k->matmul(k, w, 0, w->n_out, act, act_bytes, n_tok, out, w->n_out, false);
		t = bench_now() - t;
		best = t < best ? t : best;
	} while (bench_now() < end);
	return best;
}

static inline void bench_type(const struct kernels *k, const struct weight_type *t)
{
	enum { N_IN = 2560, TOKENS = 256, STREAM_BYTES = 200 << 20 };
	size_t row = (size_t)(N_IN / t->block_elems) * t->block_bytes;
	int64_t rows = (int64_t)(STREAM_BYTES / row), few = 1536;
	size_t act_bytes = (act_row_bytes(t->act, N_IN) + 63) / 64 * 64;
	struct weight w = {.type = t, .data = bench_alloc(row * (size_t)rows + 64, 0x11),
			   .row_bytes = row, .n_in = N_IN, .n_out = rows};
	uint8_t *act = bench_alloc(act_bytes * TOKENS, 0);
	float *x = bench_alloc(N_IN * sizeof(float), 0), *out;

	w.tail = w.data + row * (size_t)rows;
	out = bench_alloc((size_t)(rows > few * TOKENS ? rows : few * TOKENS) * sizeof(float), 0);
	for (int i = 0; i < N_IN; i++)
		x[i] = sinf((float)i);
	for (int i = 0; i < TOKENS; i++)
		k->quantize[t->act](k, x, act + (size_t)i * act_bytes, N_IN);
	double one = bench_matmul(k, &w, act, act_bytes, 1, out, 0.4);

	w.n_out = few;
	double many = bench_matmul(k, &w, act, act_bytes, TOKENS, out, 0.4);

	printf("%-11s %-18s %-5s  1 token %6.1f GB/s  %d tokens %6.1f GMAC/s\n", isa_name(k->isa),
	       k->profile.name, t->name, (double)row * (double)rows / one * 1e-9, TOKENS,
	       (double)N_IN * (double)few * TOKENS / many * 1e-9);
	fflush(stdout);
	free((void *)w.data);
	free(act);
	free(x);
	free(out);
}

/* Heads of several layers in turn, as a model does: more keys and values than caches hold. */
static inline void bench_attend(const struct kernels *k, int n_tok, int64_t past)
{
	enum { DIM = 128, HEADS = 4, KV_HEADS = 5, LAYERS = 12, CTX = 2048, V_STRIDE = CTX + 32 };
	const size_t k_bytes = CTX * KV_HEADS * DIM * 2, v_bytes = V_STRIDE * KV_HEADS * DIM * 2;
	uint8_t place[ATTEND_DIM_MAX];
	size_t q_bytes = (size_t)n_tok * HEADS * DIM * 4;
	float *q = bench_alloc(q_bytes, 0), *out = bench_alloc(q_bytes, 0);
	uint8_t *keys = bench_alloc(k_bytes * LAYERS, 0x31),
		*values = bench_alloc(v_bytes * LAYERS, 0x31);
	struct attend a = {
		.q = q, .out = out, .q_stride = HEADS * DIM, .out_stride = HEADS * DIM,
		.n_heads = HEADS, .n_tok = n_tok, .head_dim = DIM, .n_vis = past + 1, .n_kv = CTX,
		.k_stride = DIM, .v_stride = V_STRIDE,
		.k_place = attend_in_blocks(k, DIM) ? place : NULL,
		.scale = 0.0883f,
	};
	double best = 1e9, end = bench_now() + 0.6, mac = 0;

	if (a.k_place)
		attend_places(k, DIM, place);
	for (int i = 0; i < n_tok * HEADS * DIM; i++)
		q[i] = sinf((float)i);
	a.scratch = bench_alloc(attend_scratch_bytes(&a), 0);
	do {
		double t = bench_now();

		for (int i = 0; i < LAYERS * KV_HEADS; i++) {
			a.kc = keys + k_bytes * (size_t)(i / KV_HEADS) +
			       (size_t)(i % KV_HEADS) * CTX * DIM * 2;
			a.vc = values + v_bytes * (size_t)(i / KV_HEADS) +
			       (size_t)(i % KV_HEADS * DIM) * V_STRIDE * 2;
			k->attend(k, &a);
		}
		t = (bench_now() - t) / (LAYERS * KV_HEADS);
		best = t < best ? t : best;
	} while (bench_now() < end);
	for (int t = 0; t < n_tok; t++)
		mac += 2.0 * HEADS * DIM * (double)(a.n_vis + t);
	printf("%-11s %-18s attention %4d tokens after %4ld  %6.2f GMAC/s  %8.1f us\n",
	       isa_name(k->isa), k->profile.name, n_tok, (long)past, mac / best * 1e-9, best * 1e6);
	free(q);
	free(out);
	free(keys);
	free(values);
	free(a.scratch);
}

/* One row after the other, microseconds of a call. */
static inline void bench_rows(const struct kernels *k)
{
	enum { N = 6912, ROWS = 64, REPEAT = 20 };
	float *x = bench_alloc(N * ROWS * 4, 0), *y = bench_alloc(N * ROWS * 4, 0);
	void *act = bench_alloc(N * 8, 0);
	double best[5];

	for (int i = 0; i < N * ROWS; i++)
		x[i] = sinf((float)i);
	for (int i = 0; i < 5; i++) {
		best[i] = 1e9;
		for (int r = 0; r < REPEAT; r++) {
			double t = bench_now();

			switch (i) {
			case 0: k->rms_norm(k, x, x, 1e-5f, y, N, 1); break;
			case 1: k->rms_norm(k, x, x, 1e-5f, y, N, ROWS); break;
			case 2: k->quantize[ACT_I8](k, x, act, N); break;
			case 3: k->quantize[ACT_Q8_K](k, x, act, N); break;
			case 4: k->glu(k, ACTIVATION_SILU, x, x, y, N); break;
			}
			t = (bench_now() - t) / (i == 1 ? ROWS : 1);
			best[i] = t < best[i] ? t : best[i];
		}
	}
	printf("%-11s %-18s rows of %d: norm %.1f us, of %d rows %.1f, to i8 %.1f, to q8_k %.1f, "
	       "silu %.1f\n",
	       isa_name(k->isa), k->profile.name, N, best[0] * 1e6, ROWS, best[1] * 1e6,
	       best[2] * 1e6, best[3] * 1e6, best[4] * 1e6);
	free(x);
	free(y);
	free(act);
}

/* what: a weight type, "attend", "rows" or NULL for all; isa NULL for the widest. */
static inline int kernels_bench(const char *what, const char *isa)
{
	struct cpu_flags cpu = cpu_flags_detect();
	struct profile p;
	struct kernels k;
	struct err e = ERR_NONE;

	profile_by_name(&p, "ggml-avx2", true, NULL);
	if (kernels_init(&k, &cpu, isa, &p, &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		return e.code;
	}
	for (const struct weight_type *t = weight_types; t->name; t++)
		if (t->dequantize && (!what || strcmp(what, t->name) == 0))
			bench_type(&k, t);
	if (!what || strcmp(what, "attend") == 0) {
		bench_attend(&k, 1, 128);
		bench_attend(&k, 1, 1024);
		bench_attend(&k, 64, 0);
		bench_attend(&k, 64, 448);
	}
	if (!what || strcmp(what, "rows") == 0)
		bench_rows(&k);
	return 0;
}

#endif
