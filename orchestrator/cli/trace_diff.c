#include "cli.h"
#include "report/picture.h"
#include "sweep/facts.h"
#include "sweep/trace_dir.h"
#include "verdict/local.h"
#include "verdict/trace_diff.h"

#include <assert.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static json_t *number(double x)
{
	return isfinite(x) ? json_real(x)
			   : json_string(isnan(x) ? "NaN"
					 : x > 0  ? "Infinity"
						  : "-Infinity");
}

static json_t *row_json(const struct trace_diff_row *r)
{
	json_t *o =
		json_pack("{s:s, s:i, s:i, s:s, s:b}", "stage", trace_stage_name(r->stage), "layer",
			  r->layer, "seq", r->seq, "state", trace_diff_state_name(r->state),
			  "hash_equal", r->state == TRACE_EQUAL);

	if (r->state == TRACE_BEYOND || r->state == TRACE_WITHIN)
		json_object_set_new(o, "rel_rms", number(r->diff.rel_rms));
	if (!r->measured || r->state == TRACE_EQUAL)
		return o;
	json_object_set_new(o, "nmse", number(r->diff.nmse));
	json_object_set_new(o, "cosine", number(r->diff.cosine));
	json_object_set_new(o, "max_ulp", json_integer(r->diff.max_ulp));
	json_object_set_new(o, "row_ulp", number(r->diff.row_ulp));
	json_object_set_new(o, "values", json_integer(r->diff.n));
	json_object_set_new(o, "different", json_integer(r->diff.n_different));
	json_object_set_new(o, "worst_index", json_integer(r->diff.worst));
	json_object_set_new(o, "worst_a", number((double)r->diff.worst_a));
	json_object_set_new(o, "worst_b", number((double)r->diff.worst_b));
	return o;
}

static void print_json(const struct trace_diff *d)
{
	char *picture = trace_diff_picture(d);
	json_t *rows = json_array(), *o;

	for (int i = 0; i < d->n; i++)
		json_array_append_new(rows, row_json(&d->rows[i]));
	o = json_pack("{s:i, s:i, s:i, s:i, s:i, s:f, s:o, s:o, s:s, s:o}", "records", d->n,
		      "equal", d->n_equal, "within", d->n_within, "beyond", d->n_beyond,
		      "unmatched", d->n_unmatched, "tolerance", d->tolerance, "first_different",
		      d->first_different < 0 ? json_null() : json_integer(d->first_different),
		      "first_beyond",
		      d->first_beyond < 0 ? json_null() : json_integer(d->first_beyond), "picture",
		      picture, "rows", rows);
	assert(o);
	json_dumpf(o, stdout, JSON_INDENT(1) | JSON_SORT_KEYS);
	putchar('\n');
	json_decref(o);
	free(picture);
}

static void print_row(const struct trace_diff_row *r)
{
	char name[64];

	local_name(r->stage, r->layer, name, sizeof(name));
	printf("%s %-28s",
	       r->state == TRACE_EQUAL    ? "="
	       : r->state == TRACE_WITHIN ? "."
					  : "✗",
	       name);
	if (r->seq)
		printf(" step %d", r->seq);
	if (r->state > TRACE_BEYOND)
		printf(" %s\n", trace_diff_state_name(r->state));
	else if (r->state == TRACE_EQUAL)
		printf(" the same bits\n");
	else if (!r->measured)
		printf(" other hash; RMS %.9g and %.9g (no values to compare)\n", r->rms_a,
		       r->rms_b);
	else
		printf(" rel-RMS %.3e cosine %.9f NMSE %.3e max ulp %u, %lld of %lld values; worst [%lld]: "
		       "%.9g and %.9g\n",
		       r->diff.rel_rms, r->diff.cosine, r->diff.nmse, r->diff.max_ulp,
		       (long long)r->diff.n_different, (long long)r->diff.n,
		       (long long)r->diff.worst, (double)r->diff.worst_a, (double)r->diff.worst_b);
}

/* The first row of these states, in words; nothing when there is none. */
static void print_first(const struct trace_diff *d, const char *what, enum trace_diff_state from,
			enum trace_diff_state to)
{
	char name[64];

	for (int i = 0; i < d->n; i++) {
		const struct trace_diff_row *r = &d->rows[i];

		if (r->state < from || r->state > to)
			continue;
		local_name(r->stage, r->layer, name, sizeof(name));
		printf("first %s: %s%s\n", what, name, r->seq ? " while decoding" : "");
		return;
	}
}

static void print_text(const struct trace_diff *d, bool all)
{
	char *picture = trace_diff_picture(d);

	for (int i = 0; i < d->n; i++)
		if (all || d->rows[i].state != TRACE_EQUAL)
			print_row(&d->rows[i]);
	printf("\n%s\n%d records: %d equal, %d within rel-RMS %g, %d beyond, %d without a counterpart\n",
	       picture, d->n, d->n_equal, d->n_within, d->tolerance, d->n_beyond, d->n_unmatched);
	print_first(d, "difference beyond it", TRACE_BEYOND, TRACE_SHAPES);
	print_first(d, "without a counterpart", TRACE_ONLY_A, TRACE_ONLY_B);
	free(picture);
}

static struct trace_diff_tensor *tensors(const struct trace_dir *d)
{
	struct trace_diff_tensor *t = calloc((size_t)d->n, sizeof(*t));

	assert(t);
	for (int i = 0; i < d->n; i++)
		t[i] = (struct trace_diff_tensor){&d->records[i].r, d->records[i].values};
	return t;
}

static int write_page(const struct trace_diff *d, const char *path, const char *const *names,
		      struct err *e)
{
	char *text = picture_of_traces(d, names[0], names[1]);
	int rc = facts_write(path, text, e);

	free(text);
	return rc;
}

static int run(struct cli *c, struct err *e)
{
	const char *const *args;
	struct trace_dir a = {.n = 0}, b = {.n = 0};
	struct trace_diff d;
	int rc;

	if (cli_positional(c, &args) != 2)
		return err_set(e, EXIT_USAGE,
			       "two traces are needed: directories that `assay trace --out DIR "
			       "--values` wrote, or files of records");
	if (!(cli_real(c, "tolerance") >= 0))
		return err_set(e, EXIT_USAGE, "--tolerance is not negative");
	rc = trace_dir_open(&a, args[0], e);
	if (rc == 0)
		rc = trace_dir_open(&b, args[1], e);
	if (rc == 0) {
		struct trace_diff_tensor *x = tensors(&a), *y = tensors(&b);

		trace_diff_run(&d, x, a.n, y, b.n, cli_real(c, "tolerance"));
		if (cli_json(c))
			print_json(&d);
		else
			print_text(&d, cli_flag(c, "all"));
		rc = cli_str(c, "html") ? write_page(&d, cli_str(c, "html"), args, e) : 0;
		if (rc == 0)
			rc = d.first_beyond < 0 ? EXIT_AGREE : EXIT_DIVERGED;
		trace_diff_free(&d);
		free(x);
		free(y);
	}
	trace_dir_close(&a);
	trace_dir_close(&b);
	return rc;
}

const struct command cmd_trace_diff = {
	.name = "trace-diff",
	.group = "Comparing",
	.summary = "compare two traces tensor by tensor, in execution order",
	.positional = "A B",
	.examples = "  assay trace --model m.gguf --out a --values \"2+2=\"\n"
		    "  assay trace --model m.gguf --engine llama --out b --values \"2+2=\"\n"
		    "  assay trace-diff a b\n",
	.details =
		"A record meets the one of the same stage, layer and step. Exit 0 when all agree within\n"
		"--tolerance, 1 when not. The picture has a line per layer and a column per stage: '='\n"
		"the same bits, '.' within tolerance, a digit n a relative error of about 1e-n, '#' more\n"
		"than 0.1, '?' on one side only. docs/formats.md says what a trace directory holds.\n",
	.opts =
		(const struct opt[]){
			{"tolerance", OPT_REAL, "X", "relative RMS error up to which tensors agree",
			 "0", NULL, NULL, 0},
			{"html", OPT_STR, "FILE", "write the picture as a page", NULL, NULL, NULL, 0},
			{"all", OPT_FLAG, NULL, "list equal tensors too", NULL, NULL, NULL, 'a'},
			{0},
		},
	.run = run,
};
