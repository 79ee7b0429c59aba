/*
 * A real worker that is slower by a known share: native, but before each answer that evaluate gives
 * it spins for SLOW_PERCENT percent of the time that passed since the last one. What bench,
 * check-perf and bench-compare have to find, and what they must not call a regression.
 */
#include "engine.h"

#include <stdint.h>
#include <time.h>

#include "../workers/main.c"

extern const struct engine_ops engine_native;
static struct engine_ops slow;
const struct engine_ops *const engine_table[] = {&slow, NULL};
const struct worker_traits worker_traits = {.stack_bytes = 0};

static double share;

struct slowed {
	const struct engine_eval *q;
	int64_t since;
};

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void spin(struct slowed *s)
{
	int64_t now = now_ns(), until = now + (int64_t)((double)(now - s->since) * share);

	while (now < until)
		now = now_ns();
}

static int on_logits(void *ctx, int pos, int step, int32_t token, const float *logits)
{
	struct slowed *s = ctx;
	int r;

	spin(s);
	r = s->q->on_logits(s->q->ctx, pos, step, token, logits);
	s->since = now_ns();
	return r;
}

static int evaluate(struct engine *g, const struct engine_eval *q, struct err *e)
{
	struct slowed s = {.q = q, .since = now_ns()};
	struct engine_eval inner = *q;

	if (share <= 0 || q->trace_stages)
		return engine_native.evaluate(g, q, e);
	inner.on_logits = on_logits;
	inner.ctx = &s;
	return engine_native.evaluate(g, &inner, e);
}

__attribute__((constructor)) static void fill_in(void)
{
	const char *percent = getenv("SLOW_PERCENT");

	share = percent ? strtod(percent, NULL) / 100 : 0;
	slow = engine_native;
	slow.evaluate = evaluate;
}
