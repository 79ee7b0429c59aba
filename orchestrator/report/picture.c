#include "picture.h"

#include "page.h"
#include "verdict/local.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct cell {
	char mark;		/* 0: no operation here */
	double off;		/* how bad, of cells with the same mark */
	char title[160];
};

struct picture {
	int n_layer;
	bool used[STAGE_COUNT];
	struct cell (*grid)[STAGE_COUNT];	/* [n_layer + 1], layer −1 first */
};

static void begin(struct picture *p, int n_layer)
{
	*p = (struct picture){.n_layer = n_layer};
	p->grid = calloc((size_t)n_layer + 1, sizeof(*p->grid));
	assert(p->grid);
}

/* The order of trace_diff_picture: equal, within, ever greater differences, no counterpart. */
static int badness(char mark)
{
	static const char order[] = "=.987654321#?";
	const char *at = mark ? strchr(order, mark) : NULL;

	return at ? (int)(at - order) : -1;
}

static struct cell *worse(struct picture *p, int layer, enum trace_stage stage, char mark,
			  double off)
{
	struct cell *c = &p->grid[layer + 1][stage];

	p->used[stage] = true;
	if (badness(mark) < badness(c->mark) || (mark == c->mark && !(off > c->off)))
		return NULL;
	c->mark = mark;
	c->off = off;
	return c;
}

static const char *colour(char mark)
{
	return mark == '=' ? "good" : mark == '#' || mark == '?' || mark == '1' ? "bad" : "warn";
}

static void table(FILE *f, const struct picture *p)
{
	fprintf(f, "<style>.picture{width:auto}.picture td,.picture th{padding:1px 3px;text-align:center;"
		   "border:0}.picture td.badge{display:table-cell;border-radius:3px;min-width:20px}"
		   ".picture .stage{writing-mode:vertical-rl;transform:rotate(180deg);text-align:left}"
		   "</style>\n<div class=\"wide\"><table class=\"picture\">\n<tr><th></th>");
	for (int s = 0; s < STAGE_COUNT; s++)
		if (p->used[s])
			fprintf(f, "<th class=\"stage\">%s</th>",
				trace_stage_name((enum trace_stage)s));
	for (int l = -1; l < p->n_layer; l++) {
		fprintf(f, "</tr>\n<tr><th class=\"n\">%d</th>", l);
		for (int s = 0; s < STAGE_COUNT; s++) {
			const struct cell *c = &p->grid[l + 1][s];

			if (p->used[s] && c->mark) {
				fprintf(f, "<td class=\"badge %s\" title=\"", colour(c->mark));
				page_text(f, c->title);
				fprintf(f, "\">%c</td>", c->mark);
			} else if (p->used[s]) {
				fprintf(f, "<td></td>");
			}
		}
	}
	fprintf(f, "</tr>\n</table></div>\n");
}

/* ---- two traces --------------------------------------------------------------------------- */

static void add_row(struct picture *p, const struct trace_diff_row *r)
{
	struct cell *c = worse(p, r->layer, r->stage, trace_diff_mark(r), r->diff.rel_rms);
	char name[64];

	if (!c)
		return;
	local_name(r->stage, r->layer, name, sizeof(name));
	if (r->state == TRACE_EQUAL)
		snprintf(c->title, sizeof(c->title), "%s: the same bits", name);
	else if (r->state > TRACE_BEYOND)
		snprintf(c->title, sizeof(c->title), "%s: %s", name,
			 trace_diff_state_name(r->state));
	else
		snprintf(c->title, sizeof(c->title),
			 "%s%s: rel-RMS %.3g, cosine %.9f, max ulp %u, %lld of %lld values", name,
			 r->seq ? " while decoding" : "", r->diff.rel_rms, r->diff.cosine,
			 r->diff.max_ulp, (long long)r->diff.n_different, (long long)r->diff.n);
}

char *picture_of_traces(const struct trace_diff *d, const char *a, const char *b)
{
	struct picture p;
	json_t *data = json_pack("{s:i, s:i, s:i, s:i, s:i}", "records", d->n, "equal", d->n_equal,
				 "within", d->n_within, "beyond", d->n_beyond, "unmatched",
				 d->n_unmatched);
	int n_layer = 0;
	char *text = NULL, name[64];
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);

	assert(f && data);
	for (int i = 0; i < d->n; i++)
		n_layer = d->rows[i].layer + 1 > n_layer ? d->rows[i].layer + 1 : n_layer;
	begin(&p, n_layer);
	for (int i = 0; i < d->n; i++)
		add_row(&p, &d->rows[i]);
	page_begin(f, "assay: two traces");
	fprintf(f, "<p class=\"lead\">");
	page_badge(f, d->first_beyond < 0 ? "good" : "bad", d->first_beyond < 0 ? "agree" : "differ");
	fprintf(f, " <code>");
	page_text(f, a);
	fprintf(f, "</code> and <code>");
	page_text(f, b);
	fprintf(f, "</code>: %d records, %d equal, %d within rel-RMS %g, %d beyond, %d without a "
		   "counterpart.", d->n, d->n_equal, d->n_within, d->tolerance, d->n_beyond,
		d->n_unmatched);
	if (d->first_beyond >= 0) {
		local_name(d->rows[d->first_beyond].stage, d->rows[d->first_beyond].layer, name,
			   sizeof(name));
		fprintf(f, " First difference beyond it: <strong>%s</strong>.", name);
	}
	fprintf(f, "</p>\n<p>= the same bits · . within the tolerance · n: relative RMS error at most "
		   "10⁻ⁿ · # more than 0.1 · ? on one side only. Each cell shows the worst step; point "
		   "at it for the numbers.</p>\n");
	table(f, &p);
	page_end(f, data);
	fclose(f);
	json_decref(data);
	free(p.grid);
	return text;
}

/* ---- one comparison ----------------------------------------------------------------------- */

static void add_operation(struct picture *p, const struct local_row *r)
{
	char mark = r->diff.n_different == 0 ? '=' : r->inside ? '.' : '#', name[64];
	struct cell *c = worse(p, r->layer, r->stage, mark, r->diff.row_ulp);

	if (!c)
		return;
	local_name(r->stage, r->layer, name, sizeof(name));
	snprintf(c->title, sizeof(c->title),
		 "%s%s: %lld of %lld values differ, %.4g row ulp, bound %.4g, rel-RMS %.3g", name,
		 r->seq ? " while decoding" : "", (long long)r->diff.n_different,
		 (long long)r->diff.n, r->diff.row_ulp, r->bound, r->diff.rel_rms);
}

static void kinds_table(FILE *f, const struct local_pass *p)
{
	fprintf(f, "<h2>Kinds of operations</h2>\n<div class=\"wide\"><table>\n<tr><th>operation</th>"
		   "<th class=\"n\">replayed</th><th class=\"n\">bits equal</th><th class=\"n\">worst ulp"
		   "</th><th class=\"n\">worst row ulp</th><th class=\"n\">bound</th></tr>\n");
	for (int k = 0; k < LOCAL_KINDS; k++) {
		const struct local_kind_sum *s = &p->kinds[k];

		if (s->n)
			fprintf(f, "<tr><td>%s</td><td class=\"n\">%d</td><td class=\"n\">%d</td>"
				   "<td class=\"n\">%u</td><td class=\"n\">%.4g</td><td class=\"n\">%g</td>"
				   "</tr>\n",
				local_kind_name((enum local_kind)k), s->n, s->n_bits_equal,
				s->worst_ulp, s->worst_row_ulp, s->bound);
	}
	fprintf(f, "</table></div>\n");
}

char *picture_of_receipt(const struct receipt *r)
{
	const struct local_pass *pass = r->local ? &r->local->reference : NULL;
	struct picture p;
	int n_layer = 0;
	char *text = NULL, *json;
	json_t *data;
	size_t n = 0;
	FILE *f;

	if (!r->local || !r->local->ran || pass->n == 0)
		return NULL;
	json = receipt_local_json(r->local, true);
	data = json_loads(json, 0, NULL);
	f = open_memstream(&text, &n);
	assert(f && data);
	for (int i = 0; i < pass->n; i++)
		n_layer = pass->rows[i].layer + 1 > n_layer ? pass->rows[i].layer + 1 : n_layer;
	begin(&p, n_layer);
	for (int i = 0; i < pass->n; i++)
		add_operation(&p, &pass->rows[i]);
	page_begin(f, "assay: operation by operation");
	fprintf(f, "<p class=\"lead\">");
	page_badge(f, r->exit_code == 0 ? "good" : "bad", r->verdict);
	fprintf(f, " <strong>");
	page_text(f, r->id);
	fprintf(f, "</strong>: ");
	page_text(f, r->explanation);
	fprintf(f, "</p>\n<p>Every operation of ");
	page_text(f, pass->source);
	fprintf(f, " replayed by ");
	page_text(f, pass->replayer);
	fprintf(f, " on the inputs that it had there: = the same bits · . inside its bound · # beyond it. "
		   "Each cell shows the worst step; point at it for the numbers.</p>\n");
	table(f, &p);
	kinds_table(f, pass);
	page_end(f, data);
	fclose(f);
	json_decref(data);
	free(json);
	free(p.grid);
	return text;
}
