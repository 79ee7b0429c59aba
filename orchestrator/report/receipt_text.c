#include "receipt.h"

#include "local_json.h"
#include "utf8.h"

#include "verdict/compare.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_SHOWN = 40 };

static const char *fact(const char *lines, const char *key, char *out, size_t size)
{
	size_t n = strlen(key);

	out[0] = '\0';
	for (const char *p = lines; p && *p;) {
		size_t len = strcspn(p, "\n");

		if (len > n && memcmp(p, key, n) == 0 && p[n] == '=')
			snprintf(out, size, "%.*s", (int)(len - n - 1), p + n + 1);
		p += len + (p[len] == '\n');
	}
	return out;
}

static void print_side(FILE *f, const char *role, const struct receipt_side *s)
{
	char build[128], isa[128], profile[64], arch[64], weights[256], note[1024];

	fprintf(f, "%s %s: build %s, arch %s, weights %s, isa %s, profile %s\n", role, s->engine,
		fact(s->hello, "build", build, sizeof(build)),
		fact(s->opened, "arch", arch, sizeof(arch)),
		fact(s->opened, "weights", weights, sizeof(weights)),
		fact(s->opened, "isa", isa, sizeof(isa)),
		fact(s->opened, "profile", profile, sizeof(profile)));
	if (*fact(s->opened, "note", note, sizeof(note)))
		fprintf(f, "    note: %s\n", note);
	fprintf(f, "    %d ids, %d positions, %lld us", s->n_ids, s->n_positions,
		(long long)s->eval_us);
	if (s->peak_rss >= 0)
		fprintf(f, ", peak %.1f MiB", (double)s->peak_rss / (1 << 20));
	fprintf(f, "\n    logits SHA-256 %s\n", s->logits_sha256);
	if (s->n_greedy) {
		fprintf(f, "    greedy");
		for (int i = 0; i < s->n_greedy && i < ROWS_SHOWN; i++)
			fprintf(f, " %d", s->greedy[i]);
		fprintf(f, "%s\n", s->n_greedy > ROWS_SHOWN ? " …" : "");
	}
	if (s->text)
		fprintf(f, "    text %s\n", s->text);
}

static void print_cost(FILE *f, const struct receipt *r)
{
	int64_t a = r->sides[0].eval_us, b = r->sides[1].eval_us, us = r->compare_us;
	double longer = (double)(a > b ? a : b);

	if (r->comparison->n && longer > 0)
		fprintf(f, "comparing took %.1f ms, %.2f %% of the longer evaluation\n",
			(double)us * 1e-3, 100.0 * (double)us / longer);
}

static void print_tokens(FILE *f, const struct receipt *r)
{
	static const char *const roles[] = {"ours     ", "reference"};

	if (r->first_difference < 0)
		return;
	fprintf(f, "\ntokens differ first at index %d:\n", r->first_difference);
	for (int i = 0; i < r->n_sides; i++) {
		const struct receipt_side *s = &r->sides[i];
		int from = r->first_difference > 4 ? r->first_difference - 4 : 0;

		fprintf(f, "  %s", roles[i]);
		for (int k = from; k < s->n_ids && k < r->first_difference + 8; k++)
			fprintf(f, k == r->first_difference ? " [%d]" : " %d", s->ids[k]);
		fprintf(f, "%s\n", s->n_ids > r->first_difference + 8 ? " …" : "");
		if (s->pieces)
			fputs(s->pieces, f);
	}
	fprintf(f, "likely cause: %s\n", r->cause);
}

static void print_rows(FILE *f, const struct comparison *c)
{
	int last = -1;

	if (!c->n)
		return;
	fprintf(f, "\n");
	for (int i = 0; i < c->n; i++) {
		const struct compare_row *p = &c->rows[i];
		int d = i - c->first_beyond_limit;

		/* all of a short run; else the ends and what surrounds the first divergence */
		if (c->n > ROWS_SHOWN && i >= ROWS_SHOWN / 4 && i < c->n - ROWS_SHOWN / 4 &&
		    (c->first_beyond_limit < 0 || d < -4 || d > 8))
			continue;
		if (i != last + 1)
			fprintf(f, "  … %d positions …\n", i - last - 1);
		last = i;
		fprintf(f, "%s t=%d cosine=%.9f l2=%.6g nmse=%.3e kl=%.3e max|d|=%.3e%s%s\n",
			p->inside_limit ? "✓" : "✗", p->pos, p->cosine, p->l2, p->nmse, p->kl,
			p->max_abs, p->bits_equal ? " bits" : "",
			p->top1_ours == p->top1_ref ? "" : " top-1 differs");
	}
}

char *receipt_text(const struct receipt *r)
{
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);

	assert(f);
	fprintf(f, "%s: %s\n%s\n", r->id, r->verdict, r->explanation);
	if (r->explain)
		fprintf(f, "to see where and whose fault: %s\n", r->explain);
	putc('\n', f);
	fprintf(f, "model %s\n    SHA-256 %s\n", r->run->model_path, r->run->model_sha256);
	fprintf(f, "template %s (%s), add_bos %d, parse_special %d\n", r->template_name,
		r->template_why, r->add_bos, r->parse_special);
	print_side(f, "ours", &r->sides[0]);
	if (r->n_sides == 2) {
		print_side(f, "reference", &r->sides[1]);
		if (*r->comparison->thresholds.set)
			fprintf(f, "thresholds %s: %s\n", r->comparison->thresholds.set,
				r->comparison->thresholds.origin);
		print_cost(f, r);
	}
	print_tokens(f, r);
	print_rows(f, r->comparison);
	if (r->local) {
		putc('\n', f);
		local_text(f, r->local);
	}
	fclose(f);
	utf8_plain(text);	/* a reply may hold anything */
	return text;
}
