#include "compare_opts.h"

#include "provision/embed.h"
#include "gguf.h"
#include "sweep/engines.h"
#include "term.h"
#include "version.h"
#include "weight_type.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char sets_path[] = "lockfiles/thresholds.json";

static int load_sets(struct compare_run *r, struct cli *c, struct err *e)
{
	const char *path = cli_str(c, "thresholds-file");
	struct exchange_setup *u = &r->o.setup;
	size_t bytes = 0;
	FILE *f;

	u->thresholds_set = cli_str(c, "thresholds");
	u->thresholds_path = path ? path : sets_path;
	if (!path) {
		u->thresholds_text = (const char *)embed_find(sets_path, &u->thresholds_bytes);
		assert(u->thresholds_text);
	} else {
		f = fopen(path, "rbe");
		if (!f)
			return err_set(e, EXIT_USAGE, "--thresholds-file %s: %s", path,
				       strerror(errno));
		r->thresholds_text = malloc(1 << 20);
		assert(r->thresholds_text);
		bytes = fread(r->thresholds_text, 1, 1 << 20, f);
		fclose(f);
		u->thresholds_text = r->thresholds_text;
		u->thresholds_bytes = bytes;
	}
	/* a set that is not there fails now, not after the first evaluation */
	struct thresholds t;

	return thresholds_load(&t, u->thresholds_text, u->thresholds_bytes, u->thresholds_path,
			       thresholds_choose(u->thresholds_set, "", ""), NULL, "", e);
}

void compare_read_model(struct exchange_setup *u)
{
	struct err ignored = ERR_NONE;
	struct gguf_str arch = {"", 0};
	struct gguf g = {0};
	size_t n = 0;

	u->weights[0] = u->arch[0] = '\0';
	if (gguf_open(&g, u->model, &ignored) < 0)
		return;
	gguf_string(&g, "general.architecture", &arch);
	snprintf(u->arch, sizeof(u->arch), "%.*s", (int)(arch.n < 63 ? arch.n : 63), arch.s);
	for (const struct weight_type *t = weight_types; t->name; t++) {
		int count = 0;

		for (uint64_t i = 0; i < g.n_tensors; i++)
			count += g.tensors[i].type == t->id;
		if (count && n < sizeof(u->weights))
			n += (size_t)snprintf(u->weights + n, sizeof(u->weights) - n, "%s%s:%d",
					      n ? " " : "", t->name, count);
	}
	gguf_close(&g);
}

/* The weight type that only bitnet.cpp reads, or NULL: mainline llama.cpp has none of them. */
static const char *bitnet_type(const struct gguf *g)
{
	for (uint64_t i = 0; i < g->n_tensors; i++)
		switch (g->tensors[i].type) {
		case TYPE_I2_S:
			return "I2_S";
		case TYPE_TL1:
			return "TL1";
		case TYPE_TL2:
			return "TL2";
		}
	return NULL;
}

/* The model says first which reference knows it; its path only where it cannot be read. */
static void detect_backend(struct compare_run *r)
{
	const char *model = r->o.setup.model, *type = NULL;
	struct gguf g = {0};
	struct gguf_str arch = {"", 0};
	struct err ignored = ERR_NONE;
	bool readable = gguf_open(&g, model, &ignored) == 0, bitnet;
	char why[64] = "by its path, the file cannot be read";

	if (readable) {
		gguf_string(&g, "general.architecture", &arch);
		type = bitnet_type(&g);
		if (type)
			snprintf(why, sizeof(why), "its weights are %s", type);
		else
			snprintf(why, sizeof(why), "by its architecture");
	}
	bitnet = type || (arch.n > 7 && memcmp(arch.s, "bitnet-", 7) == 0) ||
		 (!readable && (strstr(model, "i2_s") || strstr(model, "tl1") ||
				strstr(model, "tl2")));
	snprintf(r->detected, sizeof(r->detected), bitnet ? "bitnet" : "llama");
	term_note("reference for this model: %s (%s)", r->detected, why);
	gguf_close(&g);
}

static int add_references(struct compare_run *r, struct cli *c, const char *option, struct err *e)
{
	const char *const *names;
	int n = cli_list(c, option, &names);

	if (r->o.n_references + n > SWEEP_REFERENCES_MAX)
		return err_set(e, EXIT_USAGE, "more than %d references", SWEEP_REFERENCES_MAX);
	for (int i = 0; i < n; i++)
		r->o.references[r->o.n_references++] = names[i];
	return 0;
}

static int choose_sides(struct compare_run *r, struct cli *c, struct err *e)
{
	const char *backend = cli_str(c, "backend");
	struct sweep_options *o = &r->o;
	int rc = add_references(r, c, "reference", e);

	if (rc == 0)
		rc = add_references(r, c, "cpp-backend", e);
	if (rc < 0)
		return rc;
	o->engine = cli_str(c, "engine");
	if (backend && strcmp(backend, "native") != 0 && o->n_references == 0) {
		detect_backend(r);
		o->references[o->n_references++] = r->detected;
	}
	if (backend && strcmp(backend, "native") == 0) {
		o->n_references = 0;
	} else if (backend && strcmp(backend, "cpp") == 0) {
		o->engine = o->references[0];
		o->n_references = 0;
	} else if (o->n_references == 0) {
		o->references[o->n_references++] = "oracle";
	}
	return 0;
}

static int share_processors(const struct sweep_options *o)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);
	int workers = o->n_workers * (o->n_references ? 2 : 1);

	return n / workers > 1 ? (int)(n / workers) : 1;
}

static void on_progress(void *ctx, const char *line)
{
	(void)ctx;
	term_progress("%s", line);
}

int compare_setup(struct compare_run *r, struct cli *c, int n_workers, const char *template_name,
		  struct err *e)
{
	struct exchange_setup *u = &r->o.setup;
	const char *const *overrides;
	int rc;

	u->model = cli_str(c, "model");
	if (!u->model)
		return err_set(e, EXIT_USAGE, "--model FILE is missing (or set CROSSVAL_GGUF); "
			       "`assay fetch-models` provides one, `assay gen-fixtures` makes one");
	u->tokenizer = cli_str(c, "tokenizer");
	u->model_ref = cli_str(c, "reference-model");
	u->profile = cli_str(c, "profile");
	u->isa = cli_str(c, "isa");
	u->kv = cli_str(c, "kv");
	u->ctx = (int)cli_int(c, "ctx");
	u->ubatch = (int)cli_int(c, "ubatch");
	u->batch = (int)cli_int(c, "batch");
	u->threads = (int)cli_int(c, "threads");
	u->template_name = template_name;
	if (u->threads < 0 || u->threads > 4096)
		return err_set(e, EXIT_USAGE, "--threads %d: expected 0 (a fair share) to 4096", u->threads);
	if (u->ctx < 0 || u->ubatch < 0 || u->batch < 0)
		return err_set(e, EXIT_USAGE, "--ctx, --ubatch and --batch are not negative");
	if (n_workers < 1 || n_workers > POOL_LANES_MAX)
		return err_set(e, EXIT_USAGE, "--workers: expected 1 to %d", POOL_LANES_MAX);
	compare_read_model(u);
	u->reproduce_defects = cli_flag(c, "reproduce-defects");
	u->n_overrides = cli_list(c, "override-kv", &overrides);
	if (u->n_overrides > EXCHANGE_OVERRIDES_MAX)
		return err_set(e, EXIT_USAGE, "more than %d --override-kv", EXCHANGE_OVERRIDES_MAX);
	for (int i = 0; i < u->n_overrides; i++)
		u->overrides[i] = overrides[i];
	u->n_overrides_ref = cli_list(c, "reference-override", &overrides);
	if (u->n_overrides_ref > EXCHANGE_OVERRIDES_MAX)
		return err_set(e, EXIT_USAGE, "more than %d --reference-override",
			       EXCHANGE_OVERRIDES_MAX);
	for (int i = 0; i < u->n_overrides_ref; i++)
		u->overrides_ref[i] = overrides[i];
	u->local = cli_flag(c, "no-local") ? EXCHANGE_LOCAL_NEVER :
		   cli_flag(c, "local")	  ? EXCHANGE_LOCAL_ALWAYS : EXCHANGE_LOCAL_AUTO;
	rc = load_sets(r, c, e);
	if (rc == 0)
		rc = choose_sides(r, c, e);
	if (rc < 0)
		return rc;
	r->o.n_workers = n_workers;
	r->o.strict = cli_flag(c, "strict");
	r->o.version = ASSAY_VERSION;
	r->o.build = version_build_id();
	r->o.scenarios = &r->scenarios;
	r->o.on_progress = on_progress;
	if (u->threads == 0)
		u->threads = share_processors(&r->o);
	return 0;
}

int compare_run_now(struct compare_run *r, struct err *e)
{
	int rc = sweep_run(&r->o, &r->summary, e);

	term_clear();
	return rc;
}

void compare_release(struct compare_run *r)
{
	scenario_free(&r->scenarios);
	summary_free(&r->summary);
	free(r->thresholds_text);
}
