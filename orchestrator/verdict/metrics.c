#include "metrics.h"

#include "metrics_loops.h"

#include <assert.h>
#include <math.h>
#include <string.h>

struct top {
	float value[METRICS_TOP_MAX];
	int32_t id[METRICS_TOP_MAX];
	int n;
};

struct kernels {
	metrics_block_fn *block;
	metrics_exp_fn *exps;
	metrics_max_fn *max;
};

static struct kernels pick(void)
{
#ifdef __x86_64__
	if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
	    __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
		return (struct kernels){metrics_block_avx512, metrics_exp_avx512,
					metrics_max_avx512};
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
		return (struct kernels){metrics_block_avx2, metrics_exp_avx2,
					metrics_max_avx2};
#endif
	return (struct kernels){metrics_block_base, metrics_exp_base,
					metrics_max_base};
}

static void top_insert(struct top *t, int k, float v, int32_t id)
{
	int at;

	if (t->n == k && !(v > t->value[k - 1]))
		return;
	at = t->n < k ? t->n++ : k - 1;
	for (; at > 0 && v > t->value[at - 1]; at--) {
		t->value[at] = t->value[at - 1];
		t->id[at] = t->id[at - 1];
	}
	t->value[at] = v;
	t->id[at] = id;
}

/* Looks at a block only when its maximum can change the list. */
static void top_block(struct top *t, const float *x, int start, int n, float max)
{
	if (t->n == METRICS_TOP_MAX && !(max > t->value[METRICS_TOP_MAX - 1]))
		return;
	for (int i = 0; i < n; i++)
		if (x[i] == x[i])
			top_insert(t, METRICS_TOP_MAX, x[i], start + i);
}

static int common(const struct top *a, const struct top *b, int k)
{
	int n = 0;

	for (int i = 0; i < k && i < a->n; i++)
		for (int j = 0; j < k && j < b->n; j++)
			n += a->id[i] == b->id[j];
	return n;
}

static int sign(double x)
{
	return (x > 0) - (x < 0);
}

static double kendall(const float *a, const struct top *b)
{
	int concordant = 0, discordant = 0, tied_a = 0, tied_b = 0, pairs = 0;

	for (int i = 0; i < b->n; i++)
		for (int j = i + 1; j < b->n; j++) {
			int sa = sign((double)a[b->id[i]] - (double)a[b->id[j]]);
			int sb = sign((double)b->value[i] - (double)b->value[j]);

			pairs++;
			tied_a += sa == 0;
			tied_b += sb == 0;
			concordant += sa * sb > 0;
			discordant += sa * sb < 0;
		}
	if (pairs == tied_a || pairs == tied_b)
		return tied_a == tied_b ? 1 : 0;
	return (concordant - discordant) /
	       sqrt((double)(pairs - tied_a) * (double)(pairs - tied_b));
}

static int64_t count_nonfinite(const float *x, int n)
{
	int64_t k = 0;

	for (int i = 0; i < n; i++)
		k += !isfinite(x[i]);
	return k;
}

static int32_t first_at(const float *a, const float *b, int start, int n, double value)
{
	for (int i = 0; i < n; i++)
		if (fabs((double)a[start + i] - (double)b[start + i]) == value)
			return start + i;
	return start;
}

static void spoil(struct metrics *m)
{
	m->cosine = m->nmse = m->max_abs = m->l2 = m->kl = NAN;
	m->kendall = m->margin_ref = m->flip_margin = NAN;
	m->max_abs_at = -1;
}

static void fill_ranks(struct metrics *m, const float *a, const float *b, int n,
		       const struct top *ta, const struct top *tb)
{
	int k5 = n < METRICS_TOP_K ? n : METRICS_TOP_K;
	int k10 = n < METRICS_TOP_MAX ? n : METRICS_TOP_MAX;

	(void)b;
	m->top1_ours = ta->n ? ta->id[0] : -1;
	m->top1_ref = tb->n ? tb->id[0] : -1;
	m->top1_agree = ta->n && tb->n && ta->id[0] == tb->id[0];
	m->top5_agree = (double)common(ta, tb, k5) / k5;
	m->top10_agree = (double)common(ta, tb, k10) / k10;
	m->margin_ref = tb->n > 1 ? (double)tb->value[0] - (double)tb->value[1] : 0;
	m->flip_margin = ta->n && tb->n ? (double)tb->value[0] - (double)b[ta->id[0]] : 0;
	m->kendall = kendall(a, tb);
}

static void fill_kl(struct metrics *m, const struct kernels *kernels, const float *a,
		    const float *b, int n, double max_a, double max_b)
{
	struct metrics_exps x = {0};

	for (int i = 0; i < n; i += METRICS_BLOCK)
		kernels->exps(&x, a + i, b + i, n - i < METRICS_BLOCK ? n - i : METRICS_BLOCK,
			      max_a, max_b);
	m->kl = x.bd / x.b + ((max_a + log(x.a)) - (max_b + log(x.b)));
	if (m->kl < 0)
		m->kl = 0;
}

static void fill_sums(struct metrics *m, const struct metrics_sums *s)
{
	double norm = sqrt(s->aa) * sqrt(s->bb);

	m->l2 = sqrt(s->dd);
	if (s->bb > 0)
		m->nmse = s->dd / s->bb;
	else
		m->nmse = s->dd > 0 ? INFINITY : 0;
	if (s->bits == 0)
		m->cosine = 1;
	else if (norm > 0)
		m->cosine = fmax(-1, fmin(1, s->ab / norm));
	else
		m->cosine = s->aa == s->bb ? 1 : 0;
}

/* Equal bits: only the ranks are left to find. */
static void compare_equal(struct metrics *m, const float *b, int n)
{
	struct kernels kernels = pick();
	struct metrics_sums s = {0};
	struct top t = {.n = 0};

	for (int i = 0; i < n; i += METRICS_BLOCK) {
		int k = n - i < METRICS_BLOCK ? n - i : METRICS_BLOCK;

		kernels.max(&s, b + i, k);
		top_block(&t, b + i, i, k, s.max_b);
	}
	*m = (struct metrics){.bits_equal = true, .cosine = 1};
	fill_ranks(m, b, b, n, &t, &t);
	if (!s.nonfinite)
		return;
	m->n_nonfinite_ours = m->n_nonfinite_ref = count_nonfinite(b, n);
	spoil(m);
}

void metrics_compare(struct metrics *m, const float *a, const float *b, int n)
{
	struct kernels kernels = pick();
	struct metrics_sums s = {0};
	struct top ta = {.n = 0}, tb = {.n = 0};

	assert(n >= 1);
	if (memcmp(a, b, (size_t)n * sizeof(*a)) == 0) {
		compare_equal(m, b, n);
		return;
	}
	*m = (struct metrics){.max_abs_at = -1};
	for (int i = 0; i < n; i += METRICS_BLOCK) {
		int k = n - i < METRICS_BLOCK ? n - i : METRICS_BLOCK;

		kernels.block(&s, a + i, b + i, k);
		top_block(&ta, a + i, i, k, s.max_a);
		top_block(&tb, b + i, i, k, s.max_b);
		if (s.max_d > m->max_abs || m->max_abs_at < 0) {
			m->max_abs = s.max_d;
			m->max_abs_at = first_at(a, b, i, k, s.max_d);
		}
	}
	m->bits_equal = s.bits == 0;
	m->max_ulp = s.max_ulp;
	fill_ranks(m, a, b, n, &ta, &tb);
	if (s.nonfinite) {
		m->n_nonfinite_ours = count_nonfinite(a, n);
		m->n_nonfinite_ref = count_nonfinite(b, n);
		spoil(m);
		return;
	}
	fill_sums(m, &s);
	fill_kl(m, &kernels, a, b, n, (double)ta.value[0], (double)tb.value[0]);
}

int metrics_top(int32_t *ids, int k, const float *x, int n)
{
	struct top t = {.n = 0};

	assert(k >= 1 && k <= METRICS_TOP_MAX);
	for (int i = 0; i < n; i++)
		if (x[i] == x[i])
			top_insert(&t, k, x[i], i);
	for (int i = 0; i < t.n; i++)
		ids[i] = t.id[i];
	return t.n;
}

double metrics_log_prob(const float *x, int n, int32_t id)
{
	struct kernels kernels = pick();
	struct metrics_exps s = {0};
	double max = (double)x[0];

	assert(id >= 0 && id < n);
	for (int i = 1; i < n; i++)
		max = (double)x[i] > max ? (double)x[i] : max;
	for (int i = 0; i < n; i += METRICS_BLOCK)
		kernels.exps(&s, x + i, x + i, n - i < METRICS_BLOCK ? n - i : METRICS_BLOCK, max,
			     max);
	return ((double)x[id] - max) - log(s.b);
}
