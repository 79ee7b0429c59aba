#include "tokenizer_impl.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { JSON_BYTES_MAX = 64 << 20 };

/* ---- finding one's way in the document ---------------------------------------------------- */

static const char *text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static bool has_type(const json_t *o, const char *type)
{
	return strcmp(text_of(o, "type"), type) == 0;
}

/* The i-th part of a Sequence (its parts under key), or the thing itself as its only part. */
static const json_t *part(const json_t *o, const char *key, size_t i)
{
	if (has_type(o, "Sequence"))
		return json_array_get(json_object_get(o, key), i);
	return i == 0 && json_is_object(o) ? o : NULL;
}

static const json_t *part_of_type(const json_t *o, const char *key, const char *type)
{
	const json_t *p;

	for (size_t i = 0; (p = part(o, key, i)) != NULL; i++)
		if (has_type(p, type))
			return p;
	return NULL;
}

static int invalid(struct err *e, const char *what)
{
	return err_set(e, EXIT_MODEL_INVALID, "tokenizer.json: %s", what);
}

/* ---- tokens ------------------------------------------------------------------------------- */

struct entry {
	const char *s;		/* NULL: no token has this id */
	size_t n;
	double score;
	unsigned attr;
};

struct entries {
	struct entry *v;
	int64_t n, cap;
};

static int set_entry(struct entries *all, int64_t id, struct entry x, struct err *e)
{
	if (id < 0 || id >= TOKENIZER_VOCAB_MAX)
		return err_set(e, EXIT_MODEL_INVALID,
			       "tokenizer.json: token id %lld is outside 0…%d", (long long)id,
			       TOKENIZER_VOCAB_MAX - 1);
	if (id >= all->cap) {
		int64_t cap = id * 2 + 1024;

		all->v = tokenizer_alloc(all->v, (size_t)cap, sizeof(*all->v));
		memset(all->v + all->cap, 0, (size_t)(cap - all->cap) * sizeof(*all->v));
		all->cap = cap;
	}
	if (all->v[id].s && (all->v[id].n != x.n || memcmp(all->v[id].s, x.s, x.n) != 0))
		return err_set(e, EXIT_MODEL_INVALID, "tokenizer.json: id %lld has two texts",
			       (long long)id);
	all->v[id] = x;
	if (id >= all->n)
		all->n = id + 1;
	return 0;
}

static int collect_vocab(struct entries *all, const json_t *model, struct err *e)
{
	json_t *vocab = json_object_get(model, "vocab"), *v;
	const char *key;
	size_t n, i;
	int r = 0;

	if (has_type(model, "Unigram")) {
		json_array_foreach(vocab, i, v) {
			json_t *s = json_array_get(v, 0), *score = json_array_get(v, 1);

			if (!json_is_string(s) || !json_is_number(score) ||
			    fabs(json_number_value(score)) > 1e30)
				return invalid(e, "an entry of model.vocab is not [text, score]");
			r = set_entry(all, (int64_t)i,
				      (struct entry){json_string_value(s), json_string_length(s),
						     json_number_value(score), TOKEN_NORMAL},
				      e);
			if (r < 0)
				return r;
		}
		return 0;
	}
	json_object_keylen_foreach(vocab, key, n, v) {
		if (!json_is_integer(v))
			return invalid(e, "an id in model.vocab is no integer");
		r = set_entry(all, json_integer_value(v), (struct entry){key, n, 0, TOKEN_NORMAL},
			      e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int collect_added(struct entries *all, const json_t *root, struct err *e)
{
	json_t *list = json_object_get(root, "added_tokens"), *v;
	size_t i;

	json_array_foreach(list, i, v) {
		json_t *id = json_object_get(v, "id"), *s = json_object_get(v, "content");
		unsigned attr =
			json_is_true(json_object_get(v, "special")) ? TOKEN_CONTROL : TOKEN_USER;
		int r;

		if (!json_is_integer(id) || !json_is_string(s) || !json_string_length(s))
			return invalid(e, "an entry of added_tokens has no id or no content");
		attr |= json_is_true(json_object_get(v, "lstrip")) ? TOKEN_LSTRIP : 0;
		attr |= json_is_true(json_object_get(v, "rstrip")) ? TOKEN_RSTRIP : 0;
		r = set_entry(all, json_integer_value(id), (struct entry){json_string_value(s),
			      json_string_length(s), 0, attr}, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static bool is_byte_token(const struct entry *x)
{
	return x->n == 6 && memcmp(x->s, "<0x", 3) == 0 && x->s[5] == '>';
}

static int add_entries(struct tokenizer *t, const struct entries *all, const char *unk,
		       bool byte_fallback, struct err *e)
{
	int r = tokenizer_reserve(t, (uint64_t)all->n, e);

	for (int32_t id = 0; r == 0 && id < all->n; id++) {
		struct entry x = all->v[id];
		char hole[32];

		if (!x.s) {
			x.s = hole;
			x.n = (size_t)snprintf(hole, sizeof(hole), "[PAD%d]", id);
			x.attr = TOKEN_UNUSED;
		}
		if (*unk && x.n == strlen(unk) && memcmp(x.s, unk, x.n) == 0) {
			t->info.unk = id;
			x.attr = TOKEN_UNKNOWN | (x.attr & (TOKEN_LSTRIP | TOKEN_RSTRIP));
		} else if (byte_fallback && x.attr == TOKEN_NORMAL && is_byte_token(&x)) {
			x.attr = TOKEN_BYTE;
		}
		r = tokenizer_add_token(t, id, x.s, x.n, (float)x.score, x.attr, e);
	}
	return r;
}

/* "left right" or ["left", "right"] */
static int add_merge(struct tokenizer *t, const json_t *v, uint32_t rank, struct err *e)
{
	const char *s = json_string_value(v), *gap;
	size_t n = json_string_length(v);
	const json_t *l = json_array_get(v, 0), *r = json_array_get(v, 1);

	if (json_is_string(l) && json_is_string(r))
		return tokenizer_add_merge(t, json_string_value(l), json_string_length(l),
					   json_string_value(r), json_string_length(r), rank, e);
	gap = s && n > 1 ? memchr(s + 1, ' ', n - 1) : NULL;
	if (!gap)
		return err_set(e, EXIT_MODEL_INVALID, "tokenizer.json: merge %u is no pair", rank);
	return tokenizer_add_merge(t, s, (size_t)(gap - s), gap + 1, (size_t)(s + n - gap - 1),
				   rank, e);
}

static int read_vocabulary(struct tokenizer *t, const json_t *root, struct err *e)
{
	const json_t *model = json_object_get(root, "model");
	json_t *merges = json_object_get(model, "merges"), *v;
	const char *unk = text_of(model, "unk_token");
	json_t *unk_id = json_object_get(model, "unk_id");
	struct entries all = {0};
	size_t i;
	int r = collect_vocab(&all, model, e);

	if (r == 0)
		r = collect_added(&all, root, e);
	if (r == 0 && json_is_integer(unk_id) && json_integer_value(unk_id) >= 0 &&
	    json_integer_value(unk_id) < all.n && all.v[json_integer_value(unk_id)].s)
		unk = all.v[json_integer_value(unk_id)].s;
	if (r == 0)
		r = add_entries(t, &all, unk, json_is_true(json_object_get(model, "byte_fallback")),
				e);
	free(all.v);
	if (r < 0 || t->kind == TOKENIZER_UNIGRAM)
		return r;
	r = tokenizer_reserve_merges(t, json_array_size(merges), e);
	json_array_foreach(merges, i, v)
		if (r == 0)
			r = add_merge(t, v, (uint32_t)i, e);
	return r;
}

/* ---- rules -------------------------------------------------------------------------------- */

/* Which pre-tokenizer of llama.cpp the document's means. */
static int choose_pre(struct tokenizer *t, const json_t *root, struct err *e)
{
	const json_t *pre = json_object_get(root, "pre_tokenizer"), *p;
	const json_t *level = part_of_type(pre, "pretokenizers", "ByteLevel");
	const char *regex = NULL;
	bool digits = part_of_type(pre, "pretokenizers", "Digits") != NULL;
	int splits = 0;

	for (size_t i = 0; (p = part(pre, "pretokenizers", i)) != NULL; i++) {
		if (has_type(p, "Split")) {
			splits++;
			if (!regex)
				regex = text_of(json_object_get(p, "pattern"), "Regex");
		} else if (!has_type(p, "ByteLevel") && !has_type(p, "Digits")) {
			return err_set(e, EXIT_MODEL_INVALID,
				       "tokenizer.json: pre-tokenizer \"%.60s\" is "
				       "not supported; use the model's GGUF",
				       text_of(p, "type"));
		}
	}
	if (json_is_true(json_object_get(level, "add_prefix_space")))
		return invalid(e,
			       "ByteLevel with add_prefix_space is not supported; use the model's "
			       "GGUF");
	if (splits == 0)
		t->pre = pretok_find(digits ? "starcoder" : "gpt-2");
	else
		t->pre = pretok_by_regex(regex, splits);
	if (!t->pre)
		return err_set(e, EXIT_MODEL_INVALID,
			       "tokenizer.json: unknown pre-tokenizer pattern "
			       "\"%.200s\"; use the model's GGUF",
			       regex);
	snprintf(t->info.pre, sizeof(t->info.pre), "%s", t->pre->name);
	t->ignore_merges = json_is_true(json_object_get(json_object_get(root, "model"),
							"ignore_merges"));
	return 0;
}

/* The special tokens that the post-processor puts in front and behind. */
static void read_bos_rule(struct tokenizer *t, const json_t *root)
{
	const json_t *p = part_of_type(json_object_get(root, "post_processor"), "processors",
				       "TemplateProcessing");
	json_t *single = json_object_get(p, "single"), *v;
	bool behind = false;
	size_t i;

	json_array_foreach(single, i, v) {
		const json_t *special = json_object_get(v, "SpecialToken");
		int32_t id = special ? tokenizer_find(t, text_of(special, "id")) : -1;

		if (json_object_get(v, "Sequence")) {
			behind = true;
		} else if (id >= 0 && behind) {
			t->info.eos = id;
			t->info.add_eos = true;
		} else if (id >= 0) {
			t->info.bos = id;
			t->info.add_bos = true;
		}
	}
}

/* tokenizer.json does not say which tokens begin and end: by their usual texts. */
static void guess_special(struct tokenizer *t)
{
	static const char *const begin[] = {"<|begin_of_text|>", "<s>", "<｜begin▁of▁sentence｜>",
					    "<|endoftext|>"};
	static const char *const end[] = {"<|end_of_text|>", "</s>", "<｜end▁of▁sentence｜>",
					  "<|endoftext|>"};

	for (int i = 0; i < 4 && t->info.bos < 0; i++)
		t->info.bos = tokenizer_find(t, begin[i]);
	for (int i = 0; i < 4 && t->info.eos < 0; i++)
		t->info.eos = tokenizer_find(t, end[i]);
}

static void note_normalizer(struct tokenizer *t, const json_t *root)
{
	static const char *const forms[] = {"NFC", "NFD", "NFKC", "NFKD", "Precompiled"};
	const json_t *n = json_object_get(root, "normalizer");

	for (int i = 0; i < 5; i++)
		if (part_of_type(n, "normalizers", forms[i]))
			snprintf(t->info.note, sizeof(t->info.note),
				 "the file's %s normalizer is not "
				 "applied, as llama.cpp does not either",
				 forms[i]);
}

/* A ▁ in front of the text: the normalizer's Prepend, or Metaspace's rule. */
static void read_prefix_rule(struct tokenizer *t, const json_t *root)
{
	const json_t *pre = part_of_type(json_object_get(root, "pre_tokenizer"), "pretokenizers",
					 "Metaspace");
	const char *scheme = text_of(pre, "prepend_scheme");

	t->split_blanks = pre && !json_is_false(json_object_get(pre, "split"));
	t->space_prefix = t->prefix_missing =
		pre && strcmp(scheme, "never") != 0 &&
		!json_is_false(json_object_get(pre, "add_prefix_space"));
	t->prefix_first = strcmp(scheme, "first") == 0;
	if (part_of_type(json_object_get(root, "normalizer"), "normalizers", "Prepend")) {
		t->space_prefix = true;
		t->prefix_first = t->prefix_missing = false;
	}
}

static bool is_blank_rule(const json_t *p)
{
	return strcmp(text_of(json_object_get(p, "pattern"), "String"), " ") == 0;
}

/* What stands in front of the model and would change ids is known here, told or refused. */
static int check_parts(const struct tokenizer *t, const json_t *root, struct err *e)
{
	static const char *const told[] = {"NFC", "NFD", "NFKC", "NFKD", "Precompiled"};
	const json_t *pre = json_object_get(root, "pre_tokenizer"), *p;
	const json_t *normalizer = json_object_get(root, "normalizer");
	const bool spaces = t->kind != TOKENIZER_BPE;

	for (size_t i = 0; (p = part(normalizer, "normalizers", i)) != NULL; i++) {
		bool ok = spaces && (has_type(p, "Prepend") ||
				     (has_type(p, "Replace") && is_blank_rule(p)));

		for (size_t k = 0; k < sizeof(told) / sizeof(told[0]); k++)
			ok = ok || has_type(p, told[k]);
		if (!ok)
			return err_set(e, EXIT_MODEL_INVALID,
				       "tokenizer.json: normalizer \"%.60s\" is not supported; "
				       "use the model's GGUF",
				       text_of(p, "type"));
	}
	for (size_t i = 0; spaces && (p = part(pre, "pretokenizers", i)) != NULL; i++)
		if (!has_type(p, "Metaspace") && !(has_type(p, "Split") && is_blank_rule(p)))
			return err_set(e, EXIT_MODEL_INVALID,
				       "tokenizer.json: pre-tokenizer \"%.60s\" is not "
				       "supported; use the model's GGUF",
				       text_of(p, "type"));
	return 0;
}

static int choose_kind(struct tokenizer **out, const json_t *root, struct err *e)
{
	const json_t *model = json_object_get(root, "model");
	bool level = part_of_type(json_object_get(root, "pre_tokenizer"), "pretokenizers",
				  "ByteLevel") != NULL;
	struct tokenizer *t;

	if (has_type(model, "BPE") ? !json_is_object(json_object_get(model, "vocab")) ||
				     !json_is_array(json_object_get(model, "merges"))
				   : has_type(model, "Unigram") &&
				     !json_is_array(json_object_get(model, "vocab")))
		return invalid(e, "model.vocab or model.merges is missing or of the wrong type");
	if (has_type(model, "Unigram"))
		t = tokenizer_new(TOKENIZER_UNIGRAM);
	else if (has_type(model, "BPE"))
		t = tokenizer_new(level ? TOKENIZER_BPE : TOKENIZER_SPM);
	else
		return err_set(e, EXIT_MODEL_INVALID, "tokenizer.json: model type \"%.60s\" is not "
			       "supported; known: BPE, Unigram", text_of(model, "type"));
	snprintf(t->info.model, sizeof(t->info.model), "%s",
		 t->kind == TOKENIZER_BPE   ? "gpt2"
		 : t->kind == TOKENIZER_SPM ? "llama"
					    : "unigram");
	t->by_rank = t->kind == TOKENIZER_SPM;
	t->own_texts_only = true;
	if (t->kind != TOKENIZER_BPE)
		read_prefix_rule(t, root);
	*out = t;
	return 0;
}

static int build(struct tokenizer **out, const json_t *root, struct err *e)
{
	struct tokenizer *t = NULL;
	int r = choose_kind(&t, root, e);

	if (r == 0)
		r = check_parts(t, root, e);
	if (r == 0 && t->kind == TOKENIZER_BPE)
		r = choose_pre(t, root, e);
	if (r == 0)
		r = read_vocabulary(t, root, e);
	if (r == 0) {
		read_bos_rule(t, root);
		guess_special(t);
		note_normalizer(t, root);
		r = tokenizer_finish(t, e);
	}
	if (r < 0) {
		tokenizer_free(t);
		return r;
	}
	*out = t;
	return 0;
}

int tokenizer_from_json_bytes(struct tokenizer **out, const char *s, size_t n, struct err *e)
{
	json_error_t je;
	json_t *root;
	int r;

	if (n > JSON_BYTES_MAX)
		return err_set(e, EXIT_MODEL_INVALID,
			       "tokenizer.json: %zu bytes, at most %d are allowed", n,
			       JSON_BYTES_MAX);
	root = json_loadb(s, n, JSON_REJECT_DUPLICATES, &je);
	if (!root)
		return err_set(e, EXIT_MODEL_INVALID, "tokenizer.json: line %d: %s", je.line,
			       je.text);
	r = build(out, root, e);
	json_decref(root);
	return r;
}

int tokenizer_from_json(struct tokenizer **out, const char *path, struct err *e)
{
	FILE *f = fopen(path, "rbe");
	struct stat st;
	char *s;
	size_t n;
	int r;

	if (!f)
		return err_set(e, EXIT_MODEL_LOAD, "%s: %s", path, strerror(errno));
	if (fstat(fileno(f), &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > JSON_BYTES_MAX) {
		fclose(f);
		return err_set(e, EXIT_MODEL_INVALID, "%s: no regular file of at most %d bytes",
			       path, JSON_BYTES_MAX);
	}
	s = tokenizer_alloc(NULL, (size_t)st.st_size + 1, 1);
	n = fread(s, 1, (size_t)st.st_size, f);
	fclose(f);
	r = tokenizer_from_json_bytes(out, s, n, e);
	if (r < 0)
		err_prefix(e, "%s", path);
	free(s);
	return r;
}
