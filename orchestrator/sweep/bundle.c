#include "bundle.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- base64 ------------------------------------------------------------------------------- */

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static json_t *encode(const float *x, int64_t n)
{
	const uint8_t *p = (const uint8_t *)x;
	size_t bytes = (size_t)n * sizeof(*x), k = 0;
	char *text = malloc(bytes / 3 * 4 + 8);
	json_t *o;

	assert(text);
	for (size_t i = 0; i < bytes; i += 3) {
		uint32_t v = (uint32_t)p[i] << 16 | (i + 1 < bytes ? (uint32_t)p[i + 1] << 8 : 0) |
			     (i + 2 < bytes ? p[i + 2] : 0);

		text[k++] = digits[v >> 18];
		text[k++] = digits[v >> 12 & 63];
		text[k++] = i + 1 < bytes ? digits[v >> 6 & 63] : '=';
		text[k++] = i + 2 < bytes ? digits[v & 63] : '=';
	}
	o = json_stringn(text, k);
	free(text);
	return o;
}

static float *decode(const json_t *o, int64_t *n)
{
	const char *text = json_string_value(o);
	size_t length = text ? strlen(text) : 0, at = 0;
	uint8_t *out = malloc(length / 4 * 3 + 8);
	uint32_t v = 0;
	int have = 0;

	assert(out);
	for (size_t i = 0; i < length && text[i] != '='; i++) {
		const char *d = strchr(digits, text[i]);

		if (!d)
			break;
		v = v << 6 | (uint32_t)(d - digits);
		if (++have == 4) {
			out[at++] = (uint8_t)(v >> 16);
			out[at++] = (uint8_t)(v >> 8);
			out[at++] = (uint8_t)v;
			have = 0;
			v = 0;
		}
	}
	if (have == 3) {
		out[at++] = (uint8_t)(v >> 10);
		out[at++] = (uint8_t)(v >> 2);
	} else if (have == 2) {
		out[at++] = (uint8_t)(v >> 4);
	}
	*n = (int64_t)(at / sizeof(float));
	return (float *)(void *)out;
}

/* ---- making ------------------------------------------------------------------------------- */

/* The rows of one weight that are wanted, out of the parts as they come. */
struct slice {
	int64_t n_in, channel[BUNDLE_CHANNELS];
	int n;
	float *x;	/* [n, n_in] */
};

static int take_part(void *ctx, const struct wire_frame *f, struct err *e)
{
	struct slice *s = ctx;
	int64_t at, n;

	(void)e;
	if (f->type != WIRE_WEIGHT)
		return 0;
	at = wire_get_int(f, "offset", 0);
	n = (int64_t)(f->body_bytes / sizeof(float));
	for (int i = 0; i < s->n; i++)
		for (int64_t k = 0; k < s->n_in; k++) {
			int64_t from = s->channel[i] * s->n_in + k - at;

			if (from >= 0 && from < n)
				memcpy(&s->x[i * s->n_in + k],
				       f->body + (size_t)from * sizeof(float), sizeof(float));
		}
	return 0;
}

static const char *weight_suffix(enum trace_stage s)
{
	switch (s) {
	case STAGE_Q:
		return "attn_q";
	case STAGE_K:
		return "attn_k";
	case STAGE_V:
		return "attn_v";
	case STAGE_ATTN_O:
		return "attn_output";
	case STAGE_FFN_GATE:
		return "ffn_gate";
	case STAGE_FFN_UP:
		return "ffn_up";
	case STAGE_FFN_DOWN:
		return "ffn_down";
	default:
		return NULL;
	}
}

static void add_weights(json_t *b, const struct finding *f, struct side *native, const float *got,
			const float *replayed, int64_t width, int64_t n_in)
{
	const char *suffix = weight_suffix(f->stage);
	struct slice s = {.n_in = n_in};
	struct err ignored = ERR_NONE;
	json_t *channels = json_array();
	char name[96];

	if (!suffix || !native || !native->has_weights) {
		json_decref(channels);
		return;
	}
	for (int i = 0; i < BUNDLE_CHANNELS && i < width; i++) {
		double most = -1;

		for (int64_t c = 0; c < width; c++) {
			double off = fabs((double)got[c] - (double)replayed[c]);
			bool taken = false;

			for (int k = 0; k < s.n; k++)
				taken |= s.channel[k] == c;
			if (!taken && off > most) {
				most = off;
				s.channel[i] = c;
			}
		}
		s.n = i + 1;
		json_array_append_new(channels, json_integer(s.channel[i]));
	}
	s.x = calloc((size_t)(s.n * n_in), sizeof(float));
	assert(s.x);
	snprintf(name, sizeof(name), "blk.%d.%s.weight", f->layer, suffix);
	wire_begin(&native->request, WIRE_WEIGHTS);
	wire_put(&native->request, "name", "%s", name);
	wire_put(&native->request, "values", "1");
	if (wire_finish(&native->request, &ignored) == 0 &&
	    client_call(native->client, &native->request, take_part, &s, &ignored) == 0) {
		json_object_set_new(b, "weight", json_string(name));
		json_object_set_new(b, "channels", json_incref(channels));
		json_object_set_new(b, "weights", encode(s.x, s.n * n_in));
	}
	json_decref(channels);
	free(s.x);
}

static void add_truth(json_t *b, const struct local_seen *s, struct side *oracle, int64_t row,
		      int64_t width)
{
	struct side_op op = s->op;
	struct err ignored = ERR_NONE;
	float *truth = NULL;
	int64_t n = 0;

	if (oracle && side_replay(oracle, &op, &truth, &n, &ignored) == 0 && n == s->n)
		json_object_set_new(b, "float64", encode(truth + row * width, width));
	free(truth);
}

json_t *bundle_make(const struct diagnosis *d, const struct finding *f, const struct local_seen *s,
		    struct side *oracle, struct side *native)
{
	int64_t width = s->n / s->op.n_rows,
		row = s->row->diff.worst < 0 ? 0 : s->row->diff.worst / width;
	const char *source = f->own ? d->local.own.source : d->local.reference.source;
	json_t *b = json_object(), *inputs = json_array();
	char *text;
	bool fits;

	json_object_set_new(b, "kind", json_string("assay-bundle-1"));
	json_object_set_new(b, "source", json_string(source));
	json_object_set_new(b, "replayer", json_string(d->local.own.replayer));
	json_object_set_new(b, "stage", json_string(trace_stage_name(f->stage)));
	json_object_set_new(b, "layer", json_integer(f->layer));
	json_object_set_new(b, "position", json_integer(s->op.pos0 + row));
	json_object_set_new(b, "bound", json_real(f->bound));
	json_object_set_new(b, "variant", json_string(f->variant));
	json_object_set_new(b, "meaning", json_string(f->hypothesis ? f->hypothesis->meaning : ""));
	for (int i = 0; i < s->op.n_inputs; i++) {
		bool whole = s->op.input_stage[i] == STAGE_K_ROPE ||
			     (s->op.input_stage[i] == STAGE_V && f->stage != STAGE_V);
		int64_t n =
			whole ? s->op.input_elements[i] : s->op.input_elements[i] / s->op.n_rows;
		json_t *o = json_object();

		json_object_set_new(o, "stage",
				    json_string(trace_stage_name(s->op.input_stage[i])));
		json_object_set_new(o, "values", encode(s->op.input[i] + (whole ? 0 : row * n), n));
		json_array_append_new(inputs, o);
	}
	json_object_set_new(b, "inputs", inputs);
	json_object_set_new(b, "source_output", encode(s->got + row * width, width));
	json_object_set_new(b, "replayer_output", encode(s->replayed + row * width, width));
	add_truth(b, s, oracle, row, width);
	if (s->op.n_inputs == 1)
		add_weights(b, f, native, s->got + row * width, s->replayed + row * width, width,
			    s->op.input_elements[0] / s->op.n_rows);
	text = json_dumps(b, JSON_COMPACT);
	fits = text && strlen(text) < BUNDLE_BYTES_MAX;
	free(text);
	if (fits)
		return b;
	json_decref(b);
	return NULL;
}

/* ---- replaying ---------------------------------------------------------------------------- */

struct opened {
	const json_t *b;
	enum trace_stage stage;
	float *input[LOCAL_INPUTS_MAX];
	int64_t n_input[LOCAL_INPUTS_MAX];
	int n_inputs;
	float *source, *replayer, *truth;
	int64_t n, n_truth;
};

static int open_bundle(struct opened *o, const json_t *b, struct err *e)
{
	const char *kind = json_string_value(json_object_get(b, "kind"));
	const char *stage = json_string_value(json_object_get(b, "stage"));
	const json_t *inputs = json_object_get(b, "inputs");
	int64_t n;

	*o = (struct opened){.b = b};
	if (!kind || strcmp(kind, "assay-bundle-1") != 0 || !stage ||
	    trace_stage_by_name(stage) < 0 || json_array_size(inputs) > LOCAL_INPUTS_MAX)
		return err_set(e, EXIT_USAGE, "this is no bundle of `assay explain --bundle`");
	o->stage = (enum trace_stage)trace_stage_by_name(stage);
	for (size_t i = 0; i < json_array_size(inputs); i++, o->n_inputs++)
		o->input[i] = decode(json_object_get(json_array_get(inputs, i), "values"),
				     &o->n_input[i]);
	o->source = decode(json_object_get(b, "source_output"), &o->n);
	o->replayer = decode(json_object_get(b, "replayer_output"), &n);
	o->truth = decode(json_object_get(b, "float64"), &o->n_truth);
	if (o->n < 1 || n != o->n || (o->n_truth && o->n_truth != o->n))
		return err_set(e, EXIT_USAGE, "the bundle's outputs are cut");
	return 0;
}

static void close_bundle(struct opened *o)
{
	for (int i = 0; i < LOCAL_INPUTS_MAX; i++)
		free(o->input[i]);
	free(o->source);
	free(o->replayer);
	free(o->truth);
}

/* Σ w·x of one channel, and what both sides have. */
static void print_channels(const struct opened *o, FILE *out)
{
	const json_t *channels = json_object_get(o->b, "channels");
	int64_t n, n_in = o->n_input[0];
	float *w = decode(json_object_get(o->b, "weights"), &n);

	for (size_t i = 0; i < json_array_size(channels) && (int64_t)(i + 1) * n_in <= n; i++) {
		int64_t c = json_integer_value(json_array_get(channels, i));
		double sum = 0;

		for (int64_t k = 0; k < n_in; k++)
			sum += (double)w[(int64_t)i * n_in + k] * (double)o->input[0][k];
		if (c >= 0 && c < o->n)
			fprintf(out,
				"  channel %lld of %s: computed again %.9g, source %.9g, replayer %.9g\n",
				(long long)c, json_string_value(json_object_get(o->b, "weight")),
				sum, (double)o->source[c], (double)o->replayer[c]);
	}
	free(w);
}

static bool recompute(const struct opened *o, const char *how, float *to)
{
	for (int i = 0; i < o->n_inputs; i++)
		if (o->n_input[i] != o->n)
			return false;
	for (int64_t i = 0; i < o->n && o->n_inputs == 2; i++) {
		double a = (double)o->input[0][i], b = (double)o->input[1][i], r = a > 0 ? a : 0;

		if (local_kind_of(o->stage) == LOCAL_ADD)
			to[i] = (float)(a + b);
		else if (o->stage == STAGE_FFN_ACT)
			to[i] = (float)(strcmp(how, "silu") == 0 ? a / (1 + exp(-a)) * b
								 : r * r * b);
		else
			return false;
	}
	return o->n_inputs == 2;
}

static double off(const float *a, const float *b, int64_t n)
{
	struct tensor_diff d;

	tensor_diff(&d, a, b, n, 1);
	return d.rel_rms;
}

int bundle_replay(const json_t *b, FILE *out, struct err *e)
{
	static const char *const ways[] = {"relu2", "silu"};
	const char *source = json_string_value(json_object_get(b, "source"));
	const char *variant = json_string_value(json_object_get(b, "variant"));
	struct opened o;
	struct tensor_diff d;
	float *again;
	int rc = open_bundle(&o, b, e);

	if (rc < 0) {
		close_bundle(&o);
		return rc;
	}
	tensor_diff(&d, o.replayer, o.source, o.n, 1);
	fprintf(out, "%s of layer %lld, position %lld, from %s\n", trace_stage_name(o.stage),
		(long long)json_integer_value(json_object_get(b, "layer")),
		(long long)json_integer_value(json_object_get(b, "position")),
		source ? source : "?");
	fprintf(out, "  source against replayer: rel-RMS %.3g, %.3g row ulp, %lld of %lld values\n",
		d.rel_rms, d.row_ulp, (long long)d.n_different, (long long)d.n);
	if (o.n_truth)
		fprintf(out, "  from float64: source %.3g, replayer %.3g\n",
			off(o.source, o.truth, o.n), off(o.replayer, o.truth, o.n));
	again = malloc((size_t)o.n * sizeof(float));
	assert(again);
	for (int i = 0; i < (o.stage == STAGE_FFN_ACT ? 2 : 1); i++)
		if (recompute(&o, ways[i], again))
			fprintf(out, "  computed again%s%s: source %.3g, replayer %.3g away\n",
				o.stage == STAGE_FFN_ACT ? " with " : "",
				o.stage == STAGE_FFN_ACT ? ways[i] : "", off(o.source, again, o.n),
				off(o.replayer, again, o.n));
	free(again);
	if (json_object_get(b, "weights") && o.n_inputs == 1)
		print_channels(&o, out);
	if (variant && *variant)
		fprintf(out, "  the source's output is nearest to %s: %s\n", variant,
			json_string_value(json_object_get(b, "meaning")));
	rc = d.row_ulp <= json_real_value(json_object_get(b, "bound")) ? EXIT_AGREE : EXIT_DIVERGED;
	close_bundle(&o);
	return rc;
}
