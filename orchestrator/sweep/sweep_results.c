#include "sweep_internal.h"

#include "facts.h"
#include "output.h"
#include "report/picture.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Takes text. Only receipt and journal must outlive a power cut: the rest can be made again. */
static int write_file(const struct sweep *w, const char *id, const char *name, char *text,
		      struct err *e)
{
	char path[PATH_MAX];
	int r;

	snprintf(path, sizeof(path), "%.3000s/%s/%s", w->o->out, id, name);
	r = facts_write_soon(path, text, e);
	free(text);
	return r;
}

static char *tokens_json(const struct receipt *r)
{
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);

	assert(f);
	fprintf(f, "{");
	for (int i = 0; i < r->n_sides; i++) {
		const struct receipt_side *s = &r->sides[i];

		fprintf(f, "%s\n \"%s\": {\"prompt\": [", i ? "," : "", i ? "reference" : "ours");
		for (int k = 0; k < s->n_ids; k++)
			fprintf(f, "%s%d", k ? "," : "", s->ids[k]);
		fprintf(f, "], \"greedy\": [");
		for (int k = 0; k < s->n_greedy; k++)
			fprintf(f, "%s%d", k ? "," : "", s->greedy[k]);
		fprintf(f, "]}");
	}
	fprintf(f, "\n}\n");
	fclose(f);
	return text;
}

/* What each side decoded after the prompt. */
static char *output_text(const struct receipt *r)
{
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);

	assert(f);
	for (int i = 0; i < r->n_sides; i++)
		fprintf(f, "[%s]\n%s\n", r->sides[i].engine,
			r->sides[i].text ? r->sides[i].text : "");
	fclose(f);
	return text;
}

int sweep_write_results(struct sweep *w, const struct receipt *r, const char *json, struct err *e)
{
	char path[PATH_MAX], *picture;
	int rc;

	snprintf(path, sizeof(path), "%.3000s/%s", w->o->out, r->id);
	if (mkdir(path, 0777) < 0 && errno != EEXIST)
		return output_failed(e, "making the folder", path);
	rc = write_file(w, r->id, "tokens.json", tokens_json(r), e);
	if (rc == 0 && r->prompt)
		rc = write_file(w, r->id, "prompt.txt", strdup(r->prompt), e);
	if (rc == 0)
		rc = write_file(w, r->id, "logits-comparison.json", receipt_comparison_json(r), e);
	if (rc == 0)
		rc = write_file(w, r->id, "output.txt", output_text(r), e);
	if (rc == 0)
		rc = write_file(w, r->id, "report.txt", receipt_text(r), e);
	picture = rc == 0 ? picture_of_receipt(r) : NULL;
	if (picture)
		rc = write_file(w, r->id, "operations.html", picture, e);
	snprintf(path, sizeof(path), "%.3000s/%s/receipt.json", w->o->out, r->id);
	if (rc == 0)
		rc = facts_write(path, json, e);
	if (rc == 0)
		rc = journal_add(&w->journal, r->id, r->verdict, r->exit_code, e);
	return rc;
}

static void fill_side(struct receipt_side *out, const struct exchange *x, int side)
{
	const struct exchange_side *s = &x->sides[side];
	uint8_t sha[DIGEST_BYTES];

	*out = (struct receipt_side){
		.engine = s->engine,
		.hello = s->hello,
		.identity = s->identity,
		.opened = s->opened,
		.done = s->done,
		.ids = s->ids,
		.n_ids = s->n_ids,
		.tokenized = s->tokenized,
		.pieces = s->pieces,
		.text = s->text,
		.greedy = s->greedy,
		.n_greedy = s->n_greedy,
		.n_positions = s->n_positions,
		.eval_us = s->eval_us,
		.peak_rss = s->peak_rss,
	};
	facts_hex(s->ids ? (const void *)s->ids : "", (size_t)s->n_ids * sizeof(*s->ids),
		  out->tokens_sha256);
	hasher_final(x->hasher, side, sha);
	digest_hex(sha, out->logits_sha256);
}

void sweep_fill_receipt(struct receipt *r, const struct sweep *w, const struct planned *p,
			const struct exchange *x)
{
	*r = (struct receipt){
		.run = &w->run,
		.scenario = p->scenario,
		.id = p->id,
		.wall_us = p->over_us - p->start_us,
		.compare_us = x->compare_us,
		.template_name = x->template_name,
		.template_why = x->template_why,
		.prompt_bytes = x->prompt_bytes,
		.add_bos = x->add_bos,
		.parse_special = x->parse_special,
		.n_sides = x->n_sides,
		.first_difference = x->first_difference,
		.cause = x->cause,
		.comparison = &x->comparison,
		.verdict = verdict_name(x->verdict),
		.explanation = x->explanation,
		.exit_code = x->exit_code,
	};
	memcpy(r->started, p->started, sizeof(r->started));
	facts_time(r->finished);
	r->prompt = x->prompt;
	if (x->prompt)
		facts_hex(x->prompt, x->prompt_bytes, r->prompt_sha256);
	for (int i = 0; i < x->n_sides; i++)
		fill_side(&r->sides[i], x, i);
}
