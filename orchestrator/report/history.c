#include "history.h"

#include "page.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NIGHTS_MAX = 4000, KEYS_MAX = 512, KEY_BYTES = 256 };

struct keys {		/* distinct strings in the order of their first sight */
	char v[KEYS_MAX][KEY_BYTES];
	int n;
};

static void add_key(struct keys *k, const char *s)
{
	for (int i = 0; i < k->n; i++)
		if (strcmp(k->v[i], s) == 0)
			return;
	if (k->n < KEYS_MAX)
		snprintf(k->v[k->n++], KEY_BYTES, "%s", s);
}

static const char *text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static double number(const json_t *o, const char *key)
{
	const json_t *v = json_object_get(o, key);

	return json_is_number(v) ? json_number_value(v) : NAN;
}

static bool sound(const json_t *night)
{
	return !json_is_false(json_object_get(night, "sealed"));
}

static void host_of(const json_t *model, char out[KEY_BYTES])
{
	const json_t *h = json_object_get(model, "host");
	int n_cpus = (int)json_integer_value(json_object_get(h, "n_cpus")),
	    n_threads = (int)json_integer_value(json_object_get(h, "threads"));

	if (!h)
		snprintf(out, KEY_BYTES, "no speeds measured");
	else
		snprintf(out, KEY_BYTES, "%.180s, %d processor%s, %d thread%s", text(h, "cpu"),
			 n_cpus, n_cpus == 1 ? "" : "s", n_threads, n_threads == 1 ? "" : "s");
}

static void point_of(struct page_point *p, const json_t *night)
{
	snprintf(p->label, sizeof(p->label), "%.12s %.20s", text(night, "date"),
		 text(night, "commit"));
	snprintf(p->x, sizeof(p->x), "%.10s", text(night, "date"));
}

static const json_t *named(const json_t *list, const char *key, const char *name)
{
	const json_t *o;
	size_t i;

	json_array_foreach(list, i, o)
		if (strcmp(text(o, key), name) == 0)
			return o;
	return NULL;
}

/* The night's entry for a model on a kind of host, or NULL. */
static const json_t *model_on(const json_t *night, const char *host, const char *label)
{
	const json_t *m = named(json_object_get(night, "models"), "label", label);
	char own[KEY_BYTES];

	if (!m || !sound(night))
		return NULL;
	host_of(m, own);
	return strcmp(own, host) == 0 ? m : NULL;
}

/* ---- charts ------------------------------------------------------------------------------- */

/* What is judged, and what the machine's other work made of it. Nights of old told no speed. */
static void speed_point(struct page_point *p, const json_t *c)
{
	bool seconds = strcmp(text(c, "unit"), "s") == 0;
	double median = number(c, "median"), speed = number(c, "speed");

	p->y = isnan(speed) ? number(c, seconds ? "min" : "max") : speed;
	if (isnan(p->y))
		p->y = median;
	p->low = median < p->y ? median : p->y;
	p->high = median > p->y ? median : p->y;
	p->bad = strcmp(text(c, "state"), "regressed") == 0;
}

static void speed_chart(FILE *f, const json_t *nights, const char *host, const char *label,
			const char *name, struct page_point *points)
{
	struct page_chart c = {.title = name, .unit = "", .points = points};
	const json_t *night;
	size_t i;

	json_array_foreach(nights, i, night) {
		const json_t *m = model_on(night, host, label), *k;
		struct page_point *p = &points[c.n];

		k = m ? named(json_object_get(m, "cases"), "name", name) : NULL;
		if (!k || isnan(number(k, "median")) || c.n == NIGHTS_MAX)
			continue;
		point_of(p, night);
		speed_point(p, k);
		c.unit = strcmp(text(k, "unit"), "s") == 0 ? "s, less is better" : "tokens/s";
		c.n++;
	}
	if (c.n)
		page_chart(f, &c);
}

/* Worst NMSE of all scenarios against one reference. */
static void accuracy_chart(FILE *f, const json_t *nights, const char *host, const char *label,
			   const char *reference, struct page_point *points)
{
	char title[KEY_BYTES + 32];
	struct page_chart c = {
		.title = title, .unit = "largest NMSE", .points = points, .log = true};
	const json_t *night, *row;
	size_t i, k;

	snprintf(title, sizeof(title), "against %s", reference);
	json_array_foreach(nights, i, night) {
		const json_t *m = model_on(night, host, label);
		struct page_point *p = &points[c.n];
		bool any = false;

		if (!m || c.n == NIGHTS_MAX)
			continue;
		*p = (struct page_point){.y = 0};
		point_of(p, night);
		json_array_foreach(json_object_get(m, "scenarios"), k, row) {
			double x = number(row, "max_nmse");

			if (strcmp(text(row, "reference"), reference) != 0)
				continue;
			any = any || !isnan(x);
			p->y = !isnan(x) && x > p->y ? x : p->y;
			p->bad = p->bad ||
				 json_integer_value(json_object_get(row, "exit_code")) != 0;
		}
		p->low = p->high = p->y;
		c.n += any;
	}
	if (c.n)
		page_chart(f, &c);
}

static void model_section(FILE *f, const json_t *nights, const char *host, const char *label)
{
	struct page_point *points = calloc(NIGHTS_MAX + 1, sizeof(*points));
	struct keys *cases = calloc(1, sizeof(*cases)),
		    *references = calloc(1, sizeof(*references));
	const json_t *night, *o;
	size_t i, k;

	assert(points && cases && references);
	json_array_foreach(nights, i, night) {
		const json_t *m = model_on(night, host, label);

		json_array_foreach(json_object_get(m, "cases"), k, o)
			add_key(cases, text(o, "name"));
		json_array_foreach(json_object_get(m, "scenarios"), k, o)
			if (*text(o, "reference"))
				add_key(references, text(o, "reference"));
	}
	fprintf(f, "<h3>");
	page_text(f, label);
	fprintf(f, "</h3>\n<div class=\"charts\">\n");
	for (int c = 0; c < cases->n; c++)
		speed_chart(f, nights, host, label, cases->v[c], points);
	for (int r = 0; r < references->n; r++)
		accuracy_chart(f, nights, host, label, references->v[r], points);
	fprintf(f, "</div>\n");
	free(points);
	free(cases);
	free(references);
}

/* ---- the table ---------------------------------------------------------------------------- */

static void count_scenarios(const json_t *night, int *agree, int *all, double *worst)
{
	const json_t *m, *row;
	size_t i, k;

	*agree = *all = 0;
	*worst = NAN;
	json_array_foreach(json_object_get(night, "models"), i, m)
		json_array_foreach(json_object_get(m, "scenarios"), k, row) {
			double x = number(row, "max_nmse");

			++*all;
			*agree += json_integer_value(json_object_get(row, "exit_code")) == 0;
			*worst = isnan(x) || x < *worst ? *worst : x;
		}
}

static int count_slower(const json_t *night)
{
	const json_t *m, *c;
	size_t i, k;
	int n = 0;

	json_array_foreach(json_object_get(night, "models"), i, m)
		json_array_foreach(json_object_get(m, "cases"), k, c)
			n += strcmp(text(c, "state"), "regressed") == 0;
	return n;
}

static void night_row(FILE *f, const json_t *night)
{
	int agree, all, slower = count_slower(night);
	const char *failed = text(night, "failed_part");
	char line[160];
	double worst;

	count_scenarios(night, &agree, &all, &worst);
	fprintf(f, "<tr><td><a href=\"");
	page_text(f, text(night, "folder"));
	fprintf(f, "/nightly.json\">");
	page_text(f, text(night, "date"));
	fprintf(f, "</a></td><td><code>");
	page_text(f, text(night, "commit"));
	fprintf(f, "</code></td><td>");
	if (!sound(night)) {
		page_badge(f, "bad", "changed after it was published");
	} else if (*failed) {
		snprintf(line, sizeof(line), "%.40s: %.40s", failed, text(night, "exit_name"));
		page_badge(f, "bad", line);
	} else {
		page_badge(f, "good", "all passed");
	}
	fprintf(f, "</td><td class=\"n\">%d of %d</td><td class=\"n\">", agree, all);
	if (!isnan(worst))
		fprintf(f, "%.2g", worst);
	fprintf(f, "</td><td class=\"n\">%d</td><td>", slower);
	page_text(f, text(night, "assay_version"));
	fprintf(f, "</td></tr>\n");
}

static void night_table(FILE *f, const json_t *nights)
{
	fprintf(f,
		"<h2>Nights</h2>\n<div class=\"wide\"><table>\n<tr><th>date</th><th>commit</th>"
		"<th>result</th><th class=\"n\">scenarios agree</th><th class=\"n\">largest NMSE</th>"
		"<th class=\"n\">slower cases</th><th>assay</th></tr>\n");
	for (size_t i = json_array_size(nights); i-- > 0;)
		night_row(f, json_array_get(nights, i));
	fprintf(f, "</table></div>\n");
}

static void lead(FILE *f, const json_t *nights)
{
	size_t n = json_array_size(nights);

	fprintf(f, "<p class=\"lead\">");
	if (n == 0) {
		fprintf(f,
			"No night was published here yet; <code>assay nightly</code> makes one.</p>\n");
		return;
	}
	fprintf(f, "%zu %s, ", n, n == 1 ? "night" : "nights");
	page_text(f, text(json_array_get(nights, 0), "date"));
	fprintf(f, " to ");
	page_text(f, text(json_array_get(nights, n - 1), "date"));
	fprintf(f,
		". Lines are what the program can do (its quickest samples; a regression is judged at "
		"equal pace), bands reach to the median; a red point is a regression or a divergence. Hover a "
		"point for its commit.</p>\n");
}

char *history_html(const json_t *nights)
{
	struct keys *hosts = calloc(1, sizeof(*hosts)), *labels = calloc(1, sizeof(*labels));
	const json_t *night, *m;
	char *out = NULL, host[KEY_BYTES];
	size_t n = 0, i, k;
	FILE *f = open_memstream(&out, &n);

	assert(f && hosts && labels);
	page_begin(f, "assay: speed and accuracy over time");
	lead(f, nights);
	json_array_foreach(nights, i, night)
		if (sound(night))
			json_array_foreach(json_object_get(night, "models"), k, m) {
				host_of(m, host);
				add_key(hosts, host);
				add_key(labels, text(m, "label"));
			}
	for (int h = 0; h < hosts->n; h++) {
		fprintf(f, "<h2>");
		page_text(f, hosts->v[h]);
		fprintf(f, "</h2>\n");
		for (int l = 0; l < labels->n; l++) {
			bool any = false;

			json_array_foreach(nights, i, night)
				any = any || model_on(night, hosts->v[h], labels->v[l]);
			if (any)
				model_section(f, nights, hosts->v[h], labels->v[l]);
		}
	}
	if (json_array_size(nights))
		night_table(f, nights);
	page_end(f, nights);
	fclose(f);
	free(hosts);
	free(labels);
	return out;
}
