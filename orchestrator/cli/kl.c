#include "compare_opts.h"
#include "sweep/facts.h"
#include "sweep/text_chunks.h"
#include "term.h"
#include "verdict/kl.h"

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_MAX = 256 << 20, CHUNK_MAX = 1 << 17 };

static const struct opt opts[] = {
	COMPARE_OPTS,
	{"text", OPT_STR, "FILE", "the text, UTF-8", NULL, NULL, NULL, 'f'},
	{"chunk", OPT_INT, "N", "ids per chunk; the second half of each is scored", "512", NULL,
	 NULL, 'c'},
	{"chunks", OPT_INT, "N", "only the first N chunks, 0 = all", "0", NULL, NULL, 0},
	{"timeout", OPT_INT, "SECONDS", "for each chunk", "600", "CROSSVAL_TIMEOUT_SECS", NULL, 0},
	{"workers", OPT_INT, "N", "chunks at once", "1", NULL, NULL, 'j'},
	{"scenarios-out", OPT_STR, "FILE",
	 "write the chunks as scenarios, for `assay record`, and "
	 "evaluate nothing",
	 NULL, NULL, NULL, 0},
	{0},
};

struct scoring {
	struct kl_sums sums;
	int first;	/* position scored first in each chunk */
};

static void on_logits(void *ctx, const struct exchange *x, int pos, const struct metrics *m,
		      const float *ours, const float *ref)
{
	struct scoring *s = ctx;
	const struct scenario *chunk = x->scenario;
	int n_vocab = x->sides[0].n_vocab;

	if (pos < s->first || pos + 1 >= chunk->n_tokens || chunk->tokens[pos + 1] >= n_vocab)
		return;
	kl_add(&s->sums, m, ours, ref, n_vocab, chunk->tokens[pos + 1]);
}

static int read_text(const char *path, char **out, size_t *bytes, struct err *e)
{
	FILE *f = fopen(path, "rbe");
	size_t cap = 1 << 20, n = 0, got;
	char *text;

	if (!f)
		return err_set(e, EXIT_USAGE, "--text %s: %s", path, strerror(errno));
	text = malloc(cap);
	assert(text);
	while ((got = fread(text + n, 1, cap - n, f)) > 0 && n <= TEXT_MAX) {
		n += got;
		if (n == cap) {
			text = realloc(text, cap *= 2);
			assert(text);
		}
	}
	fclose(f);
	n -= n > 0 && text[n - 1] == '\n';	/* as llama.cpp's tools read a file */
	*out = text;
	*bytes = n;
	return n > TEXT_MAX ? err_set(e, EXIT_USAGE, "--text %s: more than %d MiB", path,
				      TEXT_MAX >> 20) : 0;
}

static int write_scenarios(const struct scenario_set *s, const char *path, struct err *e)
{
	json_t *list = json_array();
	char *text;
	int rc;

	for (int i = 0; i < s->n; i++) {
		json_t *ids = json_array();

		for (int k = 0; k < s->items[i].n_tokens; k++)
			json_array_append_new(ids, json_integer(s->items[i].tokens[k]));
		json_array_append_new(list,
				      json_pack("{s:s, s:o}", "id", s->items[i].id, "tokens", ids));
	}
	text = json_dumps(list, JSON_SORT_KEYS);
	json_decref(list);
	rc = facts_write(path, text, e);
	free(text);
	return rc;
}

/* ---- printing ----------------------------------------------------------------------------- */

static json_t *spread_object(const struct kl_spread *s)
{
	return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}",
			 "mean", s->mean, "mean_error", s->mean_error, "min", s->min, "p0_1",
			 s->p001, "p1", s->p01, "p5", s->p05, "p10", s->p10, "p25", s->p25,
			 "median", s->median, "p75", s->p75, "p90", s->p90, "p95", s->p95, "p99",
			 s->p99, "p99_9", s->p999, "max", s->max);
}

static void print_json(const struct kl_summary *k, const struct compare_run *r,
		       const struct text_chunks *t, int code)
{
	json_t *j = json_object();

	json_object_set_new(j, "engine", json_string(r->o.engine));
	json_object_set_new(j, "reference", json_string(r->o.references[0]));
	json_object_set_new(j, "n_ids", json_integer(t->n_ids));
	json_object_set_new(j, "n_chunks", json_integer(r->summary.n));
	json_object_set_new(j, "chunk", json_integer(t->chunk));
	json_object_set_new(j, "n_scored", json_integer(k->n));
	json_object_set_new(j, "n_nonfinite", json_integer(k->n_nonfinite));
	if (k->n) {
		json_object_set_new(
			j, "perplexity",
			json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "ours",
				  k->ppl_ours, "ours_error", k->ppl_ours_error, "reference",
				  k->ppl_ref, "reference_error", k->ppl_ref_error, "ln_ratio",
				  k->ln_ratio, "ln_ratio_error", k->ln_ratio_error, "ratio",
				  k->ratio, "ratio_error", k->ratio_error, "difference",
				  k->difference, "difference_error", k->difference_error,
				  "correlation", k->correlation));
		json_object_set_new(j, "kl", spread_object(&k->kl));
		json_object_set_new(j, "delta_p", spread_object(&k->dp));
		json_object_set_new(j, "delta_p_rms", json_real(k->dp_rms));
		json_object_set_new(j, "delta_p_rms_error", json_real(k->dp_rms_error));
		json_object_set_new(j, "same_top1", json_real(k->same_top1));
		json_object_set_new(j, "same_top1_error", json_real(k->same_top1_error));
	}
	json_object_set_new(j, "exit_code", json_integer(code));
	json_object_set_new(j, "exit_name", json_string(err_code_name(code)));
	json_dumpf(j, stdout, JSON_SORT_KEYS | JSON_INDENT(1) | JSON_REAL_PRECISION(17));
	putchar('\n');
	json_decref(j);
}

static void print_spread(const char *name, const struct kl_spread *s, double unit)
{
	printf("%-16s mean %.6f ± %.6f  median %.6f  max %.6f  min %.6f\n", name, s->mean * unit,
	       s->mean_error * unit, s->median * unit, s->max * unit, s->min * unit);
	printf("%-16s 0.1 %% %.6f  1 %% %.6f  5 %% %.6f  10 %% %.6f  25 %% %.6f\n", "  percentiles",
	       s->p001 * unit, s->p01 * unit, s->p05 * unit, s->p10 * unit, s->p25 * unit);
	printf("%-16s 75 %% %.6f  90 %% %.6f  95 %% %.6f  99 %% %.6f  99.9 %% %.6f\n", "",
	       s->p75 * unit, s->p90 * unit, s->p95 * unit, s->p99 * unit, s->p999 * unit);
}

static void print_perplexity(const struct kl_summary *k)
{
	printf("%-16s ours %.6f ± %.6f  reference %.6f ± %.6f\n", "perplexity", k->ppl_ours,
	       k->ppl_ours_error, k->ppl_ref, k->ppl_ref_error);
	printf("%-16s %.6f ± %.6f  ln %.6f ± %.6f  correlation of ln %.2f percent\n", "  ratio",
	       k->ratio, k->ratio_error, k->ln_ratio, k->ln_ratio_error, 100 * k->correlation);
	printf("%-16s %.6f ± %.6f\n", "  difference", k->difference, k->difference_error);
}

static int count_verdicts(const struct summary *s, const char *verdict)
{
	int n = 0;

	for (int i = 0; i < s->n; i++)
		n += strcmp(s->rows[i].verdict, verdict) == 0;
	return n;
}

static void print_text(const struct kl_summary *k, const struct compare_run *r,
		       const struct text_chunks *t)
{
	static const char *const verdicts[] = {"IDENTICAL", "EQUIVALENT", "WITHIN_NOISE", "DRIFT",
					       "DIVERGED", "NOT_COMPARABLE", "CRASHED", "TIMED_OUT",
					       "FAILED"};

	printf("%d ids, %d chunks of %d, %lld positions scored\n", t->n_ids, r->summary.n, t->chunk,
	       (long long)k->n);
	if (k->n_nonfinite)
		printf("%lld positions with NaN or Inf are in no number below\n",
		       (long long)k->n_nonfinite);
	if (k->n) {
		print_perplexity(k);
		print_spread("KL divergence", &k->kl, 1);
		print_spread("Δp, percent", &k->dp, 100);
		printf("%-16s %.4f ± %.4f percent\n", "Δp RMS", 100 * k->dp_rms,
		       100 * k->dp_rms_error);
		printf("%-16s %.4f ± %.4f percent\n", "same top-1", 100 * k->same_top1,
		       100 * k->same_top1_error);
	}
	printf("chunks");
	for (size_t i = 0; i < sizeof(verdicts) / sizeof(verdicts[0]); i++)
		if (count_verdicts(&r->summary, verdicts[i]))
			printf("  %s %d", verdicts[i], count_verdicts(&r->summary, verdicts[i]));
	putchar('\n');
}

static void on_receipt(void *ctx, const struct exchange *x, const struct receipt *r)
{
	(void)ctx;
	(void)x;
	if (r->exit_code != EXIT_AGREE)
		term_note("✗ %s: %s: %s", r->id, r->verdict, r->explanation);
}

/* ---- the command -------------------------------------------------------------------------- */

static int make_chunks(struct compare_run *r, struct text_chunks *t, struct cli *c, struct err *e)
{
	char *text = NULL;
	int rc;

	if (!cli_str(c, "text"))
		return err_set(e, EXIT_USAGE, "--text FILE is missing");
	if (r->o.n_references != 1)
		return err_set(e, EXIT_USAGE, "kl compares with one reference, not %d",
			       r->o.n_references);
	t->chunk = (int)cli_int(c, "chunk");
	t->max_chunks = (int)cli_int(c, "chunks");
	t->timeout_s = (int)cli_int(c, "timeout");
	if (cli_int(c, "chunk") < 4 || cli_int(c, "chunk") > CHUNK_MAX)
		return err_set(e, EXIT_USAGE, "--chunk: expected 4 to %d ids", CHUNK_MAX);
	if (cli_int(c, "chunks") < 0 || t->timeout_s < 1 || t->timeout_s > 86400)
		return err_set(e, EXIT_USAGE,
			       "--chunks is not negative, --timeout 1 to 86400 seconds");
	t->setup = &r->o.setup;
	t->engines[t->n_engines++] = r->o.engine;
	t->engines[t->n_engines++] = r->o.references[0];
	rc = read_text(cli_str(c, "text"), &text, &t->bytes, e);
	t->text = text;
	if (rc == 0)
		rc = text_chunks_make(t, &r->scenarios, e);
	free(text);
	t->text = NULL;
	if (rc == 0 && r->o.setup.ctx < t->chunk)
		r->o.setup.ctx = t->chunk;
	return rc;
}

static int score(struct compare_run *r, struct text_chunks *t, bool json, struct err *e)
{
	struct scoring s = {.first = t->chunk / 2};
	struct kl_summary k;
	int rc;

	r->o.setup.on_logits = on_logits;
	r->o.setup.logits_ctx = &s;
	r->o.on_receipt = on_receipt;
	rc = compare_run_now(r, e);
	if (rc == 0) {
		kl_summarise(&s.sums, &k);
		rc = summary_exit_code(&r->summary);
		if (json)
			print_json(&k, r, t, rc);
		else
			print_text(&k, r, t);
	}
	kl_free(&s.sums);
	return rc;
}

static int run(struct cli *c, struct err *e)
{
	struct compare_run r = {.detected = ""};
	struct text_chunks t = {.n_engines = 0};
	const char *scenarios = cli_str(c, "scenarios-out");
	int rc = compare_setup(&r, c, (int)cli_int(c, "workers"), "raw", e);

	if (rc == 0)
		rc = make_chunks(&r, &t, c, e);
	if (rc == 0 && scenarios) {
		rc = write_scenarios(&r.scenarios, scenarios, e);
		if (rc == 0)
			printf("%s: %d chunks of %d ids\n", scenarios, r.scenarios.n, t.chunk);
	} else if (rc == 0) {
		rc = score(&r, &t, cli_json(c), e);
	}
	compare_release(&r);
	return rc;
}

const struct command cmd_kl = {
	.name = "kl",
	.aliases = "perplexity",
	.group = "Comparing",
	.summary = "perplexity and KL divergence of two engines over a text",
	.examples =
		"assay kl --model m.gguf --text wiki.txt --cpp-backend llama\n"
		"assay kl --model m.gguf --text wiki.txt --reference oracle --chunk 128 --chunks 4\n"
		"assay kl --model m.gguf --text wiki.txt --scenarios-out chunks.json\n"
		"assay record --model m.gguf --engine llama -s chunks.json -o llama.tar.zst\n"
		"assay kl --model m.gguf --text wiki.txt --reference recorded:llama.tar.zst\n",
	.opts = opts,
	.run = run,
	.details =
		"The text is tokenized by both sides (exit 2 when they differ) and cut into chunks; in each\n"
		"the ids from the middle on are scored: perplexity of both sides, KL(reference ‖ ours),\n"
		"the difference of the true next id's probability, how often the greatest logit is of the\n"
		"same id. Formulas: orchestrator/verdict/kl.h. Memory does not grow with the logits.\n"
		"A newline at the very end is not part of the text. docs/scenarios.md sets the numbers beside\n"
		"those of llama-perplexity. The exit code is that of the thresholds, as in a sweep.\n",
};
