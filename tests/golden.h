/*
 * Reading ../shared/golden and running the native engine on it; for the tests of that data.
 */
#ifndef ASSAY_TESTS_GOLDEN_H
#define ASSAY_TESTS_GOLDEN_H

#include "forward.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct floats {
	float *x;	/* [n], caller frees */
	int64_t n;
};

enum { GOLDEN_IDS_MAX = 4096 };

struct golden_ids {
	int32_t id[GOLDEN_IDS_MAX];
	int n;
};

struct golden_greedy {
	int32_t id[GOLDEN_IDS_MAX];
	float margin[GOLDEN_IDS_MAX];
	int n;
};

struct golden_model {
	struct model model;
	struct kernels kernels;
	struct team *team;
	struct session session;
	struct err e;
};

struct difference {
	int64_t equal, total;
	uint32_t worst_ulp;	/* UINT32_MAX: NaN or different counts */
	double nmse;
};

static const char *golden_ids_from;	/* where tokens.txt is, when not beside the data */

static inline void golden_ids_dir(const char *dir)
{
	golden_ids_from = dir;
}

static inline bool golden_has(const char *dir, const char *file)
{
	char path[600];
	snprintf(path, sizeof(path), "%s/%s", dir, file);
	return access(path, R_OK) == 0;
}

static inline struct floats golden_floats(const char *dir, const char *file)
{
	char path[600];
	struct floats f = {0};
	snprintf(path, sizeof(path), "%s/%s", dir, file);
	FILE *in = fopen(path, "rb");
	if (!in)
		return f;
	fseek(in, 0, SEEK_END);
	f.n = ftell(in) / (long)sizeof(float);
	rewind(in);
	f.x = malloc((size_t)f.n * sizeof(float) + 1);
	if (!f.x || fread(f.x, sizeof(float), (size_t)f.n, in) != (size_t)f.n)
		f.n = 0;
	fclose(in);
	return f;
}

static inline int golden_read_ids(const char *dir, struct golden_ids *ids)
{
	char path[600];
	snprintf(path, sizeof(path), "%s/tokens.txt", golden_ids_from ? golden_ids_from : dir);
	FILE *in = fopen(path, "r");
	ids->n = 0;
	if (!in)
		return -1;
	while (ids->n < GOLDEN_IDS_MAX && fscanf(in, "%d", &ids->id[ids->n]) == 1)
		ids->n++;
	fclose(in);
	return ids->n > 0 ? 0 : -1;
}

static inline int golden_read_greedy(const char *dir, const char *file, struct golden_greedy *g)
{
	char path[600];
	snprintf(path, sizeof(path), "%s/%s", dir, file);
	FILE *in = fopen(path, "r");
	if (!in)
		return -1;
	while (g->n < GOLDEN_IDS_MAX && fscanf(in, "%d %f", &g->id[g->n], &g->margin[g->n]) == 2)
		g->n++;
	fclose(in);
	return 0;
}

static inline void golden_close(struct golden_model *m)
{
	session_close(&m->session);
	team_free(m->team);
	model_close(&m->model);
}

static inline int golden_open_with(struct golden_model *m, const char *path, const char *profile,
				   const char *override, const char *isa, int n_threads,
				   const struct session_options *so)
{
	struct cpu_flags cpu = cpu_flags_detect();
	struct profile p;
	struct overrides o = {&override, override ? 1 : 0};
	memset(m, 0, sizeof(*m));
	int rc = model_open(&m->model, path, &o, &m->e);
	if (rc == 0)
		rc = profile_by_name(&p, profile, m->model.bitnet_family, &m->e);
	if (rc == 0)
		rc = kernels_init(&m->kernels, &cpu, isa, &p, &m->e);
	if (rc == 0)
		rc = team_new(&m->team, n_threads, false, &m->e);
	if (rc == 0)
		rc = session_open(&m->session, &m->model, &m->kernels, m->team, so, &m->e);
	if (rc != 0)
		golden_close(m);
	return rc;
}

static inline int golden_open(struct golden_model *m, const char *dir, const char *profile,
			      const char *override)
{
	char path[600];
	snprintf(path, sizeof(path), "%s/model.gguf", dir);
	return golden_open_with(m, path, profile, override, getenv("GOLDEN_ISA"), 2,
				&(struct session_options){.n_ctx = 512});
}

struct golden_collect {
	struct floats out;
	int64_t n_vocab, at;
	struct golden_greedy *greedy;
};

static inline int golden_on_logits(void *ctx, int pos, int step, int32_t token, const float *x)
{
	struct golden_collect *c = ctx;
	(void)pos;
	if (c->out.x && step == 0) {
		memcpy(c->out.x + c->at, x, (size_t)c->n_vocab * sizeof(float));
		c->at += c->n_vocab;
	}
	if (token < 0 || !c->greedy)
		return 0;
	float first = -INFINITY, second = -INFINITY;
	for (int64_t i = 0; i < c->n_vocab; i++) {
		if (x[i] > first) {
			second = first;
			first = x[i];
		} else if (x[i] > second) {
			second = x[i];
		}
	}
	c->greedy->id[c->greedy->n] = token;
	c->greedy->margin[c->greedy->n++] = first - second;
	return 0;
}

/* Logits of all positions [n_ids, n_vocab]; n = 0 when the evaluation failed (said on stderr). */
static inline struct floats golden_logits(struct golden_model *m, const struct golden_ids *ids,
					  int batch)
{
	int64_t n = m->model.hp.n_vocab;
	struct golden_collect c = {.n_vocab = n};
	struct engine_eval q = {.tokens = ids->id, .n_tokens = ids->n, .batch = batch,
				.top_p = 1, .on_logits = golden_on_logits, .ctx = &c};
	c.out.x = malloc((size_t)(ids->n * n) * sizeof(float));
	if (forward_evaluate(&m->session, &q, &m->e) == 0)
		c.out.n = c.at;
	else
		fprintf(stderr, "%s\n", m->e.msg);
	return c.out;
}

static inline void golden_run_greedy(struct golden_model *m, const struct golden_ids *ids,
				     int batch, int n, struct golden_greedy *out)
{
	struct golden_collect c = {.n_vocab = m->model.hp.n_vocab, .greedy = out};
	struct engine_eval q = {.tokens = ids->id,
				.n_tokens = ids->n,
				.batch = batch,
				.n_greedy = n,
				.logits = ENGINE_LOGITS_LAST,
				.top_p = 1,
				.on_logits = golden_on_logits,
				.ctx = &c};
	if (forward_evaluate(&m->session, &q, &m->e) != 0)
		fprintf(stderr, "%s\n", m->e.msg);
}

/* Distance in representable floats; the two zeros are one apart from nothing. */
static inline uint32_t golden_ulp(float a, float b)
{
	int32_t x, y;
	memcpy(&x, &a, 4);
	memcpy(&y, &b, 4);
	if (isnan(a) || isnan(b))
		return x == y ? 0 : UINT32_MAX;
	int64_t i = x < 0 ? (int64_t)INT32_MIN - x : x, j = y < 0 ? (int64_t)INT32_MIN - y : y;
	int64_t d = i > j ? i - j : j - i;
	return d > UINT32_MAX ? UINT32_MAX : (uint32_t)d;
}

static inline struct difference golden_compare(struct floats got, struct floats want)
{
	struct difference d = {.total = want.n};
	double top = 0, bottom = 0;
	if (got.n != want.n) {
		d.worst_ulp = UINT32_MAX;
		return d;
	}
	for (int64_t i = 0; i < want.n; i++) {
		uint32_t ulp = golden_ulp(got.x[i], want.x[i]);
		d.equal += memcmp(&got.x[i], &want.x[i], 4) == 0;
		d.worst_ulp = ulp > d.worst_ulp ? ulp : d.worst_ulp;
		top += ((double)got.x[i] - want.x[i]) * ((double)got.x[i] - want.x[i]);
		bottom += (double)want.x[i] * want.x[i];
	}
	d.nmse = bottom > 0 ? top / bottom : 0;
	return d;
}

#endif
