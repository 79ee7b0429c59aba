#include "bench.h"

#include "client.h"
#include "gguf.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { DEADLINE_MS = 30 * 60 * 1000, READINGS_MAX = 1024 };

/* A model of fewer 1e9 bytes may lie in the caches: how memory is read says nothing of it. */
static const double read_from_memory_gb = 0.5;

struct answer {
	int64_t eval_us, prefill_us;
	long peak_kib;
	char isa[64], profile[64];
	double read_gb_s, read_sustained_gb_s, int8_gmac_s;
	bool huge_pages;
	int n_vocab;
	int64_t tokens, logits_frames;
	double pace_ns;
};

struct run {
	const struct bench_options *o;
	struct client *clients[BENCH_ENGINES_MAX];
	int n_vocab[BENCH_ENGINES_MAX];
	struct client *machine;		/* measures it, between repetitions */
	double buffer_gb_s;		/* sustained, all threads */
	double readings[READINGS_MAX];	/* the same, of the model's own pages */
	int n_readings;
	struct bench_result *r;
};

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

bool bench_in_seconds(enum bench_kind kind)
{
	return kind == BENCH_LOAD || kind == BENCH_FIRST_TOKEN;
}

int bench_parse_cases(struct bench_options *o, const char *text, struct err *e)
{
	static const struct {
		const char *prefix;
		enum bench_kind kind;
	} kinds[] = {{"prefill-", BENCH_PREFILL}, {"logits-", BENCH_LOGITS},
		     {"decode-", BENCH_DECODE}, {"first-token-", BENCH_FIRST_TOKEN}};

	for (const char *p = text; *p;) {
		struct bench_case *c = &o->cases[o->n_cases];
		size_t n = strcspn(p, ",");
		int used = 0, found = 0;

		if (o->n_cases == BENCH_CASES_MAX || n >= sizeof(c->name))
			return err_set(e, EXIT_USAGE, "more than %d cases, or a name too long",
				       BENCH_CASES_MAX);
		*c = (struct bench_case){.n = 0};
		memcpy(c->name, p, n);
		if (strcmp(c->name, "load") == 0) {
			c->kind = BENCH_LOAD;
			found = 1;
		}
		for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
			const char *rest = c->name + strlen(kinds[k].prefix);

			if (strncmp(c->name, kinds[k].prefix, strlen(kinds[k].prefix)) != 0)
				continue;
			c->kind = kinds[k].kind;
			found = (sscanf(rest, "%d@%d%n", &c->n, &c->depth, &used) == 2 &&
				 c->kind == BENCH_DECODE && !rest[used]) ||
				(sscanf(rest, "%d%n", &c->n, &used) == 1 && !rest[used]);
		}
		if (!found || c->n < 0 || c->depth < 0 || (c->kind != BENCH_LOAD && !c->n))
			return err_set(e, EXIT_USAGE, "unknown case \"%s\"; prefill-N, logits-N, "
				       "decode-N, decode-N@DEPTH, first-token-N, load", c->name);
		o->n_cases++;
		p += n + (p[n] == ',');
	}
	return 0;
}

/* ---- one request -------------------------------------------------------------------------- */

static int take(void *ctx, const struct wire_frame *f, struct err *e)
{
	struct answer *a = ctx;
	char text[64];
	int bad;

	if (f->type == WIRE_LOGITS && (bad = (int)wire_get_int(f, "nonfinite", 0)) > 0)
		return err_set(e, EXIT_INFERENCE,
			       "after position %lld %d logits are NaN or infinite: what is fast there "
			       "computes nothing; `assay trace` shows the first stage that is not a number",
			       (long long)wire_get_int(f, "pos", -1), bad);
	if (f->type == WIRE_LOGITS) {
		a->logits_frames += f->body_bytes > 0;
		a->tokens += wire_get_int(f, "step", 0) > 0;
	} else if (f->type == WIRE_OPENED) {
		a->n_vocab = (int)wire_get_int(f, "n_vocab", 0);
		wire_get(f, "isa", 0, a->isa, sizeof(a->isa));
		wire_get(f, "profile", 0, a->profile, sizeof(a->profile));
	} else if (f->type == WIRE_DONE) {
		a->eval_us = wire_get_int(f, "eval_us", 0);
		a->prefill_us = wire_get_int(f, "prefill_us", 0);
		a->pace_ns = (double)wire_get_int(f, "pace_ns", 0);
		a->peak_kib = (long)wire_get_int(f, "peak_kib", 0);
		if (wire_get(f, "read_gb_s", 0, text, sizeof(text)))
			a->read_gb_s = strtod(text, NULL);
		if (wire_get(f, "read_sustained_gb_s", 0, text, sizeof(text)))
			a->read_sustained_gb_s = strtod(text, NULL);
		if (wire_get(f, "int8_gmac_s", 0, text, sizeof(text)))
			a->int8_gmac_s = strtod(text, NULL);
		a->huge_pages = wire_get_int(f, "huge_pages", 0) != 0;
	}
	return 0;
}

static int call(struct client *c, struct wire_builder *b, struct answer *a, struct err *e)
{
	int r = wire_finish(b, e);

	if (r == 0)
		r = client_call(c, b, take, a, e);
	wire_builder_free(b);
	return r;
}

static int open_model(const struct bench_options *o, int engine, struct client *c, int n_ctx,
		      struct answer *a, struct err *e)
{
	struct wire_builder b = {0};
	const char *model = o->engines[engine].model;

	wire_begin(&b, WIRE_OPEN);
	wire_put(&b, "model", "%s", model ? model : o->model);
	wire_put(&b, "threads", "%d", o->n_threads);
	wire_put(&b, "ctx", "%d", n_ctx);
	if (o->n_ubatch)
		wire_put(&b, "ubatch", "%d", o->n_ubatch);
	if (o->profile)
		wire_put(&b, "profile", "%s", o->profile);
	if (o->isa)
		wire_put(&b, "isa", "%s", o->isa);
	return call(c, &b, a, e);
}

/* Ids spread over the vocabulary, the same for every engine. */
static int evaluate(struct client *c, int n_vocab, int n, int greedy, const char *logits,
		    struct answer *a, struct err *e)
{
	struct wire_builder b = {0};

	wire_begin(&b, WIRE_EVALUATE);
	wire_put(&b, "tokens", "%d", n);
	wire_put(&b, "greedy", "%d", greedy);
	wire_put(&b, "logits", "%s", logits);
	wire_put(&b, "timed", "1");
	for (int i = 0; i < n; i++) {
		int32_t id = (int32_t)(((uint64_t)i * 7919 + 17) % (uint64_t)n_vocab);

		wire_body(&b, &id, sizeof(id));
	}
	return call(c, &b, a, e);
}

static int context_needed(const struct bench_options *o)
{
	int n = 0;

	for (int i = 0; i < o->n_cases; i++) {
		const struct bench_case *c = &o->cases[i];
		int want = c->n + (c->kind == BENCH_DECODE ? (c->depth ? c->depth : 1) : 1) + 8;

		n = want > n ? want : n;
	}
	return (n + 255) / 256 * 256;
}

/* ---- one sample --------------------------------------------------------------------------- */

struct measured {
	double value;	/* tokens/s or seconds */
	double pace_ns;
};

static int start(struct run *u, int engine, struct client **out, struct answer *a, struct err *e)
{
	struct client_options co = {.engine = u->o->engines[engine].name,
				    .deadline_ms = DEADLINE_MS};
	int r = client_open(out, &co, e);

	if (r == 0)
		r = open_model(u->o, engine, *out, context_needed(u->o), a, e);
	return r;
}

static int sample_fresh(struct run *u, int engine, const struct bench_case *c,
			struct measured *m, struct err *e)
{
	struct client_options co = {.engine = u->o->engines[engine].name,
				    .deadline_ms = DEADLINE_MS};
	struct client *fresh = NULL;
	struct answer a = {0};
	double t = now_s();
	int r = client_open(&fresh, &co, e);

	if (c->kind == BENCH_LOAD)
		t = now_s();
	if (r == 0)
		r = open_model(u->o, engine, fresh, context_needed(u->o), &a, e);
	if (r == 0 && c->kind == BENCH_FIRST_TOKEN)
		r = evaluate(fresh, u->n_vocab[engine], c->n, 0, "last", &a, e);
	m->value = now_s() - t;
	m->pace_ns = a.pace_ns;
	client_close(fresh);
	return r;
}

static int sample_warm(struct run *u, int engine, const struct bench_case *c, struct measured *m,
		       struct err *e)
{
	struct client *k = u->clients[engine];
	struct answer a = {0};
	int n_vocab = u->n_vocab[engine], depth = c->depth ? c->depth : 1, r;

	if (c->kind == BENCH_DECODE)
		r = evaluate(k, n_vocab, depth, c->n + 1, "none", &a,
			     e); /* the first is prefill's */
	else
		r = evaluate(k, n_vocab, c->n, 0, c->kind == BENCH_LOGITS ? "all" : "last", &a, e);
	if (r < 0)
		return r;
	u->r->peak_kib[engine] = a.peak_kib;
	if (c->kind == BENCH_DECODE && (a.tokens < 1 || a.prefill_us <= 0))
		return err_set(e, EXIT_INFERENCE, "engine %s decoded %lld tokens, expected %d",
			       u->o->engines[engine].name, (long long)a.tokens, c->n);
	if (c->kind == BENCH_LOGITS && a.logits_frames != c->n)
		return err_set(e, EXIT_INFERENCE,
			       "engine %s sent logits of %lld positions, expected %d",
			       u->o->engines[engine].name, (long long)a.logits_frames, c->n);
	if (c->kind == BENCH_DECODE)
		m->value = (double)a.tokens * 1e6 / (double)(a.eval_us - a.prefill_us);
	else
		m->value = (double)c->n * 1e6 / (double)a.eval_us;
	m->pace_ns = a.pace_ns;
	return 0;
}

static int sample(struct run *u, int engine, const struct bench_case *c, struct measured *m,
		  struct err *e)
{
	int r = bench_in_seconds(c->kind) ? sample_fresh(u, engine, c, m, e)
					  : sample_warm(u, engine, c, m, e);

	if (r < 0)
		err_prefix(e, "%s, engine %s", c->name, u->o->engines[engine].name);
	return r;
}

/* ---- what the machine gives ---------------------------------------------------------------- */

static int ask_machine(struct run *u, int n_threads, const char *file, struct err *e)
{
	struct bench_result *r = u->r;
	struct wire_builder b = {0};
	struct answer a = {0};
	int all = n_threads > 1, rc;

	wire_begin(&b, WIRE_MEASURE);
	wire_put(&b, "threads", "%d", n_threads);
	if (file)
		wire_put(&b, "file", "%s", file);
	rc = call(u->machine, &b, &a, e);
	r->read_gb_s[all] = fmax(r->read_gb_s[all], a.read_gb_s);
	r->int8_gmac_s[all] = fmax(r->int8_gmac_s[all], a.int8_gmac_s);
	if (!file)
		r->huge_pages = a.huge_pages;
	if (!file && n_threads == u->o->n_threads)
		u->buffer_gb_s = a.read_sustained_gb_s;
	else if (file && rc == 0 && u->n_readings < READINGS_MAX)
		u->readings[u->n_readings++] = a.read_sustained_gb_s;
	return rc;
}

/* Limits at their best of all times asked; what reading sustains, in the middle of them. */
static int measure_machine(struct run *u, struct err *e)
{
	struct bench_result *r = u->r;
	int rc = ask_machine(u, 1, NULL, e);

	if (rc == 0 && u->o->n_threads > 1)
		rc = ask_machine(u, u->o->n_threads, NULL, e);
	/* all together give what one gives, whatever the others were kept from */
	r->read_gb_s[1] = fmax(r->read_gb_s[0], r->read_gb_s[1]);
	r->int8_gmac_s[1] = fmax(r->int8_gmac_s[0], r->int8_gmac_s[1]);
	r->read_of_model = u->n_readings > 0;
	r->read_sustained_gb_s = r->read_of_model ? stats_of(u->readings, u->n_readings).median
						  : u->buffer_gb_s;
	return rc;
}

/* ---- all of it ---------------------------------------------------------------------------- */

/* One repetition of a case by every engine, the last one first if `back`. */
static int repeat_case(struct run *u, int k, int rep, bool counts, bool back, struct err *e)
{
	const struct bench_options *o = u->o;
	const struct bench_case *c = &o->cases[k];
	char line[160];

	for (int i = 0; i < o->n_engines; i++) {
		int engine = back ? o->n_engines - 1 - i : i;
		struct bench_series *s = &u->r->series[k][engine];
		struct measured m = {0};
		int r = sample(u, engine, c, &m, e);

		if (r < 0)
			return r;
		if (!counts)
			continue;
		s->pace_ns[s->n] = m.pace_ns;
		s->samples[s->n++] = m.value;
		snprintf(line, sizeof(line), "%s %d/%d  %s  %.2f %s", c->name, rep + 1, o->reps,
			 o->engines[engine].name, m.value,
			 bench_in_seconds(c->kind) ? "s" : "tokens/s");
		if (o->progress)
			o->progress(line);
	}
	/* what decoding is held against, in the same minute */
	if (c->kind == BENCH_DECODE && u->r->decode_gb > read_from_memory_gb)
		return ask_machine(u, o->n_threads, o->model, e);
	return 0;
}

/* Repetitions [from, to) in the workers that are open now. */
static int repeat_cases(struct run *u, int from, int to, struct err *e)
{
	const struct bench_options *o = u->o;

	for (int rep = from - o->warmup; rep < to; rep++) {
		/* A B … then … B A: what drifts, drifts for all */
		bool back = rep & 1;

		for (int i = 0; i < o->n_cases; i++) {
			int r = repeat_case(u, back ? o->n_cases - 1 - i : i, rep, rep >= from,
					    back, e);

			if (r < 0)
				return r;
		}
	}
	for (int k = 0; k < o->n_cases; k++)
		for (int i = 0; i < o->n_engines; i++) {
			struct bench_series *s = &u->r->series[k][i];

			s->sizes[s->n_sessions++] = to - from;
		}
	return 0;
}

int bench_shallow(const struct bench_options *o, int k)
{
	if (o->cases[k].kind != BENCH_DECODE || o->cases[k].depth == 0)
		return -1;
	for (int i = 0; i < o->n_cases; i++)
		if (o->cases[i].kind == BENCH_DECODE && o->cases[i].depth == 0)
			return i;
	return -1;
}

static void sum_up(struct run *u, int k)
{
	const struct bench_options *o = u->o;
	bool seconds = bench_in_seconds(o->cases[k].kind);
	int shallow = bench_shallow(o, k);

	for (int i = 0; i < o->n_engines; i++) {
		struct bench_series *s = &u->r->series[k][i], *first = &u->r->series[k][0];

		s->stats = stats_of(s->samples, s->n);
		s->ratio = seconds ? stats_paired_ratio(s->samples, first->samples, s->n)
				   : stats_paired_ratio(first->samples, s->samples, s->n);
		if (shallow >= 0)
			s->kept = stats_paired_ratio(s->samples,
						     u->r->series[shallow][i].samples, s->n);
	}
}

/* What a token needs: every matrix read once (the tied embedding as the head), and the products
 * of the layers' matrices. Embedding rows looked up are nothing beside it. */
static int model_needs(const char *path, struct bench_result *out, struct err *e)
{
	struct gguf g;
	int r = gguf_open(&g, path, e);
	bool tied;

	if (r < 0)
		return r;
	tied = !gguf_tensor(&g, "output.weight");
	for (uint64_t i = 0; i < g.n_tensors; i++) {
		const struct gguf_tensor *t = &g.tensors[i];
		bool embedding = t->name.n == 17 && memcmp(t->name.s, "token_embd.weight", 17) == 0;
		bool layer = t->name.n > 4 && memcmp(t->name.s, "blk.", 4) == 0;

		if (t->n_dims < 2)
			continue;
		if (!embedding || tied)
			out->decode_gb += (double)t->bytes * 1e-9;
		if (layer)
			out->prefill_gmac += (double)t->ne[0] * (double)t->ne[1] * 1e-9;
	}
	gguf_close(&g);
	return 0;
}

/* New workers, their share of the repetitions, and the end of them. */
static int run_session(struct run *u, int from, int to, struct err *e)
{
	struct bench_result *result = u->r;
	int n = u->o->n_engines, r = 0;

	for (int i = 0; i < n && r == 0; i++) {
		struct answer a = {0};

		r = start(u, i, &u->clients[i], &a, e);
		if (r < 0)
			break;
		u->n_vocab[i] = a.n_vocab;
		memcpy(result->isa[i], a.isa, sizeof(a.isa));
		memcpy(result->profile[i], a.profile, sizeof(a.profile));
		client_hello(u->clients[i], "build", result->build[i], sizeof(result->build[i]));
	}
	if (r == 0)
		r = repeat_cases(u, from, to, e);
	for (int i = 0; i < n; i++) {
		client_close(u->clients[i]);
		u->clients[i] = NULL;
	}
	return r;
}

int bench_run(const struct bench_options *o, struct bench_result *out, struct err *e)
{
	struct bench_result result = {.n_threads = o->n_threads};
	struct client_options co = {.engine = "native", .deadline_ms = DEADLINE_MS};
	struct run u = {.o = o, .r = &result};
	int sessions = o->sessions ? o->sessions : 1;
	int r = model_needs(o->model, &result, e);

	assert(sessions <= BENCH_SESSIONS_MAX && sessions <= o->reps);
	for (int k = 0; k < o->n_cases; k++)
		for (int i = 0; i < o->n_engines; i++) {
			struct bench_series *s = &result.series[k][i];

			s->samples = calloc((size_t)o->reps, sizeof(double));
			s->pace_ns = calloc((size_t)o->reps, sizeof(double));
			assert(s->samples && s->pace_ns);
		}
	if (r == 0)
		r = client_open(&u.machine, &co, e);
	if (r == 0)
		r = measure_machine(&u, e);
	for (int i = 0; i < sessions && r == 0; i++)
		r = run_session(&u, o->reps * i / sessions, o->reps * (i + 1) / sessions, e);
	if (r == 0)
		r = measure_machine(&u, e);
	client_close(u.machine);
	for (int k = 0; k < o->n_cases && r == 0; k++)
		sum_up(&u, k);
	if (r == 0)
		*out = result;
	else
		bench_free(&result);
	return r;
}

void bench_free(struct bench_result *r)
{
	for (int k = 0; k < BENCH_CASES_MAX; k++)
		for (int i = 0; i < BENCH_ENGINES_MAX; i++) {
			free(r->series[k][i].samples);
			free(r->series[k][i].pace_ns);
		}
	*r = (struct bench_result){0};
}
