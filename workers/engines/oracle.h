/*
 * The oracle: the model's graph in float64. A third opinion for diagnosis, and the reference that
 * needs no download. See oracle_ops.h for what each operation is.
 */
#ifndef ASSAY_ORACLE_H
#define ASSAY_ORACLE_H

#include "engine.h"
#include "oracle_ops.h"
#include "tokenizer.h"

enum { ORACLE_UBATCH = 512, ORACLE_CTX_MAX = 4096 };

struct engine {
	struct model model;
	struct tokenizer *tokenizer;	/* NULL when the file has no vocabulary */
	struct team *team;
	struct engine_info info;
	int n_ctx, n_ubatch;
	double *k, *v;		/* [n_layer, n_ctx, n_kv_head · d], K after RoPE */
	float *scratch;		/* [team size, widest row] */
	uint64_t calls[ORACLE_OPS];
};

extern const struct engine_ops engine_oracle;

/* One stage's value for a trace: rows of float64 handed on as float32. */
struct oracle_trace {
	uint64_t stages;
	bool values;
	int seq;
	engine_trace_fn *fn;
	void *ctx;
};
/* shape [n_dims], slowest first. Returns what fn returned, or negative with e set. */
int oracle_trace(const struct oracle_trace *t, enum trace_stage stage, int layer, int n_dims,
		 const int64_t *shape, const double *x, struct err *e);

/* engine.h's evaluate and replay. */
int oracle_evaluate(struct engine *g, const struct engine_eval *q, struct err *e);
int oracle_replay(struct engine *g, const struct engine_replay *q, struct err *e);

struct oracle_shape oracle_shape(const struct engine *g);

#endif
