#include "compare_opts.h"
#include "provision/embed.h"
#include "sweep/calibrate.h"
#include "term.h"
#include "version.h"

#include <assert.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Long enough that batches and micro-batches of all sizes differ. */
static const char passage[] =
	"A measuring instrument is calibrated before it is believed. The same length is taken again and "
	"again, by other hands, on other days, at other temperatures, and what remains different is "
	"written beside the scale: so fine this ruler is, and no finer. Two readings that lie closer "
	"together than that are one reading. With programs it is the same. A sum of ten thousand numbers "
	"depends on the order in which they are added; ten threads add in another order than one, and a "
	"long batch is cut otherwise than a short one. None of these answers is wrong. Whoever compares "
	"two programs without knowing how far each of them is from itself will find faults where there "
	"are none, or will be so generous that the faults that are there go through.";

static const struct opt opts[] = {
	{"model", OPT_STR, "FILE", "the model (GGUF)", NULL, "CROSSVAL_GGUF", NULL, 'm'},
	{"tokenizer", OPT_STR, "FILE", "tokenizer, default the model's own", NULL,
	 "CROSSVAL_GGUF_TOKENIZER", NULL, 0},
	{"engine", OPT_STR, "NAME", "what is measured: a reference, exec:COMMAND, …", NULL, NULL,
	 NULL, 0},
	{"scenarios", OPT_STR, "FILE",
	 "scenarios (docs/scenarios.md), default the three of old and a "
	 "passage of text",
	 NULL, NULL, NULL, 's'},
	{"thresholds-file", OPT_STR, "FILE", "where the rule goes; made where it is not there",
	 NULL, NULL, NULL, 'o'},
	{"thresholds", OPT_STR, "SET", "the set in it", "measured", NULL, NULL, 0},
	{"threads", OPT_INT, "N", "the most threads, 0 = as many as processors", "0", NULL, NULL,
	 't'},
	{"profile", OPT_STR, "NAME", "numerics profile of native", NULL, NULL, NULL, 0},
	{"isa", OPT_STR, "NAME", "instruction set of our engines", NULL, NULL, NULL, 0},
	{"kv", OPT_STR, "TYPE", "type of the KV cache", NULL, NULL, "f16|f32", 0},
	{"ctx", OPT_INT, "N", "positions of the context, 0 = the model's", "0", NULL, NULL, 0},
	{0},
};

static int load(struct scenario_set *s, struct cli *c, struct err *e)
{
	struct scenario *last;
	int rc;

	if (cli_str(c, "scenarios"))
		return scenario_load(s, cli_str(c, "scenarios"), e);
	rc = scenario_defaults(s, e);
	if (rc < 0)
		return rc;
	s->items = realloc(s->items, (size_t)(s->n + 1) * sizeof(*s->items));
	assert(s->items);
	last = &s->items[s->n++];
	*last = (struct scenario){.timeout_s = 3600, .max_new_tokens = 4};
	snprintf(last->id, sizeof(last->id), "passage");
	last->prompt = strdup(passage);
	assert(last->prompt);
	return 0;
}

static int setup(struct calibrate_options *o, struct cli *c, struct err *e)
{
	struct exchange_setup *u = &o->setup;
	int64_t threads = cli_int(c, "threads");

	u->model = cli_str(c, "model");
	if (!u->model)
		return err_set(e, EXIT_USAGE, "--model FILE is missing (or set CROSSVAL_GGUF)");
	o->engine = cli_str(c, "engine");
	if (!o->engine)
		return err_set(e, EXIT_USAGE, "--engine NAME is missing: what is to be measured");
	if (threads < 0 || threads > 4096 || cli_int(c, "ctx") < 0)
		return err_set(e, EXIT_USAGE,
			       "--threads: expected 0 to 4096; --ctx is not negative");
	u->tokenizer = cli_str(c, "tokenizer");
	u->profile = cli_str(c, "profile");
	u->isa = cli_str(c, "isa");
	u->kv = cli_str(c, "kv");
	u->ctx = (int)cli_int(c, "ctx");
	u->threads = threads ? (int)threads : (int)sysconf(_SC_NPROCESSORS_ONLN);
	u->template_name = "raw";
	o->default_sets = (const char *)embed_find("lockfiles/thresholds.json", &o->default_bytes);
	assert(o->default_sets);
	u->thresholds_text = o->default_sets;
	u->thresholds_bytes = o->default_bytes;
	u->thresholds_path = "lockfiles/thresholds.json";
	u->thresholds_set = "default";
	o->version = ASSAY_VERSION;
	o->build = version_build_id();
	compare_read_model(u);
	return 0;
}

static void on_way(void *ctx, const struct calibrate_way *w)
{
	(void)ctx;
	term_note("%-20s %d of %d positions with the same bits, NMSE %.3g", w->name,
		  w->n_bits_equal, w->n_positions, w->max_nmse);
}

static void print_text(const struct calibrate_result *r)
{
	printf("%-20s %10s %10s %12s %10s %10s %10s %6s\n", "way", "positions", "same bits",
	       "min cosine", "max NMSE", "max |Δ|", "max KL", "flips");
	for (int i = 0; i < r->n_ways; i++) {
		const struct calibrate_way *w = &r->ways[i];

		printf("%-20s %10d %10d %12.9f %10.3g %10.3g %10.3g %6d\n", w->name, w->n_positions,
		       w->n_bits_equal, w->min_cosine, w->max_nmse, w->max_abs, w->max_kl,
		       w->n_flips);
	}
	if (r->bits)
		printf("noise of %s, %s: none, every way gave the same bits\n", r->arch,
		       r->weights);
	else
		printf("noise of %s, %s: NMSE %.2g, |Δ| %.2g, KL %.2g (%d times the worst); limit NMSE "
		       "%.2g\n",
		       r->arch, r->weights, r->noise_nmse, r->noise_abs, r->noise_kl,
		       CALIBRATE_MARGIN, r->limit_nmse);
}

static void print_json(const struct calibrate_result *r, const char *file, const char *set)
{
	json_t *ways = json_array(), *o;

	for (int i = 0; i < r->n_ways; i++) {
		const struct calibrate_way *w = &r->ways[i];

		json_array_append_new(
			ways, json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:f, s:f}",
					"name", w->name, "threads", w->threads, "batch", w->batch,
					"ubatch", w->ubatch, "n_positions", w->n_positions,
					"n_bits_equal", w->n_bits_equal, "n_flips", w->n_flips,
					"min_cosine", w->min_cosine, "max_nmse", w->max_nmse,
					"max_abs_diff", w->max_abs, "max_kl", w->max_kl));
	}
	o = json_pack("{s:o, s:b, s:s, s:s, s:s, s:f, s:f, s:f, s:f, s:s?, s:s}", "ways", ways,
		      "bits", r->bits, "arch", r->arch, "weights", r->weights, "origin", r->origin,
		      "noise_max_nmse", r->noise_nmse, "noise_max_abs_diff", r->noise_abs,
		      "noise_max_kl", r->noise_kl, "limit_max_nmse", r->limit_nmse,
		      "thresholds_file", file, "thresholds", set);
	json_dumpf(o, stdout, JSON_SORT_KEYS | JSON_INDENT(1) | JSON_REAL_PRECISION(17));
	putchar('\n');
	json_decref(o);
}

static int run(struct cli *c, struct err *e)
{
	struct calibrate_options o = {.on_way = on_way};
	struct calibrate_result r;
	struct scenario_set scenarios = {.n = 0};
	const char *file = cli_str(c, "thresholds-file"), *set = cli_str(c, "thresholds");
	int rc = setup(&o, c, e);

	if (rc == 0)
		rc = load(&scenarios, c, e);
	o.scenarios = &scenarios;
	if (rc == 0)
		rc = calibrate_run(&o, &r, e);
	if (rc == 0 && file)
		rc = calibrate_write(&r, &o, file, set, e);
	if (rc == 0 && cli_json(c)) {
		print_json(&r, file, set);
	} else if (rc == 0) {
		print_text(&r);
		if (file)
			printf("use it with --thresholds-file %s --thresholds %s\n", file, set);
	}
	scenario_free(&scenarios);
	return rc;
}

const struct command cmd_calibrate = {
	.name = "calibrate",
	.group = "Comparing",
	.summary = "measure how far an engine is from itself: the noise of WITHIN_NOISE",
	.examples =
		"assay calibrate --model m.gguf --engine llama --thresholds-file noise.json\n"
		"assay calibrate --model m.gguf --engine llama.speed -o noise.json --thresholds speed\n"
		"assay sweep --model m.gguf --cpp-backend llama --thresholds-file noise.json "
		"--thresholds measured\n",
	.opts = opts,
	.run = run,
	.details =
		"The engine is recorded once, then runs again: the same once more, fewer threads, one\n"
		"position at a time, calls and micro-batches of other sizes. The rule is written for this\n"
		"architecture and type of weights, with how it was measured; rules for others stay.\n",
};
