#include "gate_internal.h"

#include "compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double element(const struct gating *g, const char *path, size_t i)
{
	const json_t *v = json_array_get(gate_at(g->r, path), i);

	return json_is_string(v) ? strtod(json_string_value(v), NULL) : json_number_value(v);
}

static bool truth(const struct gating *g, const char *path, size_t i)
{
	return json_is_true(json_array_get(gate_at(g->r, path), i));
}

static struct limits limits_from(const json_t *o)
{
	struct limits l;
	struct {
		const char *key;
		double *to;
	} numbers[] = {
		{"min_cosine", &l.min_cosine}, {"max_nmse", &l.max_nmse},
		{"max_abs_diff", &l.max_abs},  {"max_kl", &l.max_kl},
		{"min_top1", &l.min_top1},     {"min_top5", &l.min_top5},
	};

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		const json_t *v = json_object_get(o, numbers[i].key);

		*numbers[i].to = v ? json_number_value(v) : NAN;
	}
	l.bits = json_is_true(json_object_get(o, "bits"));
	return l;
}

/* The metrics of position i as the receipt has them; top-1 ids are only equal or not. */
static struct metrics metrics_from(const struct gating *g, size_t i)
{
	struct metrics m = {
		.cosine = element(g, "per_token_cosine_sim", i),
		.l2 = element(g, "per_token_l2_dist", i),
		.nmse = element(g, "positions.nmse", i),
		.kl = element(g, "positions.kl", i),
		.max_abs = element(g, "positions.max_abs_diff", i),
		.margin_ref = element(g, "positions.margin_ref", i),
		.kendall = element(g, "positions.kendall_tau_b", i),
		.top5_agree = element(g, "positions.top5_agree", i),
		.max_ulp = (uint32_t)element(g, "positions.max_ulp", i),
		.bits_equal = truth(g, "positions.bits_equal", i),
		.top1_agree = truth(g, "positions.top1_agree", i),
	};

	m.n_nonfinite_ours = isnan(m.nmse) && gate_int(g->r, "summary.n_nonfinite_ours");
	m.n_nonfinite_ref = isnan(m.nmse) && gate_int(g->r, "summary.n_nonfinite_ref");
	return m;
}

/*
 * What no two vectors of logits escape: |Δ|₂ ≤ max|Δ|·√n; log softmax moves by at most 2·max|Δ|, so
 * KL does; and an order changes only where twice the greatest difference covers the margin.
 */
static void check_bounds(struct gating *g, const struct metrics *m, size_t i)
{
	const double slack = 1 + 1e-6;
	double n = gate_real(gate_side(g, "reference"), "opened.n_vocab");

	if (n > 0 && m->l2 > m->max_abs * sqrt(n) * slack)
		gate_fail(g, "position %zu: L2 %.9g of %g logits, none further apart than %.9g", i,
			  m->l2, n, m->max_abs);
	if (m->kl > 2 * m->max_abs * slack + 1e-9)
		gate_fail(g, "position %zu: KL %.9g with max|Δ| %.9g", i, m->kl, m->max_abs);
	if (!m->top1_agree && m->margin_ref > 2 * m->max_abs * slack)
		gate_fail(g, "position %zu: another first choice across a margin of %.9g with "
			  "max|Δ| %.9g", i, m->margin_ref, m->max_abs);
}

/* What a position's own numbers must satisfy among themselves. */
static void check_position(struct gating *g, const struct metrics *m, size_t i)
{
	if (m->bits_equal && (m->nmse != 0 || m->l2 != 0 || m->max_abs != 0 || m->kl != 0 ||
			      m->max_ulp != 0 || !m->top1_agree || m->top5_agree != 1))
		gate_fail(g, "position %zu: equal bits, yet a distance", i);
	if (!m->bits_equal && m->max_ulp == 0 && m->l2 > 0)
		gate_fail(g, "position %zu: 0 ULP apart, yet a distance of %g", i, m->l2);
	if (m->cosine > 1 + 1e-12 || m->cosine < -1 - 1e-12)
		gate_fail(g, "position %zu: cosine %.17g", i, m->cosine);
	if (m->nmse < 0 || m->kl < 0 || m->l2 < 0 || m->max_abs < 0 || m->margin_ref < 0)
		gate_fail(g, "position %zu: a negative distance", i);
	if (m->max_abs > m->l2 * (1 + 1e-9))
		gate_fail(g, "position %zu: max|Δ| %.9g is more than L2 %.9g", i, m->max_abs,
			  m->l2);
	if ((m->nmse == 0) != (m->l2 == 0))
		gate_fail(g, "position %zu: NMSE %g, L2 %g", i, m->nmse, m->l2);
	if (fabs(m->kendall) > 1 + 1e-12 || m->top5_agree < 0 || m->top5_agree > 1)
		gate_fail(g, "position %zu: tau %g, top-5 %g", i, m->kendall, m->top5_agree);
	if (isfinite(m->nmse) &&
	    !(isfinite(m->cosine) && isfinite(m->l2) && isfinite(m->kl) && isfinite(m->max_abs) &&
	      isfinite(m->margin_ref) && isfinite(m->kendall)))
		gate_fail(g, "position %zu: NMSE is a number, another metric is none", i);
	check_bounds(g, m, i);
	/* Σ(a−b)² = NMSE·Σb² and 1−cos ≥ 0 tie the three: cos² ≥ 1 − NMSE */
	if (isfinite(m->nmse) && m->nmse < 1 && m->cosine * m->cosine < 1 - m->nmse - 1e-9)
		gate_fail(g, "position %zu: cosine %.9g cannot be with NMSE %.9g", i, m->cosine,
			  m->nmse);
}

static void same_real(struct gating *g, const char *path, double want)
{
	double got = gate_real(g->r, path);

	if (!(got == want || (isnan(got) && isnan(want)) ||
	      (isfinite(got) && isfinite(want) &&
	       fabs(got - want) <= 1e-12 * fmax(fabs(got), fabs(want)))))
		gate_fail(g, "%s is %.17g, the series give %.17g", path, got, want);
}

static void same_int(struct gating *g, const char *path, int64_t want)
{
	const json_t *v = gate_at(g->r, path);

	if (want < 0 ? !json_is_null(v) : !json_is_integer(v) || json_integer_value(v) != want)
		gate_fail(g, "%s is %lld, the series give %lld", path,
			  (long long)json_integer_value(v), (long long)want);
}

static void check_summary(struct gating *g, const struct comparison *c)
{
	double n = c->n ? c->n : 1;

	same_int(g, "summary.n_positions", c->n);
	same_int(g, "summary.n_decode", c->n_decode);
	same_int(g, "summary.n_prefill", c->n - c->n_decode);
	same_int(g, "summary.n_bits_equal", c->n_bits_equal);
	same_int(g, "summary.first_different", c->first_different);
	same_int(g, "summary.worst_position", c->worst);
	same_int(g, "summary.max_ulp", c->max_ulp);
	same_real(g, "summary.top1_agreement", c->n_top1 / n);
	same_real(g, "summary.top5_agreement", c->sum_top5 / n);
	same_real(g, "summary.min_cosine", c->n ? c->min_cosine : NAN);
	same_real(g, "summary.mean_cosine", c->n ? c->sum_cosine / n : NAN);
	same_real(g, "summary.max_nmse", c->n ? c->max_nmse : NAN);
	same_real(g, "summary.max_kl", c->n ? c->max_kl : NAN);
	same_real(g, "summary.mean_kl", c->n ? c->sum_kl / n : NAN);
	same_real(g, "summary.max_l2", c->n ? c->max_l2 : NAN);
	if (c->n)
		same_real(g, "max_absolute_diff", c->max_abs);
	else if (!json_is_null(json_object_get(g->r, "max_absolute_diff")))
		gate_fail(g, "max_absolute_diff of nothing");
	if ((gate_int(g->r, "summary.n_nonfinite_ours") > 0 ||
	     gate_int(g->r, "summary.n_nonfinite_ref") > 0) !=
	    (bool)(c->n && isnan(c->max_nmse)))
		gate_fail(g, "summary.n_nonfinite does not fit the series");
}

static void check_threshold(struct gating *g, const struct limits *l)
{
	const char *metric = !isnan(l->min_cosine) ? "cosine" : !isnan(l->max_nmse) ? "nmse" :
			     l->bits ? "bits" : "other";

	if (strcmp(gate_text(g->r, "threshold_metric"), metric) != 0)
		gate_fail(g, "threshold_metric is %s, the limits say %s",
			  gate_text(g->r, "threshold_metric"), metric);
	if (!isnan(l->min_cosine) || !isnan(l->max_nmse))
		same_real(g, "threshold", !isnan(l->min_cosine) ? l->min_cosine : l->max_nmse);
	else if (!json_is_null(json_object_get(g->r, "threshold")))
		gate_fail(g, "threshold, but the limits have none of that kind");
}

/* It cannot be less than by how much the reference preferred its own id to any other. */
static void check_flip_margin(struct gating *g, const struct comparison *c)
{
	double margin = gate_real(g->r, "greedy.flip_margin");

	if (c->n && margin < c->rows[c->n - 1].margin_ref * (1 - 1e-6) &&
	    c->rows[c->n - 1].margin_ref >= 0)
		gate_fail(g, "greedy.flip_margin is %.9g, positions.margin_ref there %.9g", margin,
			  c->rows[c->n - 1].margin_ref);
}

static void check_greedy(struct gating *g, const struct comparison *c)
{
	static const char *const of_a_flip[] = {"flip_ours",  "flip_ref", "flip_margin",
						"flip_error", "near_tie"};

	same_int(g, "greedy.compared", c->n_greedy);
	same_int(g, "greedy.flip_step", c->flip_step);
	if (json_is_true(gate_at(g->r, "greedy.equal")) != (c->flip_step < 0))
		gate_fail(g, "greedy.equal does not fit the two lists of ids");
	for (size_t i = 0; i < sizeof(of_a_flip) / sizeof(of_a_flip[0]); i++)
		if ((json_object_get(json_object_get(g->r, "greedy"), of_a_flip[i]) != NULL) !=
		    (c->flip_step >= 0))
			gate_fail(g, "greedy.%s %s", of_a_flip[i],
				  c->flip_step < 0 ? "of a flip that was none" : "is missing");
	if (c->flip_step < 0)
		return;
	check_flip_margin(g, c);
	same_int(g, "greedy.flip_ours", c->flip_ours);
	same_int(g, "greedy.flip_ref", c->flip_ref);
	same_real(g, "greedy.flip_error", c->flip_error);
	if (json_is_true(gate_at(g->r, "greedy.near_tie")) &&
	    !(gate_real(g->r, "greedy.flip_margin") <= c->flip_error))
		gate_fail(g, "greedy.near_tie, but the margin is greater than the error");
}

/* The row after which greedy id k was chosen is the prompt's last and then one each. */
static int32_t chosen(const struct gating *g, const char *side, int64_t row)
{
	const json_t *s = gate_side(g, side);
	int64_t k = gate_sum(row, 1 - gate_int(s, "n_tokens"));
	const json_t *v = k < 0 ? NULL : json_array_get(json_object_get(s, "greedy"), (size_t)k);

	return v ? (int32_t)json_integer_value(v) : -1;
}

static void check_verdict(struct gating *g, const struct comparison *c)
{
	const char *said = gate_text(g->r, "verdict");
	enum verdict v = compare_decide(c);
	int64_t code = gate_int(g->r, "exit_code");
	const char *status = code == EXIT_DIVERGED ? "diverged" : code == 0 ? "ok" : "error";

	/* the proof by induction is checked by its own table, thresholds do not decide it */
	if (strcmp(said, "EQUIVALENT") == 0) {
		gate_local(g);
		if (v == VERDICT_NOT_RUN || v == VERDICT_IDENTICAL || code != EXIT_AGREE)
			gate_fail(g, "EQUIVALENT with exit code %lld, the series alone give %s",
				  (long long)code, verdict_name(v));
	} else if (strcmp(said, verdict_name(v)) != 0) {
		gate_fail(g, "the verdict is %s, series and thresholds give %s", said,
			  verdict_name(v));
	} else if (code != verdict_exit_code(v) && !(v == VERDICT_DRIFT && code == EXIT_DIVERGED)) {
		gate_fail(g, "exit_code is %lld, %s gives %d", (long long)code, said,
			  verdict_exit_code(v));
	}
	if (strcmp(gate_text(g->r, "status"), status) != 0)
		gate_fail(g, "status is %s, exit code %lld means %s", gate_text(g->r, "status"),
			  (long long)code, status);
}

static int first_divergence(const struct comparison *c)
{
	if (c->first_beyond_limit >= 0)
		return c->rows[c->first_beyond_limit].pos;
	return c->flip_step >= 0 && !c->flip_is_tie ? c->rows[c->n - 1].pos : -1;
}

/* Decoding goes on for max_new_tokens ids, a stop, or until the sides choose differently. */
static void check_length(struct gating *g, const struct comparison *c)
{
	const json_t *a = gate_side(g, "ours"), *ids = json_object_get(a, "greedy");
	int64_t n = (int64_t)json_array_size(ids), want = gate_int(g->r, "scenario.max_new_tokens");
	int64_t last = n ? json_integer_value(json_array_get(ids, (size_t)n - 1)) : -1;
	bool stopped =
		n > 0 && (last == gate_int(a, "opened.eos") || last == gate_int(a, "opened.eot"));

	if (n > want || (n < want && !stopped && c->flip_step < 0))
		gate_fail(g, "scenario.max_new_tokens is %lld, %lld ids were decoded",
			  (long long)want, (long long)n);
	if (gate_int(a, "n_positions") != gate_sum(gate_int(a, "n_tokens"), n > 1 ? n - 1 : 0))
		gate_fail(g, "%lld prompt ids and %lld decoded ones, but %lld positions",
			  (long long)gate_int(a, "n_tokens"), (long long)n,
			  (long long)gate_int(a, "n_positions"));
}

static bool same_limits(const struct limits *a, const struct limits *b)
{
	const double x[] = {a->min_cosine, a->max_nmse, a->max_abs,
			    a->max_kl,     a->min_top1, a->min_top5};
	const double y[] = {b->min_cosine, b->max_nmse, b->max_abs,
			    b->max_kl,     b->min_top1, b->min_top5};

	for (size_t i = 0; i < sizeof(x) / sizeof(x[0]); i++)
		if (!(x[i] == y[i] || (isnan(x[i]) && isnan(y[i]))))
			return false;
	return a->bits == b->bits;
}

/* A set that is not the program's own has an origin of its own: nobody renames a set to loosen it. */
static bool borrowed_origin(struct gating *g, const char *set)
{
	static const char *const own[] = {"bits", "oracle", "default", NULL};
	const char *origin = gate_text(g->r, "thresholds.origin");
	struct thresholds t;

	for (const char *const *s = own; *s; s++)
		if (g->ctx->thresholds && strcmp(*s, set) != 0 &&
		    thresholds_load(&t, g->ctx->thresholds, strlen(g->ctx->thresholds), "thresholds",
				    *s, gate_text(gate_side(g, "ours"), "opened.weights"),
				    gate_text(gate_side(g, "ours"), "opened.arch"), NULL) == 0 &&
		    strcmp(t.origin, origin) == 0) {
			gate_fail(g, "thresholds \"%s\" have the origin of \"%s\"", set, *s);
			return true;
		}
	return false;
}

/* A set of the program's own is the one that the program has. */
static void check_set(struct gating *g, const struct thresholds *t)
{
	const char *set = gate_text(g->r, "thresholds.set");
	struct thresholds own;

	if (borrowed_origin(g, set))
		return;
	if (!g->ctx->thresholds || !*set ||
	    thresholds_load(&own, g->ctx->thresholds, strlen(g->ctx->thresholds), "thresholds", set,
			    gate_text(gate_side(g, "ours"), "opened.weights"),
			    gate_text(gate_side(g, "ours"), "opened.arch"), NULL) < 0) {
		gate_unchecked(g, "thresholds \"%s\" are not the program's own", set);
		return;
	}
	if (!same_limits(&own.limit, &t->limit) || !same_limits(&own.noise, &t->noise) ||
	    strcmp(own.origin, gate_text(g->r, "thresholds.origin")) != 0 ||
	    strcmp(own.weights, gate_text(g->r, "thresholds.weights")) != 0)
		gate_fail(g, "thresholds \"%s\" differ from the set of that name", set);
}

static bool ended_early(const char *verdict)
{
	static const char *const names[] = {"NOT_RUN", "TOKENS_DIFFER", "NOT_COMPARABLE", "CRASHED",
					    "TIMED_OUT", "FAILED", NULL};

	for (const char *const *n = names; *n; n++)
		if (strcmp(*n, verdict) == 0)
			return true;
	return false;
}

/* One digest over all logits: the same on both sides is the same bits everywhere, and only then. */
static void check_digests(struct gating *g, const struct comparison *c)
{
	const json_t *a = gate_side(g, "ours"), *b = gate_side(g, "reference");
	const char *x = gate_text(a, "logits_sha256"), *y = gate_text(b, "logits_sha256");
	bool all = c->n > 0 && c->n == gate_int(a, "n_positions") &&
		   c->n == gate_int(b, "n_positions");

	if (b && all && *x && (strcmp(x, y) == 0) != (c->n_bits_equal == c->n))
		gate_fail(g, "%d of %d positions have the same bits, the digests of all are %s",
			  c->n_bits_equal, c->n, strcmp(x, y) == 0 ? "equal" : "different");
}

/* An engine that ran alone claims no agreement: nothing was compared, and it ended well or not. */
static void check_alone(struct gating *g, const struct comparison *c, const struct thresholds *t)
{
	const char *said = gate_text(g->r, "verdict"), *status = gate_text(g->r, "status");
	int64_t code = gate_int(g->r, "exit_code");
	bool evaluated = gate_int(gate_side(g, "ours"), "n_positions") > 0;

	if (c->n > 0)
		gate_fail(g, "%d positions compared with nobody", c->n);
	if (!ended_early(said) || strcmp(said, "TOKENS_DIFFER") == 0)
		gate_fail(g, "the verdict is %s, an engine alone can have none", said);
	if ((strcmp(said, "NOT_RUN") == 0 && evaluated) != (code == 0))
		gate_fail(g, "exit_code is %lld, the verdict %s", (long long)code, said);
	if (strcmp(status, code ? "error" : "ok") != 0)
		gate_fail(g, "status is %s, exit code %lld means %s", status, (long long)code,
			  code ? "error" : "ok");
	same_int(g, "first_divergence_token", -1);
	check_set(g, t);
	if (code == 0)
		check_length(g, c);
}

/* ---- from the logits themselves ------------------------------------------------------------- */

static const struct gate_rerun *rerun_of(const struct gating *g, const char *side)
{
	for (int i = 0; i < g->ctx->n_reruns; i++)
		if (g->ctx->reruns[i].rows && strcmp(g->ctx->reruns[i].side, side) == 0)
			return &g->ctx->reruns[i];
	return NULL;
}

static bool same(double x, double y)
{
	return x == y || (isnan(x) && isnan(y)) ||
	       (isfinite(x) && isfinite(y) && fabs(x - y) <= 1e-12 * fmax(fabs(x), fabs(y)));
}

static void check_against(struct gating *g, size_t i, const struct metrics *said,
			  const struct metrics *is)
{
	const struct {
		const char *name;
		double said, is;
	} numbers[] = {
		{"cosine", said->cosine, is->cosine},	 {"L2", said->l2, is->l2},
		{"NMSE", said->nmse, is->nmse},		 {"KL", said->kl, is->kl},
		{"max|Δ|", said->max_abs, is->max_abs},	 {"margin", said->margin_ref, is->margin_ref},
		{"tau", said->kendall, is->kendall},	 {"top-5", said->top5_agree, is->top5_agree},
		{"max ULP", said->max_ulp, is->max_ulp}, {"top-1", said->top1_agree, is->top1_agree},
		{"bits", said->bits_equal, is->bits_equal},
	};

	for (size_t k = 0; k < sizeof(numbers) / sizeof(numbers[0]); k++)
		if (!same(numbers[k].said, numbers[k].is))
			gate_fail(g, "position %zu: %s is %.9g, the logits of the rerun give %.9g", i,
				  numbers[k].name, numbers[k].said, numbers[k].is);
}

/* With both sides run again the series are computed anew; the digests say that it is them. */
static void check_rerun(struct gating *g, size_t n)
{
	const struct gate_rerun *a = rerun_of(g, "ours"), *b = rerun_of(g, "reference");
	size_t n_vocab = (size_t)gate_int(gate_side(g, "ours"), "opened.n_vocab");

	if (!a || !b || !n_vocab)
		return;
	if (n * n_vocab > a->n_floats || n * n_vocab > b->n_floats) {
		gate_fail(g, "%zu positions compared, a rerun gives %zu and %zu", n,
			  a->n_floats / n_vocab, b->n_floats / n_vocab);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		struct metrics said = metrics_from(g, i), is;

		metrics_compare(&is, a->rows + i * n_vocab, b->rows + i * n_vocab, (int)n_vocab);
		check_against(g, i, &said, &is);
	}
}

void gate_metrics(struct gating *g)
{
	size_t n = json_array_size(json_object_get(g->r, "per_token_cosine_sim"));
	struct thresholds t = {.limit = limits_from(gate_at(g->r, "thresholds.limit")),
			       .noise = limits_from(gate_at(g->r, "thresholds.noise"))};
	int64_t prompt = gate_int(gate_side(g, "ours"), "n_tokens");
	struct comparison c;

	compare_init(&c, &t);
	for (size_t i = 0; i < n; i++) {
		struct metrics m = metrics_from(g, i);
		int32_t a = chosen(g, "ours", (int64_t)i), b = chosen(g, "reference", (int64_t)i);

		check_position(g, &m, i);
		if (a >= 0 && b >= 0 && a != b) {
			m.flip_margin = gate_real(g->r, "greedy.flip_margin");
			m.top1_ours = a;	/* near_tie is checked by margin and error */
			m.top1_ref = b;
		}
		compare_add(&c, (int)i, (int64_t)i >= prompt ? (int)((int64_t)i - prompt + 1) : 0,
			    &m, a, b);
	}
	check_summary(g, &c);
	check_threshold(g, &t.limit);
	check_greedy(g, &c);
	check_digests(g, &c);
	check_rerun(g, n);
	if (strcmp(gate_text(g->r, "kind"), "inference") == 0) {
		check_alone(g, &c, &t);
	} else if (ended_early(gate_text(g->r, "verdict"))) {
		if (gate_int(g->r, "exit_code") == 0)
			gate_fail(g, "%s with exit code 0", gate_text(g->r, "verdict"));
	} else {
		check_verdict(g, &c);
		check_length(g, &c);
		check_set(g, &t);
		same_int(g, "first_divergence_token", first_divergence(&c));
	}
	if (n > 0 && (int64_t)n > gate_int(gate_side(g, "ours"), "n_positions"))
		gate_fail(g, "%zu positions compared, ours delivered %lld", n,
			  (long long)gate_int(gate_side(g, "ours"), "n_positions"));
	compare_free(&c);
}
