#include "engine_check.h"

#include "sweep/trace_frame.h"
#include "verdict/metrics.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A trace is float32: an engine that computes wider gets its own values back rounded. */
static const double rounding = 1e-9;

static bool record_fault(const struct engine_check *k, const struct probe_trace *t, char *out,
			 size_t size)
{
	struct trace_record want, got = t->r;
	const char *fault;

	if (t->stage < 0)
		return snprintf(out, size, "record \"%s\" has a stage that is not canonical",
				t->r.name) > 0;
	if (t->r.layer < -1 || t->r.layer >= k->n_layer)
		return snprintf(out, size, "record \"%s\" is of layer %d, the model has %d",
				t->r.name, t->r.layer, k->n_layer) > 0;
	got.stage = (enum trace_stage)t->stage;
	fault = trace_record_fault(&got);
	if (fault)
		return snprintf(out, size, "record \"%s\": %s", t->r.name, fault) > 0;
	if (t->r.shape[0] > k->n_ids)
		return snprintf(out, size, "record \"%s\" has %lld rows for %d positions: shape= is "
				"positions first", t->r.name, (long long)t->r.shape[0], k->n_ids) > 0;
	if (t->r.num_elements != t->n_got || !t->in_order)
		return snprintf(out, size, "record \"%s\": n=%lld, %lld values arrived%s", t->r.name,
				(long long)t->r.num_elements, (long long)t->n_got,
				t->in_order ? "" : " out of order") > 0;
	trace_describe(&want, (enum trace_stage)t->stage, t->r.layer, t->r.seq, t->r.dtype,
		       t->r.n_dims, t->r.shape, t->values);
	if (strcmp(want.name, t->r.name) != 0)
		return snprintf(out, size, "record \"%s\" should be named \"%s\"", t->r.name,
				want.name) > 0;
	if (*t->r.blake3 && strcmp(want.blake3, t->r.blake3) != 0)
		return snprintf(out, size, "record \"%s\": blake3 is not that of its values",
				t->r.name) > 0;
	if (t->r.rms >= 0 && fabs(want.rms - t->r.rms) > 1e-6 * want.rms)
		return snprintf(out, size, "record \"%s\": rms=%g, of its values %g", t->r.name,
				t->r.rms, want.rms) > 0;
	return false;
}

static bool traces_fault(const struct engine_check *k, const struct probe_answer *a, char *out,
			 size_t size)
{
	const struct probe_trace *logits = probe_find(a, STAGE_LOGITS, -1);

	if (a->n_traces == 0)
		return snprintf(out, size, "trace=all brought no record") > 0;
	for (int i = 0; i < a->n_traces; i++)
		if (record_fault(k, &a->traces[i], out, size))
			return true;
	if (logits &&
	    (logits->n_got != (int64_t)k->n_ids * k->n_vocab ||
	     memcmp(logits->values + (ptrdiff_t)(k->n_ids - 1) * k->n_vocab,
		    a->rows[k->n_ids - 1].values, (size_t)k->n_vocab * sizeof(float)) != 0))
		return snprintf(out, size, "the traced logits are not those that were answered") >
		       0;
	return false;
}

void check_traces(struct engine_check *k)
{
	struct wire_builder b = {0};
	char why[256];

	if (!check_has(k, "trace")) {
		check_say(k, CHECK_ABSENT, "traces",
			  "not offered: trace-diff and explain need them");
		return;
	}
	check_begin(k, &b, k->n_ids);
	wire_put(&b, "trace", "all");
	wire_put(&b, "values", "1");
	check_body(k, &b, k->n_ids);
	if (!check_ask(k, "traces", &b, &k->traced))
		goto out;
	if (check_rows_fault(k, &k->traced, k->n_ids, why, sizeof(why)) ||
	    traces_fault(k, &k->traced, why, sizeof(why))) {
		check_say(k, CHECK_FAILED, "traces", "%s", why);
	} else if (check_distance(&k->traced, &k->base, k->n_ids, k->n_vocab) > 0) {
		check_say(k, CHECK_WARN, "traces", "%d records; tracing changes the logits",
			  k->traced.n_traces);
		k->has_trace = true;
	} else {
		check_say(k, CHECK_OK, "traces", "%d records, logits unchanged by tracing",
			  k->traced.n_traces);
		k->has_trace = true;
	}
out:
	wire_builder_free(&b);
}

static void judge(struct engine_check *k, const char *step, const char *what, double nmse)
{
	if (nmse == 0)
		check_say(k, CHECK_OK, step, "%s: equal to the bit", what);
	else
		check_say(k, nmse <= rounding ? CHECK_OK : CHECK_FAILED, step, "%s: NMSE %.2g%s",
			  what, nmse, nmse <= rounding ? "" : ", expected none");
}

void check_splice(struct engine_check *k)
{
	const struct probe_trace *own = probe_find(&k->traced, STAGE_LAYER_OUT, 0);
	struct wire_builder b = {0};
	struct probe_answer a;
	char why[256];

	if (!check_has(k, "splice") || !k->has_trace || !own) {
		check_say(k, CHECK_ABSENT, "splice", "not offered%s",
			  check_has(k, "splice") ? ": it needs traces of layer_out" : "");
		return;
	}
	check_begin(k, &b, k->n_ids);
	wire_put(&b, "splice_layer", "0");
	wire_body(&b, k->ids, (size_t)k->n_ids * sizeof(k->ids[0]));
	wire_body(&b, own->values, (size_t)own->n_got * sizeof(float));
	wire_finish(&b, NULL);
	if (!check_ask(k, "splice", &b, &a))
		goto out;
	if (check_rows_fault(k, &a, k->n_ids, why, sizeof(why)))
		check_say(k, CHECK_FAILED, "splice", "%s", why);
	else
		judge(k, "splice", "its own layer 0 put back in its place",
		      check_distance(&a, &k->base, k->n_ids, k->n_vocab));
	probe_free(&a);
out:
	wire_builder_free(&b);
}

void check_replay(struct engine_check *k)
{
	const struct probe_trace *gate = probe_find(&k->traced, STAGE_FFN_GATE, 0);
	const struct probe_trace *up = probe_find(&k->traced, STAGE_FFN_UP, 0);
	const struct probe_trace *want = probe_find(&k->traced, STAGE_FFN_ACT, 0);
	const struct probe_trace *got;
	struct wire_builder b = {0};
	struct probe_answer a;

	if (!check_has(k, "replay") || !k->has_trace || !gate || !up || !want) {
		check_say(k, CHECK_ABSENT, "replay", "not offered%s",
			  check_has(k, "replay") ? ": it needs traces of ffn_gate, ffn_up, ffn_act"
						 : ": explain replays on the other side only");
		return;
	}
	wire_begin(&b, WIRE_REPLAY);
	wire_put(&b, "layer", "0");
	wire_put(&b, "stage", "ffn_act");
	wire_put(&b, "pos0", "0");
	wire_put(&b, "n_tokens", "%d", k->n_ids);
	wire_put(&b, "inputs", "ffn_gate:%lld,ffn_up:%lld", (long long)gate->n_got,
		 (long long)up->n_got);
	wire_body(&b, gate->values, (size_t)gate->n_got * sizeof(float));
	wire_body(&b, up->values, (size_t)up->n_got * sizeof(float));
	wire_finish(&b, NULL);
	if (!check_ask(k, "replay", &b, &a))
		goto out;
	got = probe_find(&a, STAGE_FFN_ACT, 0);
	if (a.type != WIRE_DONE || !got || got->n_got != want->n_got) {
		check_say(k, CHECK_FAILED, "replay", "%s %s with %lld values, expected %lld",
			  wire_type_name(a.type), a.sentence, got ? (long long)got->n_got : 0,
			  (long long)want->n_got);
	} else if (got->n_got <= INT_MAX) {
		struct metrics m;

		metrics_compare(&m, got->values, want->values, (int)got->n_got);
		judge(k, "replay", "ffn_act on its own inputs",
		      m.bits_equal ? 0 : m.nmse > 0 ? m.nmse : 1e-300);
	}
	probe_free(&a);
out:
	wire_builder_free(&b);
}
