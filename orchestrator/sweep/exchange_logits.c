#include "exchange.h"

#include "engines.h"
#include "exchange_internal.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int exchange_first_position(const struct exchange *x)
{
	return x->setup->only_last && x->sides[0].n_ids > 0 ? x->sides[0].n_ids - 1 : 0;
}

static int positions_wanted(const struct exchange *x)
{
	int more = x->scenario->max_new_tokens;

	return x->sides[0].n_ids + (more > 1 ? more - 1 : 0) - exchange_first_position(x);
}

/* What the side says it computes, else what its self-check found. */
static void profile_of(const struct exchange *x, struct lane *l, int side, char *out, size_t size)
{
	out[0] = '\0';
	exchange_fact(lane_opened(l, side), "profile", out, size);
	if (!*out)
		engine_profile(x->sides[side].engine, out, size);
}

/* "type:count …" of the first side that says it so; a reference may describe them in words. */
static void weights_of(const struct exchange *x, struct lane *l, char *out, size_t size)
{
	for (int i = 0; i < x->n_sides; i++) {
		out[0] = '\0';
		exchange_fact(lane_opened(l, i), "weights", out, size);
		if (strchr(out, ':'))
			return;
	}
}

static bool pick_thresholds(struct exchange *x, struct lane *l)
{
	const struct exchange_setup *u = x->setup;
	const char *set = *x->scenario->thresholds ? x->scenario->thresholds : u->thresholds_set;
	struct thresholds t;
	struct err e = ERR_NONE;
	char weights[512] = "", ours[64] = "", ref[64] = "", arch[64];

	profile_of(x, l, 0, ours, sizeof(ours));
	profile_of(x, l, x->n_sides - 1, ref, sizeof(ref));
	set = thresholds_choose(set, ours, ref);
	if (*u->weights)
		snprintf(weights, sizeof(weights), "%s", u->weights);
	else
		weights_of(x, l, weights, sizeof(weights));
	snprintf(arch, sizeof(arch), "%s", u->arch);
	for (int i = 0; i < x->n_sides && !*arch; i++)
		exchange_fact(lane_opened(l, i), "arch", arch, sizeof(arch));
	if (u->cos_tol > 0 && !*x->scenario->thresholds) {
		thresholds_cosine(&t, u->cos_tol);
	} else if (thresholds_load(&t, u->thresholds_text, u->thresholds_bytes, u->thresholds_path,
				   set, weights, arch, &e) < 0) {
		exchange_end(x, l, VERDICT_FAILED, e.code, "%s", e.msg);
		return false;
	}
	compare_init(&x->comparison, &t);
	return true;
}

void exchange_ask_logits(struct exchange *x, struct lane *l)
{
	struct wire_builder b = {0};

	if (!pick_thresholds(x, l))
		return;
	for (int i = 0; i < x->n_sides; i++)
		x->sides[i].n_vocab = (int)exchange_fact_int(lane_opened(l, i), "n_vocab", 0);
	for (int i = 0; i < x->n_sides && x->step != EXCHANGE_OVER; i++) {
		const struct exchange_side *s = &x->sides[i];

		wire_begin(&b, WIRE_EVALUATE);
		wire_put(&b, "logits", x->setup->only_last ? "last" : "all");
		wire_put(&b, "greedy", "%d", x->scenario->max_new_tokens);
		wire_put(&b, "seed", "%llu", (unsigned long long)x->scenario->seed);
		if (x->setup->batch)
			wire_put(&b, "batch", "%d", x->setup->batch);
		wire_put(&b, "tokens", "%d", s->n_ids);
		wire_body(&b, s->ids, (size_t)s->n_ids * sizeof(*s->ids));
		exchange_ask(x, l, i, &b);
	}
	wire_builder_free(&b);
}

static void hash_logits(struct exchange *x, int side, const float *values)
{
	hasher_add(x->hasher, side, values, (size_t)x->sides[side].n_vocab * sizeof(*values));
}

/* As long as all bits were the same, so are the digests: one side's is enough. */
static void hash_both(struct exchange *x, const float *ours, const float *ref, bool same)
{
	if (same && x->comparison.n_bits_equal == x->comparison.n) {
		hasher_add_both(x->hasher, ours, (size_t)x->sides[0].n_vocab * sizeof(*ours));
		return;
	}
	hash_logits(x, 0, ours);
	hash_logits(x, 1, ref);
}

static void compare_position(struct exchange *x, const float *ours, const float *ref, int pos,
			     int step, int32_t token_ours, int32_t token_ref)
{
	bool more = x->scenario->max_new_tokens > 0;
	struct metrics m;

	metrics_compare(&m, ours, ref, x->sides[0].n_vocab);
	if (x->setup->on_logits)
		x->setup->on_logits(x->setup->logits_ctx, x, pos, &m, ours, ref);
	compare_add(&x->comparison, pos, step, &m, more ? token_ours : -1, more ? token_ref : -1);
	hash_both(x, ours, ref, m.bits_equal);
}

static void hold(struct exchange_side *s, const float *values, int step, int32_t token)
{
	struct held *h = &s->held[s->n_held++];

	if (!h->values)
		h->values = malloc((size_t)s->n_vocab * sizeof(*values));
	assert(h->values);
	memcpy(h->values, values, (size_t)s->n_vocab * sizeof(*values));
	h->step = step;
	h->token = token;
}

static void drop_first(struct exchange_side *s)
{
	struct held first = s->held[0];

	s->n_held--;
	for (int i = 0; i < s->n_held; i++)
		s->held[i] = s->held[i + 1];
	s->held[s->n_held] = first;	/* its buffer is used again */
}

static bool logits_fit(struct exchange *x, struct lane *l, int side, const struct wire_frame *f)
{
	const struct exchange_side *s = &x->sides[side];
	int64_t pos = wire_get_int(f, "pos", -1), step = wire_get_int(f, "step", -1);
	int64_t want_pos = exchange_first_position(x) + s->n_positions;
	int64_t want_step = want_pos < s->n_ids ? 0 : want_pos - s->n_ids + 1;

	if (s->n_positions >= positions_wanted(x))
		exchange_broken(x, l, side, "more than the %d positions asked for",
				positions_wanted(x));
	else if (pos < 0)
		exchange_broken(x, l, side, "LOGITS without pos= where position %lld was expected",
				(long long)want_pos);
	else if (pos != want_pos)
		exchange_broken(x, l, side, "LOGITS of position %lld where %lld was expected",
				(long long)pos, (long long)want_pos);
	else if (step != want_step)
		exchange_broken(x, l, side, "LOGITS of position %lld say step %lld, expected %lld",
		       (long long)pos, (long long)step, (long long)want_step);
	else if (f->body_bytes != (size_t)s->n_vocab * sizeof(float))
		exchange_broken(x, l, side, "LOGITS of %zu bytes where %d values were expected",
				f->body_bytes, s->n_vocab);
	return x->step != EXCHANGE_OVER;
}

bool exchange_chose_badly(const float *logits, int n_vocab, int32_t id, char *why, size_t size)
{
	int32_t best = id >= 0 && id < n_vocab ? id : 0;

	for (int i = 0; i < n_vocab; i++) {
		if (logits[i] != logits[i])	/* there is no maximum: that is found as a divergence */
			return false;
		if (logits[i] > logits[best] || (i < best && logits[i] == logits[best]))
			best = i;
	}
	if (best == id)
		return false;
	snprintf(why, size, "chose id %d (logit %.9g), but the first maximum of its logits is id %d (%.9g)",
		 (int)id, id >= 0 && id < n_vocab ? (double)logits[id] : (double)NAN, (int)best,
		 (double)logits[best]);
	return true;
}

/* Greedy decoding names the first maximum; a compact recording's logits are not quite those it chose by. */
static bool choice_fits(struct exchange *x, struct lane *l, int side, const float *values,
			int64_t token)
{
	const struct exchange_side *s = &x->sides[side];
	int pos = exchange_first_position(x) + s->n_positions;
	char why[200];

	if (x->scenario->max_new_tokens == 0 || pos + 1 < s->n_ids)
		return true;
	if (token < 0 || token >= s->n_vocab)
		exchange_broken(x, l, side, "LOGITS of position %d name %s; greedy=%d asks for the id "
				"chosen after it, token=0 to token=%d",
				pos, token < 0 ? "no token=" : "a token= outside the vocabulary",
				x->scenario->max_new_tokens, s->n_vocab - 1);
	else if (strncmp(s->engine, "recorded:", 9) != 0 &&
		 exchange_chose_badly(values, s->n_vocab, (int32_t)token, why, sizeof(why)))
		exchange_broken(x, l, side, "position %d %s; greedy=%d asks for that", pos, why,
				x->scenario->max_new_tokens);
	return x->step != EXCHANGE_OVER;
}

static void keep_greedy(struct exchange_side *s, int32_t token)
{
	s->greedy = realloc(s->greedy, (size_t)(s->n_greedy + 1) * sizeof(*s->greedy));
	assert(s->greedy);
	s->greedy[s->n_greedy++] = token;
}

/* Compares what both sides have; else holds it. May end in the other side's frames. */
static void meet(struct exchange *x, struct lane *l, int side, const float *values, int step,
		 int32_t token)
{
	struct exchange_side *s = &x->sides[side], *o = &x->sides[1 - side];
	int pos = exchange_first_position(x) + s->n_positions - 1;

	if (o->n_held == 0) {
		hold(s, values, step, token);
		if (s->n_held == EXCHANGE_AHEAD)
			lane_pause(l, side);
		return;
	}
	if (side == EXCHANGE_OURS)
		compare_position(x, values, o->held[0].values, pos, step, token, o->held[0].token);
	else
		compare_position(x, o->held[0].values, values, pos, step, o->held[0].token, token);
	drop_first(o);
	if (x->comparison.flip_step < 0)
		return;
	for (; o->n_held > 0; drop_first(o))	/* these have no counterpart any more */
		hash_logits(x, 1 - side, o->held[0].values);
}

void exchange_take_logits(struct exchange *x, struct lane *l, int side, const struct wire_frame *f)
{
	struct exchange_side *s = &x->sides[side];
	const float *values = (const float *)(const void *)f->body;
	int64_t token, start_us;
	bool flipped = x->comparison.flip_step >= 0;

	if (!logits_fit(x, l, side, f))
		return;
	start_us = now_us();
	token = wire_get_int(f, "token", -1);
	if (!choice_fits(x, l, side, values, token))
		return;
	if (exchange_first_position(x) + s->n_positions + 1 < s->n_ids)
		token = -1;
	s->n_positions++;
	if (x->n_sides == 1 || flipped)
		hash_logits(x, side, values);
	if (token >= 0 && x->scenario->max_new_tokens > 0)
		keep_greedy(s, (int32_t)token);
	if (x->n_sides == 2 && !flipped)
		meet(x, l, side, values, (int)wire_get_int(f, "step", 0), (int32_t)token);
	x->compare_us += now_us() - start_us;
	if (x->n_sides == 2 && lane_paused(l, 1 - side) &&
	    (x->sides[1 - side].n_held < EXCHANGE_AHEAD || x->comparison.flip_step >= 0))
		lane_resume(l, 1 - side);
}

void exchange_take_done(struct exchange *x, struct lane *l, int side, const struct wire_frame *f)
{
	struct exchange_side *s = &x->sides[side];

	if (s->n_positions != positions_wanted(x)) {
		exchange_broken(x, l, side, "DONE after %d positions where %d were expected",
				s->n_positions, positions_wanted(x));
		return;
	}
	if (wire_get_int(f, "n_pos", -1) != s->n_positions) {
		exchange_broken(x, l, side, "DONE says n_pos=%lld after %d positions",
				(long long)wire_get_int(f, "n_pos", -1), s->n_positions);
		return;
	}
	s->finished = true;
	s->eval_us = wire_get_int(f, "eval_us", -1);
	s->done = malloc(f->header_bytes + 1);
	assert(s->done);
	memcpy(s->done, f->header, f->header_bytes);
	s->done[f->header_bytes] = '\0';
}

void exchange_judge(struct exchange *x, struct lane *l)
{
	enum verdict v;
	char sentence[ERR_MSG_MAX];

	if (x->n_sides == 1) {
		exchange_end(x, l, VERDICT_NOT_RUN, EXIT_AGREE,
			     "%s evaluated %d positions; nothing to compare "
			     "with",
			     x->sides[0].engine, x->sides[0].n_positions);
		return;
	}
	v = compare_decide(&x->comparison);
	compare_explain(&x->comparison, sentence, sizeof(sentence));
	exchange_end(x, l, v, verdict_exit_code(v), "%s", sentence);
}
