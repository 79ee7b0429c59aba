#include "forward.h"
#include "sample.h"

#include <string.h>

struct run {
	struct session *s;
	const struct engine_eval *q;
	struct sampler sampler;
	int pos0, step;
	int last;		/* row of this call after which a token is chosen, or −1 */
	int32_t chosen;
};

static int on_row(void *ctx, int row, const float *logits)
{
	struct run *r = ctx;
	int32_t token = -1;
	if (row == r->last)
		token = r->chosen = sampler_choose(&r->sampler, logits);
	if (!r->q->on_logits)
		return 0;
	if (r->q->logits == ENGINE_LOGITS_NONE && token < 0)
		logits = NULL;
	return r->q->on_logits(r->q->ctx, r->pos0 + row, r->step, token, logits);
}

static int run_call(struct run *r, const int32_t *tokens, int n, bool last, struct err *e)
{
	const struct engine_eval *q = r->q;
	const bool choose = last && q->n_greedy > 0;
	struct forward_call c = {
		.tokens = tokens, .n = n, .pos0 = r->pos0, .seq = r->step, .first_out = n,
		.trace_stages = q->on_trace ? q->trace_stages : 0, .trace_values = q->trace_values,
		.on_trace = q->on_trace, .ctx = q->ctx, .splice_layer = q->splice_layer,
	};
	if (q->splice && r->step == 0)
		c.splice = q->splice + (int64_t)r->pos0 * r->s->m->hp.n_embd;
	if (q->logits == ENGINE_LOGITS_ALL)
		c.first_out = 0;
	else if (choose || (last && q->logits == ENGINE_LOGITS_LAST))
		c.first_out = n - 1;
	r->last = choose ? n - 1 : -1;
	int rc = forward_run(r->s, &c, on_row, r, e);
	r->pos0 += n;
	return rc;
}

static int run_prompt(struct run *r, struct err *e)
{
	const struct engine_eval *q = r->q;
	const int batch = q->batch > 0 ? q->batch : q->n_tokens;
	for (int b0 = 0; b0 < q->n_tokens; b0 += batch) {
		int b1 = q->n_tokens - b0 < batch ? q->n_tokens : b0 + batch;
		for (int u0 = b0; u0 < b1; u0 += r->s->n_ubatch) {
			int n = b1 - u0 < r->s->n_ubatch ? b1 - u0 : r->s->n_ubatch;
			int rc = run_call(r, q->tokens + u0, n, u0 + n == q->n_tokens, e);
			if (rc != 0)
				return rc;
		}
	}
	return 0;
}

static bool is_stop(const struct engine_eval *q, int32_t id)
{
	for (int i = 0; i < q->n_stops; i++)
		if (q->stops[i] == id)
			return true;
	return false;
}

static int check_request(const struct session *s, const struct engine_eval *q, struct err *e)
{
	const int last = q->n_greedy > 1 ? q->n_greedy - 1 : 0;
	if (q->n_tokens < 1)
		return err_set(e, EXIT_INFERENCE, "there is no token to evaluate");
	if (q->n_tokens > s->n_ctx || last > s->n_ctx - q->n_tokens)
		return err_set(
			e, EXIT_INFERENCE,
			"%d prompt tokens and %d more to decode do not fit the context of %d positions; "
			"open the model with a larger one",
			q->n_tokens, last, s->n_ctx);
	if (q->splice && (q->splice_layer < -1 || q->splice_layer >= s->m->hp.n_layer))
		return err_set(e, EXIT_USAGE, "splice layer %d; the model has layers 0 to %d",
			       q->splice_layer, s->m->hp.n_layer - 1);
	return 0;
}

int forward_evaluate(struct session *s, const struct engine_eval *q, struct err *e)
{
	struct run r = {.s = s, .q = q};
	int rc = check_request(s, q, e);
	if (rc == 0)
		rc = sampler_init(&r.sampler, s->m->hp.n_vocab, q->temperature, q->top_k, q->top_p,
				  q->seed, e);
	if (rc == 0)
		rc = session_reserve(s, q->n_tokens + (q->n_greedy > 1 ? q->n_greedy - 1 : 0), e);
	if (rc == 0)
		rc = run_prompt(&r, e);
	for (int i = 1; rc == 0 && i < q->n_greedy && !is_stop(q, r.chosen); i++) {
		int32_t token = r.chosen;
		r.step = i;
		rc = run_call(&r, &token, 1, true, e);
	}
	sampler_free(&r.sampler);
	return rc;
}
