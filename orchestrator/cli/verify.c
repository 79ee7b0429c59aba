#include "cli.h"

#include "model/inspect.h"
#include "model/weights.h"
#include "kernels/weight_type.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

static const char *type_name(uint32_t id)
{
	const struct weight_type *t = weight_type_by_id(id);

	return t ? t->name : "?";
}

static void print_name(struct gguf_str s)
{
	for (size_t i = 0; i < s.n; i++)
		putchar((unsigned char)s.s[i] < 32 || s.s[i] == 127 ? '?' : s.s[i]);
}

/* ---- text --------------------------------------------------------------------------------- */

static void print_tensors(const struct gguf *g)
{
	for (uint64_t i = 0; i < g->n_tensors; i++) {
		const struct gguf_tensor *t = &g->tensors[i];

		printf("%-6s %12" PRIu64 " bytes at %-12" PRIu64 " [", type_name(t->type), t->bytes,
		       g->data_offset + t->offset);
		for (int d = t->n_dims - 1; d >= 0; d--)
			printf("%" PRId64 "%s", t->ne[d], d ? ", " : "]  ");
		print_name(t->name);
		putchar('\n');
	}
}

static void print_text(const struct gguf *g, const struct inspection *r, const char *path)
{
	struct gguf_str s;

	printf("%s\n", path);
	printf("  GGUF version %u, %zu bytes, %" PRIu64 " keys, %" PRIu64
	       " tensors, data from %" PRIu64 "\n",
	       g->version, g->size, g->n_kv, g->n_tensors, g->data_offset);
	if (gguf_string(g, "general.architecture", &s)) {
		printf("  architecture ");
		print_name(s);
		putchar('\n');
	}
	if (r->types[0])
		printf("  tensor types %s\n", r->types);
	if (r->n_tokens)
		printf("  tokenizer %s, pre-tokenizer %s, %" PRIu64 " tokens, %" PRIu64
		       " merges, BOS %" PRId64 ", EOS %" PRId64 ", chat template %s\n",
		       r->tokenizer[0] ? r->tokenizer : "not named",
		       r->pre[0] ? r->pre : "not named", r->n_tokens, r->n_merges, r->bos, r->eos,
		       r->chat_template_bytes ? "present" : "absent");
	for (int i = 0; i < r->n_gammas; i++)
		if (r->gammas[i].n_tensors)
			printf("  %s: %d tensors, RMS %.4g to %.4g, values %.4g to %.4g\n",
			       r->gammas[i].name, r->gammas[i].n_tensors, r->gammas[i].rms_min,
			       r->gammas[i].rms_max, r->gammas[i].low, r->gammas[i].high);
	for (int i = 0; i < r->n_findings; i++)
		printf("  %s: %s\n", r->findings[i].level == INSPECT_PROBLEM ? "problem" : "note",
		       r->findings[i].text);
	printf("  %s\n", r->n_problems ? "not valid" : "valid");
}

/* ---- JSON --------------------------------------------------------------------------------- */

static json_t *text_of(struct gguf_str s)
{
	json_t *j = json_stringn(s.s, s.n);

	return j ? j : json_string("(not UTF-8)");
}

static json_t *json_tensors(const struct gguf *g)
{
	json_t *all = json_array();

	for (uint64_t i = 0; i < g->n_tensors; i++) {
		const struct gguf_tensor *t = &g->tensors[i];
		json_t *shape = json_array();

		for (int d = t->n_dims - 1; d >= 0; d--)
			json_array_append_new(shape, json_integer(t->ne[d]));
		json_array_append_new(all, json_pack("{s:o, s:s, s:o, s:I, s:I}", "name",
						     text_of(t->name), "type", type_name(t->type),
						     "shape", shape, "offset",
						     (json_int_t)(g->data_offset + t->offset),
						     "bytes", (json_int_t)t->bytes));
	}
	return all;
}

static json_t *json_gammas(const struct inspection *r)
{
	json_t *all = json_array();

	for (int i = 0; i < r->n_gammas; i++) {
		const struct inspect_gamma *g = &r->gammas[i];

		if (g->n_tensors)
			json_array_append_new(
			    all, json_pack("{s:s, s:i, s:f, s:f, s:f, s:f}", "name", g->name,
					   "tensors", g->n_tensors, "rms_min", g->rms_min,
					   "rms_max", g->rms_max, "low", g->low, "high", g->high));
	}
	return all;
}

static json_t *json_findings(const struct inspection *r, enum inspect_level level)
{
	json_t *all = json_array();

	for (int i = 0; i < r->n_findings; i++)
		if (r->findings[i].level == level)
			json_array_append_new(all, json_string(r->findings[i].text));
	return all;
}

static json_t *json_tokenizer(const struct inspection *r)
{
	if (!r->n_tokens)
		return json_null();
	return json_pack("{s:s, s:s, s:b, s:I, s:I, s:I, s:I, s:I}", "model", r->tokenizer, "pre",
			 r->pre, "pre_missing", r->pre_missing, "tokens", (json_int_t)r->n_tokens,
			 "merges", (json_int_t)r->n_merges, "bos", (json_int_t)r->bos, "eos",
			 (json_int_t)r->eos, "chat_template_bytes",
			 (json_int_t)r->chat_template_bytes);
}

static int print_json(const struct gguf *g, const struct inspection *r, const char *path,
		      json_t *weights, struct err *e)
{
	struct gguf_str arch = { "", 0 };

	gguf_string(g, "general.architecture", &arch);
	json_t *j = json_pack(
		"{s:s, s:b, s:i, s:I, s:I, s:I, s:I, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o?}",
		"path", path, "valid", r->n_problems == 0, "version", (int)g->version, "bytes",
		(json_int_t)g->size, "n_kv", (json_int_t)g->n_kv, "n_tensors",
		(json_int_t)g->n_tensors, "data_offset", (json_int_t)g->data_offset, "architecture",
		text_of(arch), "types", r->types, "tokenizer", json_tokenizer(r), "norm_gammas",
		json_gammas(r), "notes", json_findings(r, INSPECT_NOTE), "problems",
		json_findings(r, INSPECT_PROBLEM), "tensors", json_tensors(g), "weights", weights);
	if (!j)
		return err_set(e, EXIT_INTERNAL, "cannot build the JSON answer for %s", path);
	json_dumpf(j, stdout, JSON_SORT_KEYS | JSON_INDENT(1));
	putchar('\n');
	json_decref(j);
	return 0;
}

/* ---- weights ------------------------------------------------------------------------------ */

static int print_weight(void *ctx, const char *name, const char *type, int n_dims,
			const int64_t *shape, const char *sha256, const float *values)
{
	json_t *list = ctx;

	(void)values;
	if (list) {
		json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "name", name, "type", type,
						      "sha256", sha256));
		return 0;
	}
	printf("%s  %-6s [", sha256, type);
	for (int d = 0; d < n_dims; d++)
		printf("%" PRId64 "%s", shape[d], d < n_dims - 1 ? ", " : "]  ");
	printf("%s\n", name);
	return 0;
}

static int verify(struct cli *c, const struct gguf *g, const char *path, struct err *e)
{
	struct inspection r;
	json_t *weights = NULL;
	int rc = 0;

	inspect_model(&r, g, path);
	if (cli_json(c)) {
		if (cli_flag(c, "weights") && (weights = json_array()))
			rc = weights_each(g, NULL, false, print_weight, weights, e);
		if (rc == 0)
			rc = print_json(g, &r, path, weights, e);
		else
			json_decref(weights);
	} else {
		print_text(g, &r, path);
		if (cli_flag(c, "tensors"))
			print_tensors(g);
		if (cli_flag(c, "weights"))
			rc = weights_each(g, NULL, false, print_weight, NULL, e);
	}
	if (rc < 0)
		return rc;
	return r.n_problems ? EXIT_MODEL_INVALID : 0;
}

static int run(struct cli *c, struct err *e)
{
	const char *const *paths, *model = cli_str(c, "model");
	int n = cli_positional(c, &paths), code = 0;

	if (n == 0 && model) {
		paths = &model;
		n = 1;
	}
	if (n < 1)
		return err_set(e, EXIT_USAGE,
			       "verify needs a model file; see `assay verify --help`");
	for (int i = 0; i < n; i++) {
		struct gguf g = {0};
		int rc = gguf_open(&g, paths[i], e);

		if (rc == 0)
			rc = verify(c, &g, paths[i], e);
		gguf_close(&g);
		if (rc < 0)
			return rc;
		code = rc ? rc : code;
	}
	return code;
}

const struct command cmd_verify = {
	.name = "verify",
	.group = "Models",
	.summary =
		"check a model file: structure, every tensor, tokenizer; figures, never corrections",
	.positional = "[MODEL …]",
	.examples = "  assay verify model.gguf\n"
		    "  assay verify --tensors model.gguf\n"
		    "  assay verify --weights model.gguf | sort > ours.txt\n",
	.opts =
		(const struct opt[]){
			{"model", OPT_STR, "FILE", "the model, where no file is named", NULL,
			 "CROSSVAL_GGUF", NULL, 'm'},
			{"tensors", OPT_FLAG, NULL, "list every tensor with type, size and place",
			 NULL, NULL, NULL, 0},
			{"weights", OPT_FLAG, NULL,
			 "SHA-256 over each tensor's dequantised float32 values (reads them all)",
			 NULL, NULL, NULL, 0},
			{0},
		},
	.run = run,
	.details =
		"Exit code 10 when the file cannot be read, 15 when it is not a valid model file. "
		"Statistics of norm\n"
		"weights are information: small ones are genuine in published models.\n",
};
