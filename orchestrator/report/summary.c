#include "summary.h"

#include "canonical.h"
#include "matrix.h"
#include "receipt.h"
#include "verdict/compare.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double real_of(const json_t *o, const char *key)
{
	json_t *v = json_object_get(o, key);

	if (json_is_string(v) && strcmp(json_string_value(v), "Infinity") == 0)
		return INFINITY;
	return json_is_number(v) ? json_number_value(v) : NAN;
}

static int int_of(const json_t *o, const char *key, int absent)
{
	json_t *v = json_object_get(o, key);

	return json_is_integer(v) ? (int)json_integer_value(v) : absent;
}

static void text_of(char *out, size_t size, const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	snprintf(out, size, "%s", s ? s : "");
}

static char *copy_of(const json_t *text)
{
	char *copy = json_is_string(text) ? strdup(json_string_value(text)) : NULL;

	assert(copy || !json_is_string(text));
	return copy;
}

static void read_tokens(struct summary_row *w, const json_t *tokens)
{
	int at = int_of(tokens, "first_difference", -1);

	if (json_is_true(json_object_get(tokens, "match")))
		snprintf(w->tokens, sizeof(w->tokens), "match");
	else if (at >= 0)
		snprintf(w->tokens, sizeof(w->tokens), "differ at %d", at);
	else
		snprintf(w->tokens, sizeof(w->tokens), "–");
}

static void read_greedy(struct summary_row *w, const json_t *g)
{
	int n = int_of(g, "compared", 0), at = int_of(g, "flip_step", -1);

	if (at >= 0)
		snprintf(w->greedy, sizeof(w->greedy), "%s at %d",
			 json_is_true(json_object_get(g, "near_tie")) ? "tie" : "flip", at);
	else if (n)
		snprintf(w->greedy, sizeof(w->greedy), "%d/%d", n, n);
	else
		snprintf(w->greedy, sizeof(w->greedy), "–");
}

static void read_side(struct summary_row *w, int side, const json_t *engine)
{
	text_of(w->profile[side], sizeof(w->profile[side]), json_object_get(engine, "opened"),
		"profile");
	text_of(w->logits[side], sizeof(w->logits[side]), engine, "logits_sha256");
	w->finished[side] = json_object_size(json_object_get(engine, "done")) > 0;
}

static void read_row(struct summary_row *w, const json_t *o)
{
	const json_t *sum = json_object_get(o, "summary"), *engines = json_object_get(o, "engines");

	text_of(w->id, sizeof(w->id), o, "id");
	w->has_operations = json_is_true(json_object_get(json_object_get(o, "local"), "ran"));
	text_of(w->scenario, sizeof(w->scenario), json_object_get(o, "scenario"), "id");
	read_side(w, 0, json_object_get(engines, "ours"));
	read_side(w, 1, json_object_get(engines, "reference"));
	text_of(w->ours, sizeof(w->ours), json_object_get(engines, "ours"), "engine");
	text_of(w->reference, sizeof(w->reference), json_object_get(engines, "reference"),
		"engine");
	text_of(w->verdict, sizeof(w->verdict), o, "verdict");
	text_of(w->explanation, sizeof(w->explanation), o, "explanation");
	w->explain = copy_of(json_object_get(o, "explain"));
	text_of(w->sha256, sizeof(w->sha256), o, "content_sha256");
	w->exit_code = int_of(o, "exit_code", EXIT_RECEIPT_INVALID);
	w->wall_us = json_integer_value(json_object_get(o, "wall_us"));
	w->n_positions = int_of(sum, "n_positions", 0);
	w->n_traces = int_of(o, "n_traces", 0);
	w->min_cosine = real_of(sum, "min_cosine");
	w->max_nmse = real_of(sum, "max_nmse");
	w->max_kl = real_of(sum, "max_kl");
	w->top1 = w->n_positions ? real_of(sum, "top1_agreement") : NAN;
	read_tokens(w, json_object_get(o, "tokens"));
	read_greedy(w, json_object_get(o, "greedy"));
}

/* A number that is not finite (a text in the receipt) is drawn as nothing. */
static void read_positions(struct summary_row *w, const json_t *o)
{
	const json_t *nmse = json_object_get(json_object_get(o, "positions"), "nmse"), *v;
	const json_t *first = json_object_get(o, "first_divergence_token");
	size_t i;

	w->first_beyond = json_is_integer(first) ? (int)json_integer_value(first) : -1;
	if (!json_array_size(nmse))
		return;
	w->nmse = malloc(json_array_size(nmse) * sizeof(*w->nmse));
	assert(w->nmse);
	json_array_foreach(nmse, i, v)
		w->nmse[w->n_nmse++] = json_is_number(v) ? json_number_value(v) : NAN;
}

int summary_add(struct summary *s, const char *receipt, size_t bytes, const char *path,
		struct err *e)
{
	const json_t *model, *tokenizer;
	json_t *o;
	int r = receipt_check(receipt, bytes, path, e);

	if (r < 0)
		return r;
	o = json_loadb(receipt, bytes, 0, NULL);
	assert(o);
	if (s->n == s->cap) {
		s->cap = s->cap ? 2 * s->cap : 16;
		s->rows = realloc(s->rows, (size_t)s->cap * sizeof(*s->rows));
		assert(s->rows);
	}
	s->rows[s->n] = (struct summary_row){.id = ""};
	read_row(&s->rows[s->n], o);
	read_positions(&s->rows[s->n++], o);
	model = json_object_get(o, "model");
	tokenizer = json_object_get(o, "tokenizer");
	text_of(s->model, sizeof(s->model), model, "path");
	text_of(s->model_sha256, sizeof(s->model_sha256), model, "sha256");
	text_of(s->tokenizer, sizeof(s->tokenizer), tokenizer, "source");
	json_decref(o);
	return 0;
}

static int by_id(const void *a, const void *b)
{
	return strcmp(((const struct summary_row *)a)->id, ((const struct summary_row *)b)->id);
}

void summary_sort(struct summary *s)
{
	if (s->n)
		qsort(s->rows, (size_t)s->n, sizeof(*s->rows), by_id);
}

int summary_exit_code(const struct summary *s)
{
	int code = s->n ? EXIT_AGREE : EXIT_NOTHING_RAN, side;

	for (int i = 0; i < s->n; i++)
		if (s->rows[i].exit_code > EXIT_TOKENS_DIFFER || !matrix_is_pair(s, i))
			code = verdict_worse(code, s->rows[i].exit_code);
	if (matrix_unsteady(s, &side) >= 0)
		code = verdict_worse(code, EXIT_DIVERGED);
	return s->interrupted ? EXIT_INTERRUPTED : code;
}

static json_t *row_object(const struct summary_row *w)
{
	json_t *o = json_object();

	canonical_set(o, "id", canonical_text(w->id));
	canonical_set(o, "ours", canonical_text(w->ours));
	canonical_set(o, "reference", *w->reference ? canonical_text(w->reference) : json_null());
	canonical_set(o, "verdict", canonical_text(w->verdict));
	canonical_set(o, "exit_code", json_integer(w->exit_code));
	canonical_set(o, "token_match", canonical_text(w->tokens));
	canonical_set(o, "greedy", canonical_text(w->greedy));
	canonical_set(o, "n_positions", json_integer(w->n_positions));
	canonical_set(o, "n_traces", json_integer(w->n_traces));
	canonical_set(o, "min_cosine", canonical_real(w->min_cosine));
	canonical_set(o, "max_nmse", canonical_real(w->max_nmse));
	canonical_set(o, "max_kl", canonical_real(w->max_kl));
	canonical_set(o, "top1_agreement", canonical_real(w->top1));
	canonical_set(o, "wall_us", json_integer(w->wall_us));
	canonical_set(o, "explanation", canonical_text(w->explanation));
	if (w->explain)
		canonical_set(o, "explain", canonical_text(w->explain));
	canonical_set(o, "receipt_sha256", canonical_text(w->sha256));
	return o;
}

char *summary_json(const struct summary *s)
{
	json_t *o = json_object(), *rows = json_array(), *model = json_object();
	int code = summary_exit_code(s), side;
	char *text;

	for (int i = 0; i < s->n; i++)
		json_array_append_new(rows, row_object(&s->rows[i]));
	canonical_set(model, "path", canonical_text(s->model));
	canonical_set(model, "sha256", canonical_text(s->model_sha256));
	canonical_set(model, "tokenizer", canonical_text(s->tokenizer));
	canonical_set(o, "schema_version", json_string(RECEIPT_SCHEMA_VERSION));
	canonical_set(o, "kind", json_string("sweep"));
	canonical_set(o, "generated", canonical_text(s->generated));
	canonical_set(o, "model", model);
	canonical_set(o, "scenarios", rows);
	canonical_set(o, "n_planned", json_integer(s->n_planned));
	canonical_set(o, "n_done", json_integer(s->n));
	canonical_set(o, "orchestrator_peak_rss_bytes", json_integer(s->peak_rss));
	canonical_set(o, "interrupted", json_boolean(s->interrupted));
	canonical_set(o, "exit_code", json_integer(code));
	canonical_set(o, "exit_name", json_string(err_code_name(code)));
	if (matrix_wanted(s)) {
		canonical_set(o, "matrix", matrix_json(s));
		canonical_set(o, "steady", json_boolean(matrix_unsteady(s, &side) < 0));
	}
	canonical_seal(o);
	text = canonical_indented(o);
	json_decref(o);
	return text;
}

static const char *number(char out[32], const char *fmt, double x, int n_positions)
{
	if (n_positions == 0)
		return "–";
	if (isnan(x))
		return "NaN";
	snprintf(out, 32, fmt, x);
	return out;
}

static void print_next(FILE *f, const struct summary *s)
{
	bool said = false;

	fprintf(f, "\n## What to do next\n\n");
	for (int i = 0; i < s->n; i++) {
		const struct summary_row *w = &s->rows[i];

		if (w->exit_code == EXIT_AGREE && strcmp(w->verdict, "DRIFT") != 0)
			continue;
		fprintf(f, "- **%s**: %s. See `%s/report.txt`.\n", w->id, w->explanation, w->id);
		if (w->explain)
			fprintf(f, "  To see where and whose fault:\n\n      %s\n", w->explain);
		said = true;
	}
	if (s->n == 0)
		fprintf(f, "- Nothing ran: check the scenario file and `assay doctor`.\n");
	else if (!said)
		fprintf(f, "- Nothing: all scenarios agree.\n");
	if (s->interrupted)
		fprintf(f, "- %d of %d are done; the same command with `--resume` does the rest.\n",
			s->n, s->n_planned);
}

char *summary_markdown(const struct summary *s)
{
	char *text = NULL, a[32], b[32], c[32], d[32];
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);

	assert(f);
	fprintf(f, "# Cross-validation summary\n\n");
	fprintf(f, "Generated: %s (UTC)  \nModel: `%s` (SHA-256 `%s`)  \nTokenizer: `%s`  \n",
		s->generated, s->model, s->model_sha256, s->tokenizer);
	fprintf(f, "Reference: %s\n\n",
		s->n && *s->rows[0].reference ? s->rows[0].reference : "none");
	fprintf(f, "| Scenario | Exit code | Token match | Cosine similarity | NMSE | KL | Top-1 | "
		   "Greedy | Verdict | Against | Trace files |\n");
	fprintf(f, "|---|---|---|---|---|---|---|---|---|---|---|\n");
	for (int i = 0; i < s->n; i++) {
		const struct summary_row *w = &s->rows[i];

		fprintf(f, "| %s | %d | %s | %s | %s | %s | %s | %s | %s | %s | %d |\n", w->id,
			w->exit_code, w->tokens, number(a, "%.9f", w->min_cosine, w->n_positions),
			number(b, "%.3g", w->max_nmse, w->n_positions),
			number(c, "%.3g", w->max_kl, w->n_positions),
			number(d, "%.4f", w->top1, w->n_positions), w->greedy, w->verdict,
			*w->reference ? w->reference : "–", w->n_traces);
	}
	if (matrix_wanted(s))
		matrix_print(f, s, true);
	print_next(f, s);
	fclose(f);
	return text;
}

static void pad(FILE *f, const char *text, int width, int shown)
{
	fprintf(f, "%s", text);
	for (int i = shown; width && i < width + 2; i++)
		fputc(' ', f);
}

/* Characters, not bytes: the dash is three bytes. */
static int shown_width(const char *text)
{
	int n = 0;

	for (; *text; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

enum { COLUMNS = 9 };

static void row_cells(const struct summary_row *w, char cells[COLUMNS][SUMMARY_ID_MAX])
{
	char a[32];

	snprintf(cells[0], SUMMARY_ID_MAX, "%s", w->id);
	snprintf(cells[1], SUMMARY_ID_MAX, "%s", w->tokens);
	snprintf(cells[2], SUMMARY_ID_MAX, "%d", w->n_positions);
	snprintf(cells[3], SUMMARY_ID_MAX, "%s", number(a, "%.9f", w->min_cosine, w->n_positions));
	snprintf(cells[4], SUMMARY_ID_MAX, "%s", number(a, "%.2e", w->max_nmse, w->n_positions));
	snprintf(cells[5], SUMMARY_ID_MAX, "%s", number(a, "%.2e", w->max_kl, w->n_positions));
	snprintf(cells[6], SUMMARY_ID_MAX, "%s", number(a, "%.4f", w->top1, w->n_positions));
	snprintf(cells[7], SUMMARY_ID_MAX, "%s", w->greedy);
	snprintf(cells[8], SUMMARY_ID_MAX, "%s", w->verdict);
}

char *summary_table(const struct summary *s)
{
	static const char *const heads[COLUMNS] = {"scenario", "tokens", "positions",
						   "min cosine", "max NMSE", "max KL",
						   "top-1", "greedy", "verdict"};
	char cells[COLUMNS][SUMMARY_ID_MAX], *text = NULL;
	int width[COLUMNS];
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);

	assert(f);
	for (int k = 0; k < COLUMNS; k++)
		width[k] = shown_width(heads[k]);
	for (int i = 0; i < s->n; i++) {
		row_cells(&s->rows[i], cells);
		for (int k = 0; k < COLUMNS; k++)
			if (shown_width(cells[k]) > width[k])
				width[k] = shown_width(cells[k]);
	}
	for (int k = 0; k < COLUMNS; k++)
		pad(f, heads[k], k + 1 < COLUMNS ? width[k] : 0, shown_width(heads[k]));
	fputc('\n', f);
	for (int i = 0; i < s->n; i++) {
		row_cells(&s->rows[i], cells);
		for (int k = 0; k < COLUMNS; k++)
			pad(f, cells[k], k + 1 < COLUMNS ? width[k] : 0, shown_width(cells[k]));
		fputc('\n', f);
	}
	if (matrix_wanted(s))
		matrix_print(f, s, false);
	fclose(f);
	return text;
}

void summary_free(struct summary *s)
{
	for (int i = 0; i < s->n; i++) {
		free(s->rows[i].nmse);
		free(s->rows[i].explain);
	}
	free(s->rows);
	*s = (struct summary){0};
}
