/*
 * One worker with one open model, asked for whole results: what the self-check needs, over the
 * client of orchestrator/sweep. Tiny models only: everything is kept in memory.
 */
#ifndef ASSAY_CHECK_WORKER_H
#define ASSAY_CHECK_WORKER_H

#include "err.h"
#include "trace.h"

#include <stdbool.h>
#include <stdint.h>

struct client;

enum { CHECK_TRACES_MAX = 512 };

struct check_worker {
	struct client *client;
	char arch[32], profile[64], isa[64];
	int n_vocab, n_layer;
};

struct check_trace {
	char name[TRACE_NAME_MAX];
	int stage, layer;
	int64_t n;
	float *values;		/* [n] */
};

struct check_run {
	float *logits;		/* [n_pos, n_vocab] */
	int n_pos, n_vocab;
	struct check_trace *traces;	/* [n_traces] in execution order */
	int n_traces;
};

/* engine as for client_open; profile NULL = its default. */
int check_worker_open(struct check_worker *w, const char *engine, const char *model,
		      const char *profile, int threads, struct err *e);
int check_worker_evaluate(struct check_worker *w, const int32_t *ids, int n, bool single,
			  bool traces, struct check_run *out, struct err *e);

/* The operation that makes `stage`, on given inputs; variant NULL = the model's own. */
int check_worker_replay(struct check_worker *w, int stage, int layer, int n_tokens,
			const struct check_trace *const *inputs, int n_inputs, const char *variant,
			struct check_run *out, struct err *e);
void check_worker_close(struct check_worker *w);

void check_run_free(struct check_run *r);
const struct check_trace *check_run_trace(const struct check_run *r, const char *name);
/* Σ(a−b)²/Σb², +Inf for NaN and for sizes that differ. */
double check_nmse(const float *a, int64_t na, const float *b, int64_t nb);
double check_cosine(const float *a, const float *b, int64_t n);
bool check_same_bits(const struct check_run *a, const struct check_run *b);

#endif
