#include "self_check.h"

#include "check_worker.h"
#include "model/fixtures.h"
#include "paths.h"

#include <assert.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* More positions than the KV padding of bitnet.cpp (32), so that its leftovers are computed. */
enum { N_TOKENS = 40, SEED = 20261, CASES_MAX = LOCK_OPTIONS_MAX };

/*
 * How far from float64 a right engine may be on these models. Rounding activations to int8 costs
 * ternary and quantised types NMSE 4e-4 … 1e-3 (measured on both references); a wrong activation
 * costs 0.2 and more, a missing kernel 1.
 */
static double nmse_limit(const char *weights)
{
	if (strcmp(weights, "f32") == 0 || strcmp(weights, "f16") == 0 ||
	    strcmp(weights, "bf16") == 0)
		return 1e-4;
	return 1e-2;
}

static const double stage_limit = 5e-2;

struct check_case {
	char arch[32], weights[32], model[PATH_MAX];
	struct check_run reference;	/* the batch run that everything is compared with */
	bool odd;	/* sizes that no vector divides: leftovers tell compilers apart */
	bool right;
};

struct job {
	const struct self_check_plan *p;
	struct self_check_result *out;
	char engine[PATH_MAX + 32];
	struct check_case cases[CASES_MAX];
	int n_cases;
	int32_t ids[N_TOKENS];
	bool same_runs, same_threads, same_batch;
	struct err *e;
};

__attribute__((format(printf, 2, 3))) static void note(const struct job *j, const char *fmt, ...)
{
	char line[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (j->p->note)
		j->p->note(j->p->ctx, line);
}

__attribute__((format(printf, 2, 3))) static void fail(struct job *j, const char *fmt, ...)
{
	va_list ap;

	j->out->passed = false;
	if (j->out->why[0])
		return;	/* the first one is the one to read */
	va_start(ap, fmt);
	vsnprintf(j->out->why, sizeof(j->out->why), fmt, ap);
	va_end(ap);
}

static void append_word(char *out, size_t size, const char *a, const char *b)
{
	size_t n = strlen(out);

	snprintf(out + n, size - n, "%s%s%s%s", n ? " " : "", a, *b ? ":" : "", b);
}

/* ---- the cases ---------------------------------------------------------------------------- */

static int add_case(struct job *j, const char *pair)
{
	struct check_case *c = &j->cases[j->n_cases];
	const char *colon = strchr(pair, ':');

	if (!colon || j->n_cases == CASES_MAX)
		return err_set(j->e, EXIT_USAGE, "capability \"%s\" is not ARCHITECTURE:WEIGHTS",
			       pair);
	for (int i = 0; i < j->n_cases; i++) {
		size_t n = strlen(j->cases[i].arch);

		if (strncmp(j->cases[i].arch, pair, n) == 0 && pair[n] == ':' &&
		    strcmp(j->cases[i].weights, colon + 1) == 0)
			return 0;
	}
	snprintf(c->arch, sizeof(c->arch), "%.*s", (int)(colon - pair), pair);
	snprintf(c->weights, sizeof(c->weights), "%s", colon + 1);
	j->n_cases++;
	return 0;
}

static int add_cases(struct job *j)
{
	static const char *const known[] = {"bitnet-b1.58:i2_s", "bitnet:tq2_0", "bitnet:tq1_0",
					    "llama:f32", "llama:f16", "llama:q8_0", "llama:q4_0",
					    "llama:i2_s", NULL};
	const struct lock_entry *x = j->p->entry;
	int r = x && x->canary ? add_case(j, x->canary) : 0;

	for (int i = 0; r == 0 && x && i < x->n_capabilities; i++)
		r = add_case(j, x->capabilities[i]);
	for (int i = 0; r == 0 && !x && known[i]; i++)
		r = add_case(j, known[i]);
	for (int i = 0; r == 0 && i < j->n_cases && j->n_cases < CASES_MAX; i++) {
		if (strcmp(j->cases[i].arch, "llama") != 0 ||
		    strcmp(j->cases[i].weights, "f32") != 0)
			continue;
		j->cases[j->n_cases] = j->cases[i];
		j->cases[j->n_cases++].odd = true;
		break;
	}
	return r;
}

static const char *preset_of(const char *arch)
{
	if (strncmp(arch, "bitnet-", 7) == 0)
		return "tiny-bitnet";
	if (strcmp(arch, "bitnet") == 0)
		return "tiny-bitnet-silu";
	if (strcmp(arch, "qwen2") == 0)
		return "tiny-qwen2";
	return strcmp(arch, "qwen3") == 0 ? "tiny-qwen3" : "tiny-llama";
}

static int make_model(struct job *j, struct check_case *c)
{
	struct fixture_options o = {
		.preset = preset_of(c->arch), .weights = c->weights, .seed = SEED, .arch = c->arch};
	int r = paths_format(c->model, sizeof(c->model), j->e, "%s/%s-%s%s.gguf", j->p->work,
			     c->arch, c->weights, c->odd ? "-odd" : "");

	if (c->odd) {
		o.n_embd = 210;
		o.n_ff = 330;
		o.n_head = o.n_kv_head = 5;
	}

	return r < 0 ? r : fixture_write(c->model, &o, j->e);
}

static void make_ids(struct job *j, int n_vocab)
{
	uint32_t state = SEED;

	for (int i = 0; i < N_TOKENS; i++) {
		state = state * 1664525u + 1013904223u;
		j->ids[i] = (int32_t)((state >> 8) % (uint32_t)n_vocab);
	}
}

/* ---- naming the stage --------------------------------------------------------------------- */

/* Does the oracle's operation with another activation give what the reference has? */
static bool explained(struct job *j, struct check_worker *oracle, const struct check_run *ref,
		      const struct check_trace *t, const char *variant)
{
	const struct check_trace *inputs[2];
	char name[TRACE_NAME_MAX];
	struct check_run got;
	struct err ignored;
	bool fits;

	snprintf(name, sizeof(name), "blk.%d.ffn_gate", t->layer);
	inputs[0] = check_run_trace(ref, name);
	snprintf(name, sizeof(name), "blk.%d.ffn_up", t->layer);
	inputs[1] = check_run_trace(ref, name);
	if (!inputs[0] || !inputs[1] ||
	    check_worker_replay(oracle, STAGE_FFN_ACT, t->layer, N_TOKENS, inputs, 2, variant, &got,
				&ignored) < 0)
		return false;
	fits = check_nmse(t->values, t->n, got.traces[0].values, got.traces[0].n) < 1e-4;
	check_run_free(&got);
	(void)j;
	return fits;
}

static void blame(struct job *j, const struct check_case *c, struct check_worker *oracle,
		  const struct check_run *ref, const struct check_trace *t, double nmse)
{
	static const struct {
		const char *variant, *name;
	} activations[] = {
		{"silu", "SiLU"}, {"relu2", "squared ReLU"}, {"relu", "ReLU"}, {"gelu", "GELU"}};
	const char *is = NULL, *wants = NULL;

	for (size_t i = 0; t->stage == STAGE_FFN_ACT && i < 4 && !is; i++)
		if (explained(j, oracle, ref, t, activations[i].variant))
			is = activations[i].name;
	if (is)
		wants = strncmp(c->arch, "bitnet-", 7) == 0 ? "squared ReLU" : "SiLU";
	if (is)
		fail(j,
		     "ffn_act of %s is %s where the model needs %s (%s, weights %s: what it reads agrees "
		     "with the oracle, what it gives differs by NMSE %.2g)",
		     c->arch, is, wants, t->name, c->weights, nmse);
	else
		fail(j,
		     "%s of %s with %s weights is wrong: the stages before it agree with the oracle, %s "
		     "differs by NMSE %.2g",
		     t->stage >= 0 ? trace_stage_name((enum trace_stage)t->stage) : "a stage",
		     c->arch, c->weights, t->name, nmse);
}

static int find_stage(struct job *j, const struct check_case *c)
{
	struct check_worker ref = {0}, oracle = {0};
	struct check_run a = {0}, b = {0};
	int r;

	if ((r = check_worker_open(&ref, j->engine, c->model, NULL, 2, j->e)) < 0 ||
	    (r = check_worker_open(&oracle, "oracle", c->model, NULL, 2, j->e)) < 0 ||
	    (r = check_worker_evaluate(&ref, j->ids, N_TOKENS, false, true, &a, j->e)) < 0 ||
	    (r = check_worker_evaluate(&oracle, j->ids, N_TOKENS, false, true, &b, j->e)) < 0)
		goto out;
	for (int i = 0; i < a.n_traces; i++) {
		const struct check_trace *t = &a.traces[i], *want = check_run_trace(&b, t->name);
		double nmse;

		/* scores and softmax of a padded cache have other shapes; what follows tells */
		if (!want || t->stage == STAGE_ATTN_SCORES || t->stage == STAGE_ATTN_SOFTMAX)
			continue;
		nmse = check_nmse(t->values, t->n, want->values, want->n);
		if (nmse > stage_limit) {
			blame(j, c, &oracle, &a, t, nmse);
			break;
		}
	}
out:
	check_run_free(&a);
	check_run_free(&b);
	check_worker_close(&ref);
	check_worker_close(&oracle);
	return r;
}

/* ---- one case ----------------------------------------------------------------------------- */

static int repeat(struct job *j, const struct check_case *c, int threads, bool single, bool *same)
{
	struct check_worker w;
	struct check_run again = {0};
	int r = check_worker_open(&w, j->engine, c->model, NULL, threads, j->e);

	if (r < 0)
		return r;
	r = check_worker_evaluate(&w, j->ids, N_TOKENS, single, false, &again, j->e);
	if (r == 0 && !check_same_bits(&again, &c->reference))
		*same = false;
	check_run_free(&again);
	check_worker_close(&w);
	return r;
}

static int compare_with_oracle(struct job *j, struct check_case *c, double *nmse, double *cosine)
{
	struct check_worker ref = {0}, oracle = {0};
	struct check_run want = {0};
	int64_t n;
	int r;

	if ((r = check_worker_open(&ref, j->engine, c->model, NULL, 2, j->e)) < 0)
		goto out;
	make_ids(j, ref.n_vocab);
	if ((r = check_worker_evaluate(&ref, j->ids, N_TOKENS, false, false, &c->reference, j->e)) <
	    0)
		goto out;
	if ((r = check_worker_open(&oracle, "oracle", c->model, NULL, 2, j->e)) < 0 ||
	    (r = check_worker_evaluate(&oracle, j->ids, N_TOKENS, false, false, &want, j->e)) < 0) {
		err_prefix(j->e, "oracle");
		goto out;
	}
	n = (int64_t)want.n_pos * want.n_vocab;
	*nmse = check_nmse(c->reference.logits, (int64_t)c->reference.n_pos * c->reference.n_vocab,
			   want.logits, n);
	*cosine = isfinite(*nmse) ? check_cosine(c->reference.logits, want.logits, n) : 0;
	c->right = *nmse <= nmse_limit(c->weights);
out:
	check_run_free(&want);
	check_worker_close(&ref);
	check_worker_close(&oracle);
	return r;
}

static void report(struct job *j, const struct check_case *c, double nmse, double cosine,
		   const char *error)
{
	json_t *o = json_pack("{s:s s:s s:b}", "arch", c->arch, "weights", c->weights, "right",
			      c->right);

	if (c->odd)
		json_object_set_new(o, "odd_sizes", json_true());
	json_object_set_new(o, "nmse", isfinite(nmse) ? json_real(nmse) : json_string("Infinity"));
	json_object_set_new(o, "nmse_limit", json_real(nmse_limit(c->weights)));
	json_object_set_new(o, "cosine", json_real(cosine));
	if (error)
		json_object_set_new(o, "error", json_string(error));
	json_array_append_new(j->out->report, o);
}

/* A reference that cannot do a case has failed it; an oracle that cannot is our own failure. */
static int run_case(struct job *j, struct check_case *c)
{
	double nmse = (double)INFINITY, cosine = 0;
	int r = make_model(j, c);

	if (r < 0)
		return err_prefix(j->e, "self-check of %s:%s", c->arch, c->weights);
	r = compare_with_oracle(j, c, &nmse, &cosine);
	if (r == -EXIT_INTERRUPTED || (r < 0 && strncmp(j->e->msg, "oracle: ", 8) == 0))
		return r;
	report(j, c, nmse, cosine, r < 0 ? j->e->msg : NULL);
	if (r < 0) {
		note(j, "self-check %s:%s: %s", c->arch, c->weights, j->e->msg);
		fail(j, "%s with %s weights: %s", c->arch, c->weights, j->e->msg);
		return 0;
	}
	note(j, "self-check %s:%s%s: NMSE %.2g, cosine %.6f%s", c->arch, c->weights,
	     c->odd ? " (odd sizes)" : "", nmse, cosine, c->right ? "" : "  WRONG");
	if (!c->right) {
		struct err traced = ERR_NONE, *mine = j->e;

		j->e = &traced;
		find_stage(j, c);
		j->e = mine;
		fail(j,
		     "%s with %s weights is wrong: NMSE %.2g against the oracle (limit %.0e)%s%s",
		     c->arch, c->weights, nmse, nmse_limit(c->weights),
		     traced.code ? "; no stage was found: " : "", traced.code ? traced.msg : "");
		return 0;
	}
	if (!c->odd)
		append_word(j->out->capabilities, sizeof(j->out->capabilities), c->arch,
			    c->weights);
	if ((r = repeat(j, c, 2, false, &j->same_runs)) < 0 ||
	    (r = repeat(j, c, 1, false, &j->same_threads)) < 0 ||
	    (r = repeat(j, c, 2, true, &j->same_batch)) < 0)
		fail(j, "%s with %s weights, run again: %s", c->arch, c->weights, j->e->msg);
	return 0;
}

/* ---- the numerics profile ----------------------------------------------------------------- */

static int fits_profile(struct job *j, const char *profile, bool *fits)
{
	*fits = true;
	for (int i = 0; *fits && i < j->n_cases; i++) {
		struct check_case *c = &j->cases[i];
		struct check_worker w;
		struct check_run run = {0};
		int r;

		if (!c->right)
			continue;
		r = check_worker_open(&w, "native", c->model, profile, 2, j->e);
		if (r < 0)
			return r;
		r = check_worker_evaluate(&w, j->ids, N_TOKENS, false, false, &run, j->e);
		if (r == 0)
			*fits = check_same_bits(&run, &c->reference);
		check_run_free(&run);
		check_worker_close(&w);
		if (r < 0)
			return r;
	}
	return 0;
}

static int find_profile(struct job *j)
{
	static const char *const lanes[] = {"ggml-avx2", "ggml-avx512", "ggml-fp16"};
	const char *family = j->p->family && strcmp(j->p->family, "clang") == 0 ? "clang" : "gcc";
	const char *other = strcmp(family, "clang") == 0 ? "gcc" : "clang";
	char name[64];
	bool fits, any = false;
	int r;

	for (int i = 0; i < j->n_cases; i++)
		any = any || j->cases[i].right;
	for (int i = 0; any && i < 6; i++) {
		snprintf(name, sizeof(name), "%s-%s", lanes[i / 2], i % 2 ? other : family);
		r = fits_profile(j, name, &fits);
		if (r == -EXIT_INTERRUPTED)
			return r;
		if (r == 0 && fits) {
			snprintf(j->out->profile, sizeof(j->out->profile), "%s", name);
			break;
		}
	}
	if (j->out->profile[0])
		note(j, "numerics profile: %s, bit for bit", j->out->profile);
	else
		note(j,
		     "numerics profile: none of native's gives these bits; comparing falls back to "
		     "single operations");
	return 0;
}

static void say_determinism(struct job *j)
{
	char options[400] = "";

	snprintf(j->out->determinism, sizeof(j->out->determinism), "runs:%s threads:%s batch:%s",
		 j->same_runs ? "equal" : "differ", j->same_threads ? "equal" : "differ",
		 j->same_batch ? "equal" : "differ");
	note(j, "determinism: two runs %s, 1 and 2 threads %s, batch and single %s",
	     j->same_runs ? "equal" : "DIFFER", j->same_threads ? "equal" : "DIFFER",
	     j->same_batch ? "equal" : "DIFFER");
	if (j->p->speed)
		return;	/* the engine's own flags promise nothing */
	if (j->same_runs && j->same_threads && j->same_batch)
		return;
	for (int i = 0; j->p->own && i < j->p->entry->n_parity; i++) {
		size_t n = strlen(options);

		snprintf(options + n, sizeof(options) - n, " %s", j->p->entry->parity[i]);
	}
	if (j->p->own)
		fail(j,
		     "not deterministic (%s): configure that build with%s, or take it for speed: assay "
		     "fetch-cpp %s --for speed",
		     j->out->determinism, options, j->p->entry->name);
	else
		fail(j, "not deterministic in the parity configuration: %s", j->out->determinism);
}

int self_check_run(const struct self_check_plan *p, struct self_check_result *out, struct err *e)
{
	struct job *j = calloc(1, sizeof(*j));
	int r;

	assert(j);
	memset(out, 0, sizeof(*out));
	out->passed = true;
	out->report = json_array();
	j->p = p;
	j->out = out;
	j->e = e;
	j->same_runs = j->same_threads = j->same_batch = true;
	r = paths_format(j->engine, sizeof(j->engine), e, "exec:exec '%s'", p->worker);
	if (r == 0 && strchr(p->worker, '\''))
		r = err_set(e, EXIT_USAGE, "the cache folder's name holds a quote: %s", p->worker);
	if (r == 0)
		r = add_cases(j);
	for (int i = 0; r == 0 && i < j->n_cases; i++)
		r = run_case(j, &j->cases[i]);
	if (r == 0 && out->capabilities[0]) {
		say_determinism(j);
		r = find_profile(j);
	}
	if (r == 0 && !out->capabilities[0])
		fail(j, "it computes nothing rightly");
	for (int i = 0; i < j->n_cases; i++)
		check_run_free(&j->cases[i].reference);
	if (r < 0) {
		json_decref(out->report);
		out->report = NULL;
	}
	free(j);
	return r;
}
