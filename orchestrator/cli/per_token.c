#include "compare_opts.h"
#include "explain_command.h"
#include "one_scenario.h"
#include "sweep/facts.h"
#include "term.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct opt opts[] = {
	COMPARE_OPTS,
	ONE_SCENARIO_OPTS,
	{"cos-tol", OPT_REAL, "X", "least cosine of a position, instead of --thresholds", NULL, NULL,
	 NULL, 0},
	{"ladder", OPT_STR, "RUNG", "how far to go: the tokens, the logits after the prompt, all "
	 "positions of it, and decoding", "decode", NULL, "tokens|first-logit|positions|decode", 0},
	{"positions", OPT_INT, "N", "only the first N ids of the prompt", "0", NULL, NULL, 0},
	{"metrics", OPT_STR, "LIST", "of cosine,l2,nmse,kl,max_abs,kendall,margin", "cosine,l2", NULL,
	 NULL, 0},
	{"dump-ids", OPT_FLAG, NULL, "print the ids of the engine under test", NULL, NULL, NULL, 0},
	{"dump-cpp-ids", OPT_FLAG, NULL, "print the ids of the reference", NULL, NULL, NULL, 0},
	{"receipt", OPT_STR, "FILE", "write the receipt", NULL, NULL, NULL, 0},
	{0},
};

struct print {
	struct cli *c;
	struct err failed;	/* of writing the receipt */
	struct err why;		/* what ended it before there was a comparison */
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

static void on_receipt(void *ctx, const struct exchange *x, const struct receipt *r)
{
	struct print *p = ctx;
	const char *path = cli_str(p->c, "receipt");
	char *json = receipt_json(r);

	term_clear();
	if (path)
		facts_write(path, json, &p->failed);
	if (cli_json(p->c))
		fputs(json, stdout);
	else if (r->exit_code <= EXIT_TOKENS_DIFFER)
		print_text(p, r);
	else
		err_set(&p->why, (enum exit_code)r->exit_code, "%s", r->explanation);
	fflush(stdout);
	explain_hint(x);
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
			return err_set(e, EXIT_USAGE, "--metrics: \"%s\" is none of %s", name, known);
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
	u->only_tokens = strcmp(rung, "tokens") == 0;
	u->only_last = strcmp(rung, "first-logit") == 0;
	if (strcmp(rung, "decode") != 0)
		r->scenarios.items[0].max_new_tokens = 0;
	if (cli_given(c, "cos-tol") && !(u->cos_tol > 0 && u->cos_tol <= 1))
		return err_set(e, EXIT_USAGE, "--cos-tol: expected more than 0, at most 1");
	if (u->max_positions < 0)
		return err_set(e, EXIT_USAGE, "--positions is not negative");
	return check_metrics(cli_str(c, "metrics"), e);
}

static int run(struct cli *c, struct err *e)
{
	struct compare_run r = {.detected = ""};
	struct print p = {.c = c};
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
		    "assay per-token --model m.gguf --ladder tokens --dump-ids --dump-cpp-ids\n",
	.opts = opts,
	.run = run,
	.details =
		"Template, tokens of both sides, the gate, evaluation, metrics, first divergence. When\n"
		"tokens differ nothing is evaluated, and both lists are shown around the difference.\n",
};
