#include "compare_opts.h"
#include "one_scenario.h"
#include "sweep/facts.h"
#include "sweep/masks.h"
#include "term.h"

#include <assert.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct opt opts[] = {
	COMPARE_OPTS,
	ONE_SCENARIO_OPTS,
	{"cos-tol", OPT_REAL, "X", "least cosine of a position, instead of --thresholds", NULL,
	 NULL, NULL, 0},
	{"ladder", OPT_STR, "RUNG",
	 "how far to go: the tokens, which ids each position sees, the "
	 "logits after the prompt, all positions of it, and decoding",
	 "decode", NULL, "tokens|masks|first-logit|positions|decode", 0},
	{"positions", OPT_INT, "N", "only the first N ids of the prompt", "0", NULL, NULL, 0},
	{"metrics", OPT_STR, "LIST", "of cosine,l2,nmse,kl,max_abs,kendall,margin", "cosine,l2",
	 NULL, NULL, 0},
	{"dump-ids", OPT_FLAG, NULL, "print the ids of the engine under test", NULL, NULL, NULL, 0},
	{"dump-cpp-ids", OPT_FLAG, NULL, "print the ids of the reference", NULL, NULL, NULL, 0},
	{"receipt", OPT_STR, "FILE", "write the receipt", NULL, NULL, NULL, 0},
	{0},
};

struct print {
	struct cli *c;
	struct err failed;	/* of writing the receipt */
	struct err why;		/* what ended it before there was a comparison */
	bool masks;		/* the rung: ids are kept, the receipt of the gate is not printed */
	int32_t *ids;		/* [n_ids] */
	int n_ids;
};

static bool wants(const char *list, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = list; *p;) {
		size_t len = strcspn(p, ",");

		if (len == n && memcmp(p, name, n) == 0)
			return true;
		p += len + (p[len] == ',');
	}
	return false;
}

static void print_row(const struct compare_row *p, const char *metrics)
{
	const struct {
		const char *name, *fmt;
		double value;
	} all[] = {
		{"cosine", " cosine=%.9f", p->cosine}, {"l2", " l2=%.6g", p->l2},
		{"nmse", " nmse=%.3e", p->nmse},       {"kl", " kl=%.3e", p->kl},
		{"max_abs", " max_abs=%.3e", p->max_abs},
		{"kendall", " kendall=%.4f", p->kendall},
		{"margin", " margin=%.4g", p->margin_ref},
	};

	printf("%s t=%d", p->inside_limit ? "✓" : "✗", p->pos);
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (wants(metrics, all[i].name))
			printf(all[i].fmt, all[i].value);
	if (p->top1_ours != p->top1_ref)
		printf(" top-1 %d, reference %d", p->top1_ours, p->top1_ref);
	putchar('\n');
}

static void print_ids(const char *who, const struct receipt_side *s)
{
	printf("%s ids (%d):", who, s->n_ids);
	for (int i = 0; i < s->n_ids; i++)
		printf(" %d", s->ids[i]);
	putchar('\n');
}

static void print_text(const struct print *p, const struct receipt *r)
{
	const struct comparison *k = r->comparison;
	char *report;

	if (cli_flag(p->c, "dump-ids"))
		print_ids(r->sides[0].engine, &r->sides[0]);
	if (cli_flag(p->c, "dump-cpp-ids") && r->n_sides == 2)
		print_ids(r->sides[1].engine, &r->sides[1]);
	if (r->first_difference >= 0) {
		report = receipt_text(r);
		fputs(report, stdout);
		free(report);
		return;
	}
	for (int i = 0; i < k->n; i++)
		print_row(&k->rows[i], cli_str(p->c, "metrics"));
	if (k->flip_step >= 0)
		printf("greedy id %d: ours %d, reference %d, margin %.3g, error %.3g: %s\n",
		       k->flip_step, k->flip_ours, k->flip_ref, k->flip_margin, k->flip_error,
		       k->flip_is_tie ? "a near tie" : "no tie");
	printf("%s: %s\n", r->verdict, r->explanation);
}

static void keep_ids(struct print *p, const struct receipt *r)
{
	size_t bytes = (size_t)r->sides[0].n_ids * sizeof(*p->ids);

	free(p->ids);
	p->ids = malloc(bytes + 1);
	assert(p->ids);
	memcpy(p->ids, r->sides[0].ids, bytes);
	p->n_ids = r->sides[0].n_ids;
}

static void on_receipt(void *ctx, const struct exchange *x, const struct receipt *r)
{
	struct print *p = ctx;
	const char *path = cli_str(p->c, "receipt");
	char *json = receipt_json(r);

	(void)x;
	term_clear();
	if (path)
		facts_write(path, json, &p->failed);
	if (p->masks && r->exit_code == EXIT_AGREE)
		keep_ids(p, r);
	else if (cli_json(p->c))
		fputs(json, stdout);
	else if (r->exit_code <= EXIT_TOKENS_DIFFER)
		print_text(p, r);
	else
		err_set(&p->why, (enum exit_code)r->exit_code, "%s", r->explanation);
	fflush(stdout);
	if (r->explain)
		term_note("to see where and whose fault: %s", r->explain);
	free(json);
}

static int check_metrics(const char *list, struct err *e)
{
	static const char known[] = "cosine,l2,nmse,kl,max_abs,kendall,margin";
	char name[32];

	for (const char *p = list; *p;) {
		size_t n = strcspn(p, ",");

		snprintf(name, sizeof(name), "%.*s", (int)(n < 31 ? n : 31), p);
		if (!wants(known, name))
			return err_set(e, EXIT_USAGE, "--metrics: \"%s\" is none of %s", name,
				       known);
		p += n + (p[n] == ',');
	}
	return 0;
}

static int climb(struct compare_run *r, struct cli *c, struct err *e)
{
	const char *rung = cli_str(c, "ladder");
	struct exchange_setup *u = &r->o.setup;

	u->cos_tol = cli_real(c, "cos-tol");
	u->max_positions = (int)cli_int(c, "positions");
	u->only_tokens = strcmp(rung, "tokens") == 0 || strcmp(rung, "masks") == 0;
	u->only_last = strcmp(rung, "first-logit") == 0;
	if (strcmp(rung, "decode") != 0)
		r->scenarios.items[0].max_new_tokens = 0;
	if (cli_given(c, "cos-tol") && !(u->cos_tol > 0 && u->cos_tol <= 1))
		return err_set(e, EXIT_USAGE, "--cos-tol: expected more than 0, at most 1");
	if (u->max_positions < 0)
		return err_set(e, EXIT_USAGE, "--positions is not negative");
	return check_metrics(cli_str(c, "metrics"), e);
}

static json_t *mask_rows(const struct masks *m)
{
	json_t *rows = json_array();
	char row[MASKS_POSITIONS_MAX + 1];

	for (int t = 0; t < m->n; t++) {
		for (int i = 0; i < m->n; i++)
			row[i] = m->sees[t][i] ? '1' : '0';
		row[m->n] = '\0';
		json_array_append_new(rows, json_string(row));
	}
	return rows;
}

static void print_masks(struct cli *c, const struct sweep_options *o, const struct masks *m, int n,
			int code, const char *sentence)
{
	json_t *j, *sees = json_object();

	if (!cli_json(c)) {
		printf("%s masks: %s\n", code == EXIT_AGREE ? "✓" : "✗", sentence);
		json_decref(sees);
		return;
	}
	for (int i = 0; i < n; i++)
		json_object_set_new(sees, i ? o->references[i - 1] : o->engine, mask_rows(&m[i]));
	j = json_pack("{s:s, s:i, s:o, s:s, s:i, s:s}", "rung", "masks", "n_positions", m[0].n,
		      "sees", sees, "status", code == EXIT_AGREE ? "ok" : "diverged", "exit_code",
		      code, "explanation", sentence);
	json_dumpf(j, stdout, JSON_SORT_KEYS | JSON_INDENT(1));
	putchar('\n');
	json_decref(j);
}

/* The rung above the tokens: which ids does each position see, on every side? */
static int climb_masks(struct compare_run *r, struct print *p, struct err *e)
{
	const struct sweep_options *o = &r->o;
	int n = o->n_references + 1, max = o->setup.max_positions, rc = 0, code = EXIT_AGREE, at,
	    id;
	struct masks *m = calloc((size_t)n, sizeof(*m));
	char sentence[512];

	assert(m);
	if (max > 0 && p->n_ids > max)
		p->n_ids = max;
	for (int i = 0; i < n && rc == 0; i++)
		rc = masks_measure(&m[i], i ? o->references[i - 1] : o->engine, &o->setup,
				   i && o->setup.model_ref ? o->setup.model_ref : o->setup.model,
				   p->ids, p->n_ids, e);
	snprintf(sentence, sizeof(sentence),
		 "each of %d positions sees itself and what is before it%s", m[0].n,
		 n > 1 ? ", on every side" : "");
	if (rc == 0 && !masks_causal(&m[0], &at, &id))
		snprintf(sentence, sizeof(sentence),
			 "the same ids are seen, but not causally: position %d "
			 "%s id %d",
			 at, m[0].sees[at][id] ? "sees" : "does not see", id);
	for (int i = 1; i < n && rc == 0 && code == EXIT_AGREE; i++)
		if (!masks_equal(&m[0], &m[i], &at, &id)) {
			code = EXIT_DIVERGED;
			snprintf(sentence, sizeof(sentence),
				 "position %d %s id %d in %.100s, but %s in %.100s", at,
				 m[0].sees[at][id] ? "sees" : "does not see", id, o->engine,
				 m[i].sees[at][id] ? "sees it" : "does not", o->references[i - 1]);
		}
	if (rc == 0)
		print_masks(p->c, o, m, n, code, sentence);
	free(m);
	return rc < 0 ? rc : code;
}

static int run(struct cli *c, struct err *e)
{
	struct compare_run r = {.detected = ""};
	struct print p = {.c = c, .masks = strcmp(cli_str(c, "ladder"), "masks") == 0};
	int rc = compare_setup(&r, c, 1, cli_str(c, "prompt-template"), e);

	if (rc == 0)
		rc = one_scenario(&r.scenarios, c, e);
	if (rc == 0)
		rc = climb(&r, c, e);
	if (rc == 0) {
		r.o.on_receipt = on_receipt;
		r.o.ctx = &p;
		rc = compare_run_now(&r, e);
	}
	if (rc == 0) {
		rc = summary_exit_code(&r.summary);
		if (p.failed.code || p.why.code) {
			*e = p.why.code ? p.why : p.failed;
			rc = -e->code;
		}
	}
	if (rc == EXIT_AGREE && p.masks)
		rc = climb_masks(&r, &p, e);
	free(p.ids);
	compare_release(&r);
	return rc;
}

const struct command cmd_per_token = {
	.name = "crossval-per-token",
	.aliases = "per-token",
	.group = "Comparing",
	.summary = "compare position by position and name the first that differs",
	.examples = "assay crossval-per-token --model m.gguf --prompt \"2+2=\" --max-tokens 4\n"
		    "assay per-token --model m.gguf --cpp-backend llama --cos-tol 0.999\n"
		    "assay per-token --model m.gguf --ladder tokens --dump-ids --dump-cpp-ids\n"
		    "assay per-token --model m.gguf --ladder masks --cpp-backend llama\n",
	.opts = opts,
	.run = run,
	.details =
		"Template, tokens of both sides, the gate, evaluation, metrics, first divergence. When\n"
		"tokens differ nothing is evaluated, and both lists are shown around the difference.\n"
		"The rung masks exchanges one id after the other and looks which positions' logits change:\n"
		"what each position sees must be the same on both sides.\n",
};
