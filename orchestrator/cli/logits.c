#include "engine_call.h"
#include "output.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What one position said, kept for printing; the logits themselves go to the file and are gone. */
struct position {
	int pos, step;
	int32_t token;		/* chosen after this position, or −1 */
	int32_t best;		/* first maximum */
	float top1, margin;
};

struct run {
	struct cli *cli;
	FILE *out;		/* NULL: no file */
	struct position *at;	/* [n] */
	int n, cap;
	int64_t eval_us;
	struct err nonfinite;	/* the first position whose logits are not numbers */
	const struct engine_call *g;
	json_t *kernels;	/* calls by kernel */
};

static int keep(struct run *r, const struct position *p, struct err *e)
{
	if (r->n == r->cap) {
		int cap = r->cap ? 2 * r->cap : 256;
		struct position *more = realloc(r->at, (size_t)cap * sizeof(*more));
		if (!more)
			return err_set(e, EXIT_INTERNAL, "no memory for %d positions", cap);
		r->at = more;
		r->cap = cap;
	}
	r->at[r->n++] = *p;
	return 0;
}

static void find_top(struct position *p, const float *x, size_t n)
{
	float first = -INFINITY, second = -INFINITY;
	p->best = -1;
	for (size_t i = 0; i < n; i++) {
		if (x[i] > first || (p->best < 0 && !isnan(x[i]))) {
			second = first;
			first = x[i];
			p->best = (int32_t)i;
		} else if (x[i] > second) {
			second = x[i];
		}
	}
	p->top1 = first;
	p->margin = first - second;
}

static int on_done(struct run *r, const struct wire_frame *f)
{
	const char *key, *value;
	size_t at = 0, nk, nv;
	char name[96], number[32];
	r->eval_us = wire_get_int(f, "eval_us", 0);
	while (wire_each(f, &at, &key, &nk, &value, &nv)) {
		if (nk <= 7 || memcmp(key, "kernel.", 7) != 0 || nk - 7 >= sizeof(name) ||
		    nv >= sizeof(number))
			continue;
		snprintf(name, sizeof(name), "%.*s", (int)(nk - 7), key + 7);
		snprintf(number, sizeof(number), "%.*s", (int)nv, value);
		json_object_set_new(r->kernels, name, json_integer(strtoll(number, NULL, 10)));
	}
	return 0;
}

static int on_frame(void *ctx, const struct wire_frame *f, struct err *e)
{
	struct run *r = ctx;
	if (f->type == WIRE_DONE)
		return on_done(r, f);
	if (f->type != WIRE_LOGITS)
		return 0;
	struct position p = {.pos = (int)wire_get_int(f, "pos", -1),
			     .step = (int)wire_get_int(f, "step", 0),
			     .token = (int32_t)wire_get_int(f, "token", -1)};
	const float *x = (const float *)(const void *)f->body;
	size_t n = f->body_bytes / sizeof(float);
	if (!r->nonfinite.code)
		engine_call_finite(r->g->engine, f, (int)n, &r->nonfinite);
	find_top(&p, x, n);
	if (r->out && p.step == 0 && fwrite(x, sizeof(float), n, r->out) != n)
		return err_set(e, EXIT_NO_SPACE, "the logits of position %d cannot be written",
			       p.pos);
	return keep(r, &p, e);
}

/* ---- printing ----------------------------------------------------------------------------- */

static void print_text(const struct run *r, bool greedy, bool quiet)
{
	if (!greedy && quiet)
		return;
	if (!greedy)
		printf("pos\tbest\tlogit\tmargin\n");
	for (int i = 0; i < r->n; i++) {
		const struct position *p = &r->at[i];
		if (greedy && p->token >= 0)
			printf("%d\t%.9g\n", (int)p->token, (double)p->margin);
		else if (!greedy)
			printf("%d\t%d\t%.9g\t%.9g\n", p->pos, (int)p->best, (double)p->top1,
			       (double)p->margin);
	}
}

/* JSON has no NaN and no infinity: those are texts. */
static json_t *number(double x)
{
	return isfinite(x) ? json_real(x) : json_string(isnan(x) ? "nan" : x > 0 ? "inf" : "-inf");
}

static int print_json(const struct run *r, const struct engine_call *g, const char *file,
		      struct err *e)
{
	json_t *ids = json_array(), *greedy = json_array(), *positions = json_array();
	for (int i = 0; i < g->n_ids; i++)
		json_array_append_new(ids, json_integer(g->ids[i]));
	for (int i = 0; i < r->n; i++) {
		const struct position *p = &r->at[i];
		json_array_append_new(positions,
				      json_pack("{s:i, s:i, s:i, s:o, s:o}", "pos", p->pos, "step",
						p->step, "best", (int)p->best, "logit",
						number((double)p->top1), "margin",
						number((double)p->margin)));
		if (p->token >= 0)
			json_array_append_new(greedy, json_pack("{s:i, s:o}", "id", (int)p->token,
								"margin",
								number((double)p->margin)));
	}
	json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:s?, s:I, s:o, s:o, s:o, s:O}",
			      "engine", g->engine, "arch", g->arch, "profile", g->profile, "isa",
			      g->isa, "weights", g->weights, "n_vocab", g->n_vocab, "file", file,
			      "eval_us", (json_int_t)r->eval_us, "tokens", ids, "greedy", greedy,
			      "positions", positions, "kernels", r->kernels);
	if (!j)
		return err_set(e, EXIT_INTERNAL, "the result cannot be written as JSON");
	json_dumpf(j, stdout, JSON_SORT_KEYS | JSON_REAL_PRECISION(9));
	putchar('\n');
	json_decref(j);
	return 0;
}

/* ---- the command -------------------------------------------------------------------------- */

static int evaluate(struct run *r, struct engine_call *g, int64_t greedy, struct err *e)
{
	engine_call_begin(g);
	wire_put(&g->request, "logits", "all");
	wire_put(&g->request, "greedy", "%" PRId64, greedy);
	wire_put(&g->request, "single", "%d", cli_flag(r->cli, "single"));
	wire_put(&g->request, "batch", "%" PRId64, cli_int(r->cli, "batch"));
	return engine_call_run(g, on_frame, r, e);
}

/* The file appears under its name when it is whole. */
static int open_file(struct run *r, const char *path, char temporary[4200], struct err *e)
{
	int rc = output_check(path, e);

	if (rc < 0)
		return rc;
	snprintf(temporary, 4200, "%.4000s.part", path);
	r->out = fopen(temporary, "wb");
	return r->out ? 0 : output_failed(e, "writing", temporary);
}

static int close_file(struct run *r, const char *path, const char *temporary, int rc, struct err *e)
{
	if (!r->out)
		return rc;
	if (fclose(r->out) != 0 && rc == 0)
		rc = err_set(e, EXIT_NO_SPACE, "%s cannot be written", temporary);
	if (rc == 0 && rename(temporary, path) != 0)
		rc = err_set(e, EXIT_USAGE, "%s cannot be renamed to %s", temporary, path);
	if (rc != 0)
		unlink(temporary);
	return rc;
}

static int run_logits(struct cli *c, struct err *e)
{
	struct engine_call g;
	struct run r = {.cli = c, .g = &g, .kernels = json_object()};
	const char *path = cli_str(c, "out");
	const int64_t greedy = cli_int(c, "greedy");
	char temporary[4200];
	if (greedy < 0 || greedy > 1 << 20 || cli_int(c, "batch") < 0)
		return err_set(e, EXIT_USAGE, "--greedy and --batch are counts");
	int rc = engine_call_open(&g, c, (int)greedy, e);
	if (rc != 0) {
		json_decref(r.kernels);
		return rc;
	}
	if (path)
		rc = open_file(&r, path, temporary, e);
	if (rc == 0)
		rc = evaluate(&r, &g, greedy, e);
	rc = close_file(&r, path, temporary, rc, e);
	if (rc == 0 && cli_json(c))
		rc = print_json(&r, &g, path, e);
	else if (rc == 0)
		print_text(&r, greedy > 0, path != NULL);
	if (rc == 0 && r.nonfinite.code)
		rc = err_set(e, EXIT_INFERENCE, "%s", r.nonfinite.msg);
	engine_call_close(&g);
	json_decref(r.kernels);
	free(r.at);
	return rc;
}

const struct command cmd_logits = {
	.name = "logits",
	.group = "Models",
	.summary = "the logits of every position, as an engine computes them",
	.positional = "[PROMPT]",
	.examples =
		"  assay logits --model model.gguf \"2+2=\"\n"
		"  assay logits --model model.gguf --tokens-file tokens.txt --out logits.f32 --greedy 48\n"
		"  assay logits --model model.gguf --tokens 1,2,3 --profile ggml-avx512 --single\n",
	.details =
		"Without --out: one line per position, its best id, that logit, and the margin to "
		"the second. --out writes little-endian float32 [positions, vocabulary] of the "
		"prompt. --greedy N prints N lines: the id chosen and its margin.\n",
	.opts =
		(const struct opt[]){
			ENGINE_CALL_OPTS,
			ENGINE_CALL_PROMPT_OPTS,
			{"single", OPT_FLAG, NULL, "one position at a time through the KV cache",
			 NULL, NULL, NULL, 0},
			{"batch", OPT_INT, "N", "positions given to the engine at once; 0 = all",
			 "0", NULL, NULL, 'b'},
			{"greedy", OPT_INT, "N", "ids decoded after the prompt", "0", NULL, NULL,
			 'n'},
			{"out", OPT_STR, "FILE", "where the logits go", NULL, NULL, NULL, 'o'},
			{0},
		},
	.run = run_logits,
};
