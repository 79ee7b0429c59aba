#include "summary_forms.h"

#include "page.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHARTS_MAX = 24, SHORT_MAX = 24 };

static bool is_difference(int code)
{
	return code == EXIT_DIVERGED || code == EXIT_TOKENS_DIFFER;
}

/* XML 1.0 has no control characters but these three. */
static void xml_text(FILE *f, const char *s)
{
	char one[2] = "";

	for (; *s; s++) {
		one[0] = (unsigned char)*s < 32 && !strchr("\t\n\r", *s) ? '?' : *s;
		page_text(f, one);
	}
}

char *summary_junit(const struct summary *s)
{
	int failures = 0, errors = 0;
	char *out = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&out, &n);

	assert(f);
	for (int i = 0; i < s->n; i++) {
		failures += is_difference(s->rows[i].exit_code);
		errors += s->rows[i].exit_code != 0 && !is_difference(s->rows[i].exit_code);
	}
	fprintf(f,
		"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite name=\"assay\" "
		"tests=\"%d\" failures=\"%d\" errors=\"%d\" timestamp=\"%s\">\n",
		s->n, failures, errors, s->generated);
	for (int i = 0; i < s->n; i++) {
		const struct summary_row *w = &s->rows[i];
		const char *kind = is_difference(w->exit_code) ? "failure" : "error";

		fprintf(f, "<testcase classname=\"");
		xml_text(f, *w->reference ? w->reference : "alone");
		fprintf(f, "\" name=\"");
		xml_text(f, w->id);
		fprintf(f, "\" time=\"%.6f\">", (double)w->wall_us * 1e-6);
		if (w->exit_code) {
			fprintf(f, "<%s type=\"%s\" message=\"", kind, w->verdict);
			xml_text(f, w->explanation);
			fprintf(f, "\">");
			xml_text(f, w->explain ? w->explain : "");
			fprintf(f, "</%s>", kind);
		}
		fprintf(f, "</testcase>\n");
	}
	fprintf(f, "</testsuite>\n</testsuites>\n");
	fclose(f);
	return out;
}

/* ---- HTML --------------------------------------------------------------------------------- */

static void number_cell(FILE *f, const char *fmt, double x, int n_positions)
{
	char text[32] = "–";

	if (n_positions > 0 && isnan(x))
		snprintf(text, sizeof(text), "NaN");
	else if (n_positions > 0)
		snprintf(text, sizeof(text), fmt, x);
	fprintf(f, "<td class=\"n\">%s</td>", text);
}

static const char *colour(const struct summary_row *w)
{
	if (w->exit_code != 0)
		return "bad";
	return strcmp(w->verdict, "DRIFT") == 0 ? "warn" : "good";
}

static bool has_why(const struct summary_row *w)
{
	return w->exit_code != 0 || strcmp(w->verdict, "DRIFT") == 0;
}

static void row_html(FILE *f, const struct summary_row *w)
{
	fprintf(f, "<tr%s><td><strong>", has_why(w) ? " class=\"told\"" : "");
	if (w->has_operations) {
		fprintf(f, "<a href=\"");
		page_text(f, w->id);
		fprintf(f, "/operations.html\">");
	}
	page_text(f, w->id);
	fprintf(f, "%s</strong></td><td>", w->has_operations ? "</a>" : "");
	page_badge(f, colour(w), w->verdict);
	fprintf(f, "</td><td class=\"who\">");
	page_text(f, *w->reference ? w->reference : "–");
	fprintf(f, "</td><td>");
	page_text(f, w->tokens);
	fprintf(f, "</td><td class=\"n\">%d</td>", w->n_positions);
	number_cell(f, "%.9f", w->min_cosine, w->n_positions);
	number_cell(f, "%.2e", w->max_nmse, w->n_positions);
	number_cell(f, "%.2e", w->max_kl, w->n_positions);
	number_cell(f, "%.4f", w->top1, w->n_positions);
	fprintf(f, "<td>");
	page_text(f, w->greedy);
	fprintf(f, "</td></tr>\n");
	if (has_why(w)) {
		fprintf(f, "<tr class=\"why\"><td></td><td colspan=\"9\">");
		page_text(f, w->explanation);
		if (w->explain) {
			fprintf(f, "<br>to see where and whose fault: <code>");
			page_text(f, w->explain);
			fprintf(f, "</code>");
		}
		fprintf(f, "</td></tr>\n");
	}
}

/* A command's last part says enough above a chart. */
static const char *short_name(const char *engine)
{
	const char *slash = strrchr(engine, '/');

	return strlen(engine) > SHORT_MAX && slash && slash[1] ? slash + 1 : engine;
}

/* NMSE of each position on a log scale; red: the first beyond the limit. */
static void row_chart(FILE *f, const struct summary_row *w)
{
	struct page_point *points = calloc((size_t)w->n_nmse, sizeof(*points));
	char title[SUMMARY_ID_MAX + 512 + 16];
	struct page_chart c = {.title = title, .unit = "NMSE by position", .points = points,
			       .log = true};

	assert(points);
	snprintf(title, sizeof(title), "%s against %s", w->id, short_name(w->reference));
	for (int i = 0; i < w->n_nmse; i++) {
		struct page_point *p = &points[c.n];

		if (isnan(w->nmse[i]))
			continue;
		snprintf(p->label, sizeof(p->label), "position %d", i);
		snprintf(p->x, sizeof(p->x), "%d", i);
		p->y = p->low = p->high = w->nmse[i];
		p->bad = i == w->first_beyond;
		c.n++;
	}
	if (c.n)
		page_chart(f, &c);
	free(points);
}

static void all_charts(FILE *f, const struct summary *s)
{
	int drawn = 0, left_out = 0;

	for (int i = 0; i < s->n; i++) {
		if (s->rows[i].n_nmse < 2)
			continue;
		if (drawn == CHARTS_MAX) {
			left_out++;
			continue;
		}
		if (drawn++ == 0)
			fprintf(f, "<h2>Position by position</h2>\n<p class=\"lead\">A red point is "
				   "the first beyond the limit; 0 is the same bits.</p>\n"
				   "<div class=\"charts\">\n");
		row_chart(f, &s->rows[i]);
	}
	if (drawn)
		fprintf(f, "</div>\n");
	if (left_out)
		fprintf(f, "<p class=\"lead\">%d more are not drawn.</p>\n", left_out);
}

char *summary_html(const struct summary *s)
{
	int code = summary_exit_code(s), agree = 0;
	char *out = NULL, *json = summary_json(s);
	json_t *data = json_loads(json, 0, NULL);
	size_t n = 0;
	FILE *f = open_memstream(&out, &n);

	assert(f && data);
	for (int i = 0; i < s->n; i++)
		agree += s->rows[i].exit_code == 0;
	page_begin(f, "assay: cross-validation");
	fprintf(f, "<p class=\"lead\">");
	page_badge(f, code == 0 ? "good" : "bad", err_code_name(code));
	fprintf(f, " %d of %d comparisons agree. Model <code>", agree, s->n);
	page_text(f, s->model);
	fprintf(f, "</code>, SHA-256 <code>%.16s…</code>, %s (UTC).</p>\n", s->model_sha256,
		s->generated);
	fprintf(f,
		"<div class=\"wide\"><table>\n<tr><th>scenario</th><th>verdict</th><th>against</th>"
		"<th>tokens</th><th class=\"n\">positions</th><th class=\"n\">min cosine</th>"
		"<th class=\"n\">max NMSE</th><th class=\"n\">max KL</th><th class=\"n\">top-1</th>"
		"<th>greedy</th></tr>\n");
	for (int i = 0; i < s->n; i++)
		row_html(f, &s->rows[i]);
	fprintf(f, "</table></div>\n");
	all_charts(f, s);
	page_end(f, data);
	fclose(f);
	json_decref(data);
	free(json);
	return out;
}
