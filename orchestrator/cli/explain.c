#include "compare_opts.h"
#include "one_scenario.h"
#include "provision/models_lock.h"
#include "report/local_json.h"
#include "sweep/bundle.h"
#include "sweep/explain.h"
#include "sweep/facts.h"
#include "term.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const struct opt opts[] = {
	COMPARE_OPTS,
	ONE_SCENARIO_OPTS,
	{"bundle", OPT_STR, "FILE", "write a repro of the first wrong operation, less than 1 MB",
	 NULL, NULL, NULL, 0},
	{"replay", OPT_STR, "FILE", "look at such a repro again, without a model", NULL, NULL, NULL,
	 0},
	{"trace", OPT_STR, "DIR",
	 "the reference's trace (assay trace --values) instead of running it", NULL, NULL, NULL, 0},
	{"lock", OPT_STR, "FILE", "models lockfile, which says whose file is right", NULL, NULL,
	 NULL, 0},
	{"no-splice", OPT_FLAG, NULL, "leave the bisection over layers out", NULL, NULL, NULL, 0},
	{0},
};

/* What the scenario showed, kept until the engines are asked again. */
struct seen {
	struct diagnosis *d;
	char verdict[32], explanation[ERR_MSG_MAX], cause[512];
	int exit_code, n_ids, first_difference;
	int32_t *ids, *greedy[2];
	int n_greedy[2];
	char logits_sha256[2][RECEIPT_HASH_HEX];
	bool replays[2], evaluated, nonfinite;
	char model_sha256[2][RECEIPT_HASH_HEX];	/* ours, the reference's; "" = the same file */
	char known[2][80];			/* what the lockfile calls them, or "" */
	char *report;		/* of differing tokens */
};

static int32_t *copy_ids(const int32_t *ids, int n)
{
	int32_t *to = malloc((size_t)n * sizeof(*to) + 1);

	assert(to);
	if (n)
		memcpy(to, ids, (size_t)n * sizeof(*to));
	return to;
}

static void on_receipt(void *ctx, const struct exchange *x, const struct receipt *r)
{
	struct seen *s = ctx;

	term_clear();
	snprintf(s->verdict, sizeof(s->verdict), "%s", r->verdict);
	snprintf(s->explanation, sizeof(s->explanation), "%s", r->explanation);
	snprintf(s->cause, sizeof(s->cause), "%s", r->cause);
	s->exit_code = r->exit_code;
	s->first_difference = r->first_difference;
	if (r->first_difference >= 0)
		s->report = receipt_text(r);
	snprintf(s->model_sha256[0], sizeof(s->model_sha256[0]), "%s", r->run->model_sha256);
	snprintf(s->model_sha256[1], sizeof(s->model_sha256[1]), "%s", r->run->model_ref_sha256);
	s->evaluated = x->n_sides == 2 && x->sides[0].finished && x->sides[1].finished;
	s->nonfinite = x->comparison.n_nonfinite_ours + x->comparison.n_nonfinite_ref > 0;
	s->n_ids = x->sides[0].n_ids;
	s->ids = copy_ids(x->sides[0].ids, s->n_ids);
	for (int i = 0; i < 2; i++) {
		s->greedy[i] = copy_ids(x->sides[i].greedy, x->sides[i].n_greedy);
		s->n_greedy[i] = x->sides[i].n_greedy;
		snprintf(s->logits_sha256[i], sizeof(s->logits_sha256[i]), "%s",
			 r->sides[i].logits_sha256);
		s->replays[i] = exchange_says(x->sides[i].hello, "replay");
	}
}

/* ---- output ------------------------------------------------------------------------------- */

static json_t *number(double v)
{
	json_t *o = json_real(v);

	return o ? o : json_string(v > 0 ? "Infinity" : "NaN");
}

static json_t *finding_json(const struct diagnosis *d, const struct finding *f)
{
	const char *culprit = finding_culprit(d, f), *file = finding_file(d, f);
	json_t *o = json_pack("{s:b, s:s, s:i, s:i, s:i, s:i, s:s, s:b, s:i}", "own", f->own,
			      "stage", trace_stage_name(f->stage), "layer", f->layer, "seq", f->seq,
			      "operations", f->n_operations, "last_layer", f->last_layer, "variant",
			      f->variant, "explains", f->explains, "n_explained", f->n_explained);
	char text[1024];

	assert(o);
	json_object_set_new(o, "rel_rms", number(f->diff.rel_rms));
	json_object_set_new(o, "row_ulp", number(f->diff.row_ulp));
	json_object_set_new(o, "bound", number(f->bound));
	json_object_set_new(o, "culprit", culprit ? json_string(culprit) : json_null());
	json_object_set_new(o, "by_file", json_boolean(f->by_file));
	json_object_set_new(o, "file_at_fault", file ? json_string(file) : json_null());
	json_object_set_new(o, "decode_only", json_boolean(f->n_prefill == 0));
	json_object_set_new(o, "rows", json_integer(f->pattern.rows));
	json_object_set_new(o, "rows_differ", json_integer(f->pattern.rows_differ));
	json_object_set_new(o, "first_row", json_integer(f->pattern.first_row));
	json_object_set_new(o, "channels", json_integer(f->pattern.width));
	json_object_set_new(o, "channels_differ", json_integer(f->pattern.columns_differ));
	json_object_set_new(o, "first_channel", json_integer(f->pattern.first_column));
	if (f->hypothesis && f->explains)
		json_object_set_new(o, "meaning", json_string(f->hypothesis->meaning));
	if (f->oracle_asked) {
		json_object_set_new(o, "oracle_rounded", json_boolean(f->oracle_rounded));
		json_object_set_new(o, "oracle_source", number(f->oracle_source));
		json_object_set_new(o, "oracle_replayer", number(f->oracle_replayer));
	}
	finding_text(d, f, text, sizeof(text));
	json_object_set_new(o, "text", json_string(text));
	return o;
}

static void print_json(const struct diagnosis *d, const struct seen *s)
{
	const struct finding *first = diagnosis_first(d);
	json_t *o = json_object(), *all = json_array();
	char names[400];

	for (int i = 0; i < d->n_findings; i++)
		json_array_append_new(all, finding_json(d, &d->findings[i]));
	json_object_set_new(o, "verdict", json_string(d->verdict));
	json_object_set_new(o, "end_to_end", json_string(s->explanation));
	tensor_names(d->weights_differ, names, sizeof(names));
	json_object_set_new(o, "weights_differ", json_string(names));
	tensor_names(d->readers_differ, names, sizeof(names));
	json_object_set_new(o, "readers_differ", json_string(names));
	json_object_set_new(o, "first", first ? finding_json(d, first) : json_null());
	json_object_set_new(o, "findings", all);
	json_object_set_new(o, "local", local_json(&d->local, true));
	if (d->spliced)
		json_object_set_new(o, "splice",
				    json_pack("{s:i, s:b, s:i, s:f, s:f}", "runs", d->splice_runs,
					      "restores", d->splice_restores, "layer",
					      d->splice_layer, "nmse_before", d->splice_before,
					      "nmse_after", d->splice_after));
	json_object_set_new(o, "paragraph", json_string(d->paragraph));
	json_dumpf(o, stdout, JSON_INDENT(1) | JSON_SORT_KEYS);
	putchar('\n');
	json_decref(o);
}

static void print_text(const struct diagnosis *d, const struct seen *s)
{
	char text[1024];

	printf("end to end   %s: %s\n", s->verdict, s->explanation);
	tensor_names(d->weights_differ, text, sizeof(text));
	printf("weights      %s%s\n", *text ? "differ: " : "equal", text);
	tensor_names(d->readers_differ, text, sizeof(text));
	if (*text)
		printf("             %s reads other values: %s\n", d->reader, text);
	if (d->local.ran) {
		printf("operations   %d of %s replayed, %d to the bit, %d beyond their bounds, %d missing\n",
		       d->local.reference.n, d->local.reference.source,
		       d->local.reference.n_bits_equal, d->local.reference.n_beyond,
		       d->local.reference.n_missing);
		printf("our own run  %d of %d operations are what %s's own replay gives\n",
		       d->local.own.n_bits_equal, d->local.own.n, d->local.own.replayer);
	}
	for (int i = 0; i < d->n_findings; i++) {
		finding_text(d, &d->findings[i], text, sizeof(text));
		printf("%s%s\n", i ? "             " : "wrong        ", text);
	}
	snprintf(text, sizeof(text), d->splice_layer < 0 ? "the embeddings" : "layer %d",
		 d->splice_layer);
	if (d->spliced && d->splice_restores)
		printf("splice       the reference's output of %s put into our run restores parity "
		       "(NMSE %.2g, was %.2g), no earlier one does; %d runs for %d layers\n",
		       text, d->splice_after, d->splice_before, d->splice_runs, d->n_layer);
	else if (d->spliced)
		printf("splice       not even the last layer's output restores parity: the head differs too "
		       "(NMSE %.2g, was %.2g)\n",
		       d->splice_after, d->splice_before);
	else if (*d->splice_failed)
		printf("splice       not tried: %s\n", d->splice_failed);
	printf("\n%s\n", d->paragraph);
}

/* ---- the command -------------------------------------------------------------------------- */

static int replay_bundle(const char *path, struct err *e)
{
	json_error_t why;
	json_t *b = json_load_file(path, JSON_REJECT_DUPLICATES, &why);
	int rc;

	if (!b)
		return err_set(e, EXIT_USAGE, "%s:%d: %s", path, why.line, why.text);
	rc = bundle_replay(b, stdout, e);
	json_decref(b);
	return rc;
}

static int write_bundle(const char *path, json_t *bundle, struct err *e)
{
	struct stat st;
	char full[4200], *text;
	int rc;

	if (!bundle)
		return err_set(e, EXIT_NOTHING_RAN, "there is no wrong operation to put into %s",
			       path);
	snprintf(full, sizeof(full), "%.4000s", path);
	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		snprintf(full, sizeof(full), "%.4000s/bundle.json", path);
	text = json_dumps(bundle, JSON_INDENT(1) | JSON_SORT_KEYS);
	assert(text);
	rc = facts_write(full, text, e);
	free(text);
	if (rc == 0)
		term_note("repro in %s; `assay explain --replay %s` needs no model", full, full);
	return rc;
}

/* The lockfile's word on both files. */
static int look_up(struct seen *s, struct cli *c, struct err *e)
{
	struct models_lock lock = {0};
	int rc;

	if (!*s->model_sha256[1])
		return 0;
	rc = models_lock_open(&lock, cli_str(c, "lock"), e);
	for (int i = 0; rc == 0 && i < lock.n; i++)
		for (int k = 0; k < 2; k++)
			if (strcmp(lock.models[i].sha256_hex, s->model_sha256[k]) == 0)
				snprintf(s->known[k], sizeof(s->known[k]), "%.79s",
					 lock.models[i].id);
	models_lock_free(&lock);
	return rc;
}

/* How an engine is called in the text: by its name, unless that is a command or both have it. */
static const char *label_of(const char *engine, bool ours, bool same, char *out, size_t size)
{
	if (strncmp(engine, "exec:", 5) == 0)
		snprintf(out, size, "%s", ours ? "our exec engine" : "the exec reference");
	else if (same)
		snprintf(out, size, "%s %.40s", ours ? "our" : "reference", engine);
	else
		snprintf(out, size, "%.60s", engine);
	return out;
}

static int explain(struct compare_run *r, struct cli *c, struct seen *s, struct err *e)
{
	struct diagnosis d = {.n_findings = 0};
	bool swapped = !s->replays[0] && s->replays[1];
	json_t *bundle = NULL;
	struct explain_job j = {
		.local = {.setup = &r->o.setup, .swapped = swapped,
			  .ours = swapped ? r->o.references[0] : r->o.engine,
			  .reference = swapped ? r->o.engine : r->o.references[0], .ids = s->ids,
			  .n_ids = s->n_ids, .greedy = {s->greedy[swapped], s->greedy[!swapped]},
			  .n_greedy = {s->n_greedy[swapped], s->n_greedy[!swapped]},
			  .logits_sha256 = {s->logits_sha256[swapped], s->logits_sha256[!swapped]},
			  .reference_trace = cli_str(c, "trace")},
		.file_known = {s->known[0], s->known[1]},
		.no_splice = cli_flag(c, "no-splice"),
		.bundle = cli_str(c, "bundle") ? &bundle : NULL,
	};
	char label[2][64];
	int rc;

	r->o.setup.silence_s = r->scenarios.items[0].timeout_s;
	for (int i = 0; i < 2; i++)
		j.local.label[i] = label_of(i ? j.local.reference : j.local.ours, i == swapped,
					    strcmp(j.local.ours, j.local.reference) == 0, label[i],
					    sizeof(label[i]));
	rc = look_up(s, c, e);
	if (rc == 0)
		rc = explain_run(&d, &j, e);
	if (s->nonfinite)	/* whatever the operations are */
		d.local.equivalent = false;
	if (rc == 0) {
		snprintf(d.verdict, sizeof(d.verdict), "%s",
			 d.local.equivalent && strcmp(s->verdict, "IDENTICAL") != 0 ? "EQUIVALENT"
										    : s->verdict);
		if (cli_json(c))
			print_json(&d, s);
		else
			print_text(&d, s);
		if (cli_str(c, "bundle"))
			rc = write_bundle(cli_str(c, "bundle"), bundle, e);
		if (rc == 0)
			rc = d.local.equivalent ? EXIT_AGREE :
			     d.n_findings	? EXIT_DIVERGED : s->exit_code;
	}
	json_decref(bundle);
	explain_free(&d);
	return rc;
}

static int run_scenario(struct compare_run *r, struct cli *c, struct seen *s, struct err *e)
{
	int rc = compare_setup(r, c, 1, cli_str(c, "prompt-template"), e);

	if (rc == 0)
		rc = one_scenario(&r->scenarios, c, e);
	if (rc == 0 && r->o.n_references != 1)
		rc = err_set(e, EXIT_USAGE, "one reference is explained at a time; %d are given",
			     r->o.n_references);
	if (rc == 0) {
		r->o.setup.local = EXCHANGE_LOCAL_NEVER;
		r->o.on_receipt = on_receipt;
		r->o.ctx = s;
		rc = compare_run_now(r, e);
	}
	return rc;
}

static int run(struct cli *c, struct err *e)
{
	struct compare_run r = {.detected = ""};
	struct seen s = {.first_difference = -1};
	int rc;

	if (cli_str(c, "replay"))
		return replay_bundle(cli_str(c, "replay"), e);
	rc = run_scenario(&r, c, &s, e);
	if (rc == 0 && s.first_difference >= 0) {
		fputs(s.report, stdout);
		rc = s.exit_code;
	} else if (rc == 0 && !s.evaluated) {
		rc = err_set(e, (enum exit_code)(s.exit_code ? s.exit_code : EXIT_NOTHING_RAN),
			     "%s", s.explanation);
	} else if (rc == 0) {
		rc = explain(&r, c, &s, e);
	}
	free(s.ids);
	free(s.greedy[0]);
	free(s.greedy[1]);
	free(s.report);
	compare_release(&r);
	return rc;
}

const struct command cmd_explain = {
	.name = "explain",
	.group = "Comparing",
	.summary = "name the operation at fault, and whose fault it is",
	.examples = "  assay explain --model m.gguf --reference llama --prompt \"2+2=\"\n"
		    "  assay explain --model m.gguf --reference bitnet --bundle repro.json\n"
		    "  assay explain --replay repro.json\n",
	.details =
		"Runs the scenario, then: hashes of both sides' weights; every operation of every layer\n"
		"replayed on the inputs that its own engine had, so that local error is told from\n"
		"inherited; the float64 oracle's opinion on what is wrong; a table of hypotheses, each\n"
		"computed; and the smallest layer whose output, put into our run, restores parity. Ends\n"
		"in one paragraph. Exit 0 when no operation is wrong, 1 when one is, 2 when tokens differ.\n",
	.opts = opts,
	.run = run,
};
