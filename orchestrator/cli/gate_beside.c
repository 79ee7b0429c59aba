#include "gate_beside.h"

#include "digest.h"
#include "gguf.h"
#include "report/input.h"
#include "report/summary.h"
#include "weight_type.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 4096, RECEIPT_BYTES_MAX = 256 << 20 };

/* ---- the model's file ---------------------------------------------------------------------- */

static int64_t size_of(const struct gguf *g, const char *arch, const char *key)
{
	char full[160];
	uint64_t n;

	snprintf(full, sizeof(full), "%s.%s", arch, key);
	return gguf_u64(g, full, &n) ? (int64_t)n : 0;
}

static void count_weights(const struct gguf *g, char *out, size_t size)
{
	size_t at = 0;

	out[0] = '\0';
	for (uint32_t type = 0; type < 256; type++) {
		const struct weight_type *t = weight_type_by_id(type);
		unsigned long long n = 0;

		for (uint64_t i = 0; i < g->n_tensors; i++)
			n += g->tensors[i].type == type;
		if (t && n && at < size)
			at += (size_t)snprintf(out + at, size - at, "%s%s:%llu", at ? " " : "",
					       t->name, n);
	}
}

static void count_needs(const struct gguf *g, struct gate_model_facts *m)
{
	bool tied = !gguf_tensor(g, "output.weight");

	for (uint64_t i = 0; i < g->n_tensors; i++) {
		const struct gguf_tensor *t = &g->tensors[i];
		bool embedding = t->name.n == 17 && memcmp(t->name.s, "token_embd.weight", 17) == 0;

		if (t->n_dims < 2)
			continue;
		if (embedding)
			m->n_vocab = t->ne[1];
		if (!embedding || tied)
			m->decode_gb += (double)t->bytes * 1e-9;
		if (t->name.n > 4 && memcmp(t->name.s, "blk.", 4) == 0)
			m->prefill_gmac += (double)t->ne[0] * (double)t->ne[1] * 1e-9;
	}
}

int gate_model_read(const char *path, struct gate_model_facts *out, struct err *e)
{
	struct gguf_str arch;
	struct gguf g;
	int r = gguf_open(&g, path, e);

	if (r < 0)
		return r;
	*out = (struct gate_model_facts){.bytes = (int64_t)g.size};
	if (gguf_string(&g, "general.architecture", &arch))
		snprintf(out->arch, sizeof(out->arch), "%.*s", (int)arch.n, arch.s);
	out->n_layer = size_of(&g, out->arch, "block_count");
	out->n_embd = size_of(&g, out->arch, "embedding_length");
	out->n_ff = size_of(&g, out->arch, "feed_forward_length");
	out->n_head = size_of(&g, out->arch, "attention.head_count");
	count_weights(&g, out->weights, sizeof(out->weights));
	count_needs(&g, out);
	gguf_close(&g);
	return 0;
}

/* ---- the prompt and the ids ------------------------------------------------------------------------------- */

static char *read_all(const char *path, size_t *bytes)
{
	FILE *f = input_open(path);
	char *text = NULL;
	long n;

	if (f && fseek(f, 0, SEEK_END) == 0 && (n = ftell(f)) >= 0 && n <= RECEIPT_BYTES_MAX &&
	    fseek(f, 0, SEEK_SET) == 0 && (text = malloc((size_t)n + 1)) &&
	    fread(text, 1, (size_t)n, f) != (size_t)n) {
		free(text);
		text = NULL;
	}
	if (text)
		*bytes = (size_t)n;
	if (f)
		fclose(f);
	return text;
}

static void hash_ids(const json_t *list, char hex[DIGEST_HEX])
{
	uint8_t sha[DIGEST_BYTES];
	struct digest d;
	const json_t *v;
	size_t i;

	digest_init(&d);
	json_array_foreach(list, i, v) {
		int32_t id = (int32_t)json_integer_value(v);

		digest_update(&d, &id, sizeof(id));
	}
	digest_final(&d, sha);
	digest_hex(sha, hex);
}

static int folder_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? (int)(slash - path) + 1 : 0;
}

int gate_ids_read(const char *receipt_path, struct gate_ids out[2], json_t **holder)
{
	static const char *const sides[] = {"ours", "reference"};
	char path[PATH_BYTES];
	int n = 0;

	snprintf(path, sizeof(path), "%.*stokens.json", folder_of(receipt_path), receipt_path);
	*holder = input_json(path, NULL);
	for (int i = 0; i < 2; i++) {
		const json_t *side = json_object_get(*holder, sides[i]);
		const json_t *ids = json_object_get(side, "prompt");

		if (!json_is_array(ids))
			continue;
		out[n] = (struct gate_ids){.side = sides[i], .n = (int64_t)json_array_size(ids),
					   .greedy = json_object_get(side, "greedy")};
		hash_ids(ids, out[n++].sha256);
	}
	return n;
}

char *gate_prompt_read(const char *receipt_path, size_t *bytes)
{
	char path[PATH_BYTES];

	snprintf(path, sizeof(path), "%.*sprompt.txt", folder_of(receipt_path), receipt_path);
	return read_all(path, bytes);
}

/* ---- a summary's receipts ------------------------------------------------------------------ */

static bool add_receipt(struct summary *s, const char *summary_path, const char *id, char *why,
			size_t size)
{
	char path[PATH_BYTES], *text;
	struct err e = ERR_NONE;
	size_t bytes = 0;
	bool added;

	snprintf(path, sizeof(path), "%.*s%s/receipt.json", folder_of(summary_path), summary_path, id);
	text = strchr(id, '/') ? NULL : read_all(path, &bytes);
	if (!text) {
		snprintf(why, size, "no %.200s/receipt.json beside it", id);
		return false;
	}
	added = summary_add(s, text, bytes, path, &e) == 0;
	if (!added)
		snprintf(why, size, "%.220s", e.msg);
	free(text);
	return added;
}

json_t *gate_summary_rebuild(const json_t *summary, const char *summary_path, bool *some,
			     char *why, size_t size)
{
	const json_t *rows = json_object_get(summary, "scenarios"), *row;
	struct summary s = {.interrupted = json_is_true(json_object_get(summary, "interrupted")),
			    .n_planned = (int)json_integer_value(
				    json_object_get(summary, "n_planned"))};
	json_t *rebuilt = NULL;
	bool all = true;
	size_t i;

	json_array_foreach(rows, i, row) {
		const char *id = json_string_value(json_object_get(row, "id"));

		all = add_receipt(&s, summary_path, id ? id : "", why, size) && all;
	}
	*some = s.n > 0;
	if (all) {
		char *text = summary_json(&s);

		rebuilt = json_loads(text, 0, NULL);
		free(text);
	}
	summary_free(&s);
	return rebuilt;
}

static bool told(const json_t *summary, const char *id)
{
	const json_t *row;
	size_t i;

	json_array_foreach(json_object_get(summary, "scenarios"), i, row) {
		const char *said = json_string_value(json_object_get(row, "id"));

		if (said && strcmp(said, id) == 0)
			return true;
	}
	return false;
}

/* false: there is no journal. */
static bool ask_journal(const json_t *summary, const char *summary_path, char *left_out)
{
	char path[PATH_BYTES], *text, *line, *rest;
	size_t bytes = 0;

	snprintf(path, sizeof(path), "%.*sjournal.jsonl", folder_of(summary_path), summary_path);
	text = read_all(path, &bytes);
	if (!text)
		return false;
	text[bytes] = '\0';
	for (rest = text; !*left_out && (line = strsep(&rest, "\n"));) {
		json_t *o = json_loads(line, 0, NULL);
		const char *id = json_string_value(json_object_get(o, "id"));

		if (id && !told(summary, id))
			snprintf(left_out, SUMMARY_ID_MAX, "%s", id);
		json_decref(o);
	}
	free(text);
	return true;
}

void gate_summary_untold(const json_t *summary, const char *summary_path, char *left_out,
			 char *stray)
{
	char folder[PATH_BYTES], path[PATH_BYTES];
	struct dirent **names = NULL;
	int n;

	*left_out = *stray = '\0';
	if (ask_journal(summary, summary_path, left_out))
		return;
	snprintf(folder, sizeof(folder), "%.*s.", folder_of(summary_path), summary_path);
	n = scandir(folder, &names, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "%.3000s/%.255s/receipt.json", folder, names[i]->d_name);
		if (names[i]->d_name[0] != '.' && !*stray && access(path, F_OK) == 0 &&
		    !told(summary, names[i]->d_name))
			snprintf(stray, SUMMARY_ID_MAX, "%.159s", names[i]->d_name);
		free(names[i]);
	}
	free(names);
}
