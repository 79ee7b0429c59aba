#include "engine_call.h"

#include "term.h"
#include "utf8.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { STOPS_MAX = 32, STOP_BYTES_MAX = 256, STOPPED = -1000 };

struct run {
	struct cli *cli;
	struct engine_call *g;
	struct engine_pieces vocab;
	const char *stops[STOPS_MAX];	/* texts, borrowed */
	int n_stops;
	int32_t stop_ids[STOPS_MAX];
	int n_stop_ids;
	char *text;			/* all that was generated */
	size_t bytes, shown, cap;
	int32_t *ids;
	int n_ids;
	const char *ended_by;		/* "length", "stop token", "stop text" */
	double start_s, first_s, last_s;
};

static double now_s(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static bool piece_is(const struct run *r, int32_t id, const char *text)
{
	size_t n = r->vocab.at[id + 1] - r->vocab.at[id];
	return strlen(text) == n && memcmp(r->vocab.text + r->vocab.at[id], text, n) == 0;
}

static void add_stop_id(struct run *r, int32_t id)
{
	if (id >= 0 && r->n_stop_ids < STOPS_MAX)
		r->stop_ids[r->n_stop_ids++] = id;
}

/* A stop text that is one token's text is a stop token; the others are looked for in the text. */
static void add_stop(struct run *r, const char *text)
{
	bool token = false;
	for (int32_t id = 0; id < r->vocab.n; id++) {
		if (text[0] == '<' && piece_is(r, id, text)) {
			add_stop_id(r, id);
			token = true;
		}
	}
	if (!token && *text && strlen(text) < STOP_BYTES_MAX && r->n_stops < STOPS_MAX)
		r->stops[r->n_stops++] = text;
}

static int load_vocabulary(struct run *r, struct err *e)
{
	int n = r->g->n_vocab;
	int32_t *ids = malloc((size_t)n * sizeof(*ids));
	if (!ids)
		return err_set(e, EXIT_INTERNAL, "no memory for %d ids", n);
	for (int i = 0; i < n; i++)
		ids[i] = i;
	int rc = engine_call_pieces(r->g, ids, n, &r->vocab, e);
	free(ids);
	return rc;
}

static void collect_stops(struct run *r)
{
	const char *const *given;
	int n = cli_list(r->cli, "stop", &given);
	for (int i = 0; i < n; i++)
		add_stop(r, given[i]);
	for (int i = 0; i < r->g->n_stops; i++)
		add_stop(r, r->g->stops[i]);
	if (cli_flag(r->cli, "ignore-eos"))
		return;
	add_stop_id(r, r->g->eos);
	add_stop_id(r, r->g->eot);
}

static bool is_stop_id(const struct run *r, int32_t id)
{
	for (int i = 0; i < r->n_stop_ids; i++)
		if (r->stop_ids[i] == id)
			return true;
	return false;
}

/* Where the first stop text begins that is complete, or SIZE_MAX. */
static size_t find_stop(const struct run *r, size_t from)
{
	size_t best = SIZE_MAX;
	for (int i = 0; i < r->n_stops; i++) {
		size_t n = strlen(r->stops[i]), at = from > n ? from - n : 0;
		for (; at + n <= r->bytes; at++)
			if (at < best && memcmp(r->text + at, r->stops[i], n) == 0)
				best = at;
	}
	return best;
}

/* Bytes at the end that may be the beginning of a stop text: not shown yet. */
static size_t held_back(const struct run *r)
{
	size_t most = 0;
	for (int i = 0; i < r->n_stops; i++) {
		size_t n = strlen(r->stops[i]);
		for (size_t k = n - 1; k > most; k--)
			if (k <= r->bytes && memcmp(r->text + r->bytes - k, r->stops[i], k) == 0)
				most = k;
	}
	return most;
}

static void show(struct run *r, size_t until)
{
	if (until > r->shown && !cli_json(r->cli)) {
		fwrite(r->text + r->shown, 1, until - r->shown, stdout);
		fflush(stdout);
	}
	r->shown = until > r->shown ? until : r->shown;
}

static int add_text(struct run *r, int32_t id, struct err *e)
{
	size_t n = r->vocab.at[id + 1] - r->vocab.at[id];
	if (r->bytes + n + 1 > r->cap) {
		size_t cap = 2 * (r->bytes + n) + 1024;
		char *more = realloc(r->text, cap);
		if (!more)
			return err_set(e, EXIT_INTERNAL, "no memory for the text");
		r->text = more;
		r->cap = cap;
	}
	memcpy(r->text + r->bytes, r->vocab.text + r->vocab.at[id], n);
	r->bytes += n;
	size_t stop = find_stop(r, r->bytes - n);
	if (stop == SIZE_MAX) {
		show(r, r->bytes - held_back(r));
		return 0;
	}
	r->bytes = stop;
	r->ended_by = "stop text";
	return STOPPED;
}

static int on_frame(void *ctx, const struct wire_frame *f, struct err *e)
{
	struct run *r = ctx;
	if (f->type != WIRE_LOGITS)
		return 0;
	int32_t id = (int32_t)wire_get_int(f, "token", -1);
	int rc = engine_call_finite(r->g->engine, f, r->g->n_vocab, e);
	if (id < 0 || rc < 0)
		return rc;
	if (id >= r->vocab.n)
		return err_set(e, EXIT_WORKER, "engine %s chose token %d of a vocabulary of %d",
			       r->g->engine, id, r->vocab.n);
	r->last_s = now_s();
	if (r->n_ids == 0)
		r->first_s = r->last_s;
	r->ids[r->n_ids++] = id;
	if (is_stop_id(r, id)) {
		r->ended_by = "stop token";
		return 0;	/* the engine ends by itself */
	}
	return add_text(r, id, e);
}

static int evaluate(struct run *r, struct err *e)
{
	struct wire_builder *b = &r->g->request;
	engine_call_begin(r->g);
	wire_put(b, "logits", "none");
	wire_put(b, "greedy", "%" PRId64, cli_int(r->cli, "max-new-tokens"));
	wire_put(b, "temperature", "%.9g", cli_real(r->cli, "temperature"));
	wire_put(b, "top_k", "%" PRId64, cli_int(r->cli, "top-k"));
	wire_put(b, "top_p", "%.9g", cli_real(r->cli, "top-p"));
	wire_put(b, "seed", "%" PRId64, cli_int(r->cli, "seed"));
	for (int i = 0; i < r->n_stop_ids; i++)
		wire_put(b, "stop", "%d", (int)r->stop_ids[i]);
	r->ended_by = "length";
	r->start_s = now_s();
	int rc = engine_call_run(r->g, on_frame, r, e);
	return rc == STOPPED ? 0 : rc;
}

static void print_speed(const struct run *r)
{
	double prefill = r->first_s - r->start_s, decode = r->last_s - r->first_s;
	term_note("%d prompt tokens in %.2f s (%.1f/s), %d new in %.2f s (%.1f/s); ended by %s",
		  r->g->n_ids, prefill, prefill > 0 ? r->g->n_ids / prefill : 0, r->n_ids, decode,
		  decode > 0 ? (r->n_ids - 1) / decode : 0, r->ended_by);
}

/* Bytes that are no UTF-8 (a token may be half a character) become U+FFFD. */
static json_t *json_text(const char *text, size_t bytes)
{
	char *out = malloc(3 * bytes + 1);
	size_t n = 0;
	for (size_t i = 0; out && i < bytes;) {
		size_t k = utf8_length(text + i, bytes - i);
		memcpy(out + n, k ? text + i : "\xef\xbf\xbd", k ? k : 3);
		n += k ? k : 3;
		i += k ? k : 1;
	}
	json_t *j = out ? json_stringn_nocheck(out, n) : NULL;
	free(out);
	return j;
}

static int print_json(const struct run *r, struct err *e)
{
	json_t *ids = json_array(), *prompt = json_array();
	double prefill = r->first_s - r->start_s, decode = r->last_s - r->first_s;
	for (int i = 0; i < r->n_ids; i++)
		json_array_append_new(ids, json_integer(r->ids[i]));
	for (int i = 0; i < r->g->n_ids; i++)
		json_array_append_new(prompt, json_integer(r->g->ids[i]));
	json_t *j = json_pack("{s:o, s:o, s:o, s:s, s:s, s:s, s:s, s:s, s:f, s:f}", "text",
			      json_text(r->text, r->bytes), "ids",
			      ids, "prompt_ids", prompt, "ended_by", r->ended_by, "template",
			      r->g->template_name, "engine", r->g->engine, "profile", r->g->profile,
			      "isa", r->g->isa, "prompt_tokens_per_s",
			      prefill > 0 ? r->g->n_ids / prefill : 0.0, "tokens_per_s",
			      decode > 0 ? (r->n_ids - 1) / decode : 0.0);
	if (!j)
		return err_set(e, EXIT_INTERNAL, "the result cannot be written as JSON");
	json_dumpf(j, stdout, JSON_SORT_KEYS);
	putchar('\n');
	json_decref(j);
	return 0;
}

static int run_infer(struct cli *c, struct err *e)
{
	struct engine_call g;
	struct run r = {.cli = c, .g = &g};
	const int64_t more = cli_int(c, "max-new-tokens");
	if (more < 1 || more > 1 << 20)
		return err_set(e, EXIT_USAGE, "--max-new-tokens %" PRId64 ": expected 1 to %d",
			       more, 1 << 20);
	int rc = engine_call_open(&g, c, (int)more, e);
	if (rc != 0)
		return rc;
	r.ids = malloc(((size_t)more + 1) * sizeof(*r.ids));
	rc = r.ids ? load_vocabulary(&r, e) : err_set(e, EXIT_INTERNAL, "no memory");
	if (rc == 0) {
		collect_stops(&r);
		rc = evaluate(&r, e);
	}
	if (rc == 0) {
		show(&r, r.bytes);
		if (!cli_json(c))
			putchar('\n');
		print_speed(&r);
		rc = cli_json(c) ? print_json(&r, e) : 0;
	}
	engine_call_close(&g);
	engine_pieces_free(&r.vocab);
	free(r.text);
	free(r.ids);
	return rc;
}

const struct command cmd_infer = {
	.name = "infer",
	.group = "Models",
	.summary = "continue a prompt and stream the text",
	.positional = "[PROMPT]",
	.examples =
		"  assay infer --model model.gguf \"The capital of France is\"\n"
		"  assay infer --model model.gguf --prompt-template auto --temperature 0.7 --seed 1 \"Hello\"\n",
	.details =
		"Greedy unless --temperature is given. Ends at the model's end tokens, at the "
		"template's stops and at --stop texts. The same seed gives the same text on every "
		"machine.\n",
	.opts =
		(const struct opt[]){
			ENGINE_CALL_OPTS,
			ENGINE_CALL_PROMPT_OPTS,
			{"max-new-tokens", OPT_INT, "N", "tokens at most", "128", NULL, NULL, 'n'},
			{"temperature", OPT_REAL, "T", "0 = the most likely token", "0", NULL, NULL,
			 0},
			{"top-k", OPT_INT, "K", "only the K most likely; 0 = all", "0", NULL, NULL,
			 0},
			{"top-p", OPT_REAL, "P", "only the most likely with this total probability",
			 "1", NULL, NULL, 0},
			{"seed", OPT_INT, "N", "of the random numbers", "0", "BITNET_SEED", NULL,
			 0},
			{"stop", OPT_LIST, "TEXT", "a text that ends the reply", NULL,
			 NULL, NULL, 0},
			{"ignore-eos", OPT_FLAG, NULL, "go on after the model's end tokens", NULL,
			 NULL, NULL, 0},
			{0},
		},
	.run = run_infer,
};
