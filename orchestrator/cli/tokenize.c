#include "cli.h"
#include "term.h"

#include "model/gguf.h"
#include "model/template.h"
#include "model/tokenizer.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_BYTES_MAX = 64 << 20, PIECE_BYTES_MAX = 1 << 16, TOKEN_TEXT_MAX = 256 };

/* What one run works on; everything is freed by request_free. */
struct request {
	struct tokenizer *t;
	char *text;		/* as given */
	size_t bytes;
	struct template_result formatted;	/* by --prompt-template */
	char *arch, *chat_template;
	char bos[TOKEN_TEXT_MAX], eos[TOKEN_TEXT_MAX];
	bool add_bos, parse_special;
	int32_t *ids;
	size_t *offsets;
	int n;
};

static void request_free(struct request *q)
{
	tokenizer_free(q->t);
	template_free(&q->formatted);
	free(q->text);
	free(q->arch);
	free(q->chat_template);
	free(q->ids);
	free(q->offsets);
}

static int read_stream(FILE *f, const char *name, struct request *q, struct err *e)
{
	size_t cap = 0;

	for (;;) {
		if (q->bytes == cap) {
			char *bigger;

			if (cap > TEXT_BYTES_MAX)
				return err_set(e, EXIT_USAGE, "%s has more than %d bytes", name,
					       TEXT_BYTES_MAX);
			cap = cap ? cap * 2 : 65536;
			bigger = realloc(q->text, cap);
			if (!bigger)
				return err_set(e, EXIT_INTERNAL, "out of memory");
			q->text = bigger;
		}
		size_t n = fread(q->text + q->bytes, 1, cap - q->bytes, f);

		if (n == 0)
			break;
		q->bytes += n;
	}
	if (ferror(f))
		return err_set(e, EXIT_USAGE, "%s: %s", name, strerror(errno));
	return 0;
}

static int read_file(const char *path, struct request *q, struct err *e)
{
	FILE *f;
	int rc;

	if (strcmp(path, "-") == 0)
		return read_stream(stdin, "standard input", q, e);
	f = fopen(path, "rbe");
	if (!f)
		return err_set(e, EXIT_USAGE, "%s: %s", path, strerror(errno));
	rc = read_stream(f, path, q, e);
	fclose(f);
	return rc;
}

static int get_text(struct cli *c, struct request *q, struct err *e)
{
	const char *const *positional, *text = cli_str(c, "text"), *file = cli_str(c, "file");
	int n = cli_positional(c, &positional);

	if (n > 1)
		return err_set(e, EXIT_USAGE, "one text is expected, got %d arguments; quote it",
			       n);
	if ((n > 0) + (text != NULL) + (file != NULL) > 1)
		return err_set(e, EXIT_USAGE, "give the text once: as argument, --text or --file");
	if (n == 0 && !text)
		return read_file(file ? file : "-", q, e);
	text = text ? text : positional[0];
	q->text = strdup(text);
	q->bytes = strlen(text);
	return q->text ? 0 : err_set(e, EXIT_INTERNAL, "out of memory");
}

static char *get_string(const struct gguf *g, const char *key)
{
	struct gguf_str s;

	return gguf_string(g, key, &s) ? strndup(s.s, s.n) : NULL;
}

static void get_token_text(const struct tokenizer *t, int32_t id, char *out)
{
	int n = id < 0 ? -1 : tokenizer_piece(t, id, true, out, TOKEN_TEXT_MAX - 1, NULL);

	out[n > 0 ? n : 0] = '\0';
}

static bool is_json(const char *path)
{
	size_t n = strlen(path);

	return n > 5 && strcmp(path + n - 5, ".json") == 0;
}

static int open_tokenizer(struct cli *c, struct request *q, struct err *e)
{
	const char *model = cli_str(c, "model"), *tokenizer = cli_str(c, "tokenizer");
	const char *const *overrides, *path = tokenizer ? tokenizer : model;
	int n = cli_list(c, "override-kv", &overrides), rc;
	struct gguf g;

	if (!path)
		return err_set(e, EXIT_USAGE, "a vocabulary is needed: --model FILE.gguf or "
			       "--tokenizer FILE (GGUF or tokenizer.json)");
	if (model && !is_json(model)) {
		rc = gguf_open(&g, model, e);
		if (rc < 0)
			return rc;
		q->arch = get_string(&g, "general.architecture");
		q->chat_template = get_string(&g, "tokenizer.chat_template");
		rc = tokenizer ? 0 : tokenizer_from_gguf(&q->t, &g, overrides, n, e);
		gguf_close(&g);
		if (rc < 0 || !tokenizer)
			return rc;
	}
	if (is_json(path))
		return tokenizer_from_json(&q->t, path, e);
	rc = gguf_open(&g, path, e);
	if (rc < 0)
		return rc;
	rc = tokenizer_from_gguf(&q->t, &g, overrides, n, e);
	gguf_close(&g);
	return rc;
}

static int format_prompt(struct cli *c, struct request *q, struct err *e)
{
	const char *name = cli_str(c, "prompt-template"), *system = cli_str(c, "system-prompt");
	struct template_model m = {q->arch, q->chat_template, q->bos, q->eos};
	char *user;
	int rc;

	q->add_bos = true;
	q->parse_special = cli_flag(c, "parse-special");
	if (!name) {
		if (system)
			return err_set(e, EXIT_USAGE, "--system-prompt needs --prompt-template");
	} else {
		get_token_text(q->t, tokenizer_info(q->t)->bos, q->bos);
		get_token_text(q->t, tokenizer_info(q->t)->eos, q->eos);
		if (memchr(q->text, '\0', q->bytes))
			return err_set(e, EXIT_USAGE,
				       "a text with NUL bytes cannot go into a template");
		user = strndup(q->text, q->bytes);
		rc = template_render(&q->formatted, name, &m, system, user, e);
		free(user);
		if (rc < 0)
			return rc;
		q->add_bos = q->formatted.add_bos;
		q->parse_special |= q->formatted.parse_special;
	}
	if (cli_flag(c, "add-bos"))
		q->add_bos = true;
	if (cli_flag(c, "no-bos"))
		q->add_bos = false;
	return 0;
}

static json_t *id_json(int32_t id)
{
	return id < 0 ? json_null() : json_integer(id);
}

static json_t *tokenizer_json(const struct tokenizer_info *i)
{
	return json_pack("{s:s, s:s, s:b, s:i, s:o, s:o, s:o, s:o, s:o, s:b, s:b, s:s, s:s}",
			 "model", i->model, "pre", i->pre, "pre_missing", i->pre_missing, "n_vocab",
			 i->n_vocab, "bos", id_json(i->bos), "eos", id_json(i->eos), "eot",
			 id_json(i->eot), "unk", id_json(i->unk), "pad", id_json(i->pad), "add_bos",
			 i->add_bos, "add_eos", i->add_eos, "note", i->note, "sha256", i->hash);
}

/* JSON is Unicode: bytes that are no UTF-8 are told in hex, the piece shows U+FFFD for them. */
static json_t *token_json(const struct request *q, int i, char *piece, struct err *e)
{
	int n = tokenizer_piece(q->t, q->ids[i], true, piece, PIECE_BYTES_MAX, e);
	char *hex;
	json_t *o, *text;

	if (n < 0)
		return NULL;
	hex = malloc((size_t)n * 2 + 1);
	for (int k = 0; k < n; k++)
		snprintf(hex + 2 * k, 3, "%02x", (unsigned char)piece[k]);
	hex[2 * n] = '\0';
	text = json_stringn(piece, (size_t)n);
	o = json_pack("{s:i, s:I, s:o, s:s}", "id", q->ids[i], "offset",
		      (json_int_t)q->offsets[i], "piece", text ? text : json_string("\xEF\xBF\xBD"),
		      "bytes", hex);
	free(hex);
	return o;
}

static int print_json(const struct request *q, struct err *e)
{
	char *piece = malloc(PIECE_BYTES_MAX);
	json_t *tokens = json_array(), *ids = json_array(), *o;

	for (int i = 0; i < q->n; i++) {
		json_t *t = token_json(q, i, piece, e);

		if (!t) {
			json_decref(tokens);
			json_decref(ids);
			free(piece);
			return e->code ? -e->code : err_set(e, EXIT_INTERNAL, "out of memory");
		}
		json_array_append_new(tokens, t);
		json_array_append_new(ids, json_integer(q->ids[i]));
	}
	free(piece);
	o = json_pack("{s:o, s:b, s:b, s:i, s:o, s:o}", "tokenizer",
		      tokenizer_json(tokenizer_info(q->t)), "add_bos", q->add_bos, "parse_special",
		      q->parse_special, "n_tokens", q->n, "ids", ids, "tokens", tokens);
	if (o && q->formatted.text)
		json_object_set_new(o, "template",
				    json_pack("{s:s, s:s, s:s%}", "name", q->formatted.name, "why",
					      q->formatted.why, "prompt", q->formatted.text,
					      q->formatted.bytes));
	if (!o)
		return err_set(e, EXIT_INTERNAL, "out of memory");
	json_dumpf(o, stdout, JSON_SORT_KEYS);
	putchar('\n');
	json_decref(o);
	return 0;
}

/* Printable as it is; control characters and bytes that are no whole character as escapes. */
static void print_piece(const char *s, int n)
{
	json_t *whole = json_stringn(s, (size_t)n);

	for (int i = 0; i < n; i++) {
		unsigned char b = (unsigned char)s[i];

		if (b == '\n' || b == '\t' || b == '\r' || b == '\\')
			printf("\\%c", b == '\n' ? 'n' : b == '\t' ? 't' : b == '\r' ? 'r' : '\\');
		else if (b < 32 || b == 127 || (b > 127 && !whole))
			printf("\\x%02x", b);
		else
			putchar(b);
	}
	json_decref(whole);
}

static int print_text(const struct request *q, struct err *e)
{
	char *piece = malloc(PIECE_BYTES_MAX);

	for (int i = 0; i < q->n; i++) {
		int n = tokenizer_piece(q->t, q->ids[i], true, piece, PIECE_BYTES_MAX, e);

		if (n < 0) {
			free(piece);
			return n;
		}
		printf("%d\t%zu\t", q->ids[i], q->offsets[i]);
		print_piece(piece, n);
		putchar('\n');
	}
	free(piece);
	return 0;
}

static int print_ids(const struct request *q)
{
	for (int i = 0; i < q->n; i++)
		printf("%s%d", i ? "," : "", q->ids[i]);
	putchar('\n');
	return 0;
}

static void tell(const struct request *q)
{
	const struct tokenizer_info *i = tokenizer_info(q->t);

	if (i->note[0])
		term_warn("%s", i->note);
	if (q->formatted.text)
		term_note("template %s: %s", q->formatted.name, q->formatted.why);
	term_note("%d tokens (%s%s%s, %d in the vocabulary, BOS %s, special tokens %s)", q->n,
		  i->model, i->pre[0] ? ", " : "", i->pre, i->n_vocab,
		  q->add_bos && i->add_bos ? "added" : "not added",
		  q->parse_special ? "parsed" : "as text");
}

static int run(struct cli *c, struct err *e)
{
	struct request q = {0};
	int rc = open_tokenizer(c, &q, e);

	if (rc == 0)
		rc = get_text(c, &q, e);
	if (rc == 0)
		rc = format_prompt(c, &q, e);
	if (rc == 0)
		rc = tokenizer_encode(q.t, q.formatted.text ? q.formatted.text : q.text,
				      q.formatted.text ? q.formatted.bytes : q.bytes, q.add_bos,
				      q.parse_special, &q.ids, &q.n, &q.offsets, e);
	if (rc == 0) {
		tell(&q);
		rc = cli_json(c) ? print_json(&q, e) : cli_flag(c, "ids") ? print_ids(&q)
		     : print_text(&q, e);
	}
	request_free(&q);
	return rc;
}

const struct command cmd_tokenize = {
	.name = "tokenize",
	.group = "Models",
	.summary = "text to ids, pieces and byte offsets, as the engines see them",
	.positional = "[TEXT]",
	.examples = "  assay tokenize --model model.gguf \"What is 2+2?\"\n"
		    "  assay tokenize --model model.gguf --prompt-template auto --text Hello\n"
		    "  assay tokenize --tokenizer tokenizer.json --file prompt.txt --format json\n",
	.opts =
		(const struct opt[]){
			{"model", OPT_STR, "FILE", "GGUF file", NULL, "CROSSVAL_GGUF", NULL, 'm'},
			{"tokenizer", OPT_STR, "FILE",
			 "vocabulary instead of the model's: GGUF or tokenizer.json", NULL,
			 "CROSSVAL_GGUF_TOKENIZER", NULL, 0},
			{"text", OPT_STR, "TEXT", "the text", NULL, NULL, NULL, 0},
			{"file", OPT_STR, "FILE", "read the text from a file, - is standard input",
			 NULL, NULL, NULL, 'f'},
			{"add-bos", OPT_FLAG, NULL,
			 "BOS and EOS by the model's own rule, even if a template says no", NULL,
			 NULL, NULL, 0},
			{"no-bos", OPT_FLAG, NULL, "neither BOS nor EOS is added", NULL, NULL, NULL,
			 0},
			{"parse-special", OPT_FLAG, NULL,
			 "texts of control tokens become these tokens", NULL, NULL, NULL, 0},
			{"prompt-template", OPT_STR, "NAME",
			 "format first: raw, instruct, llama3-chat, bitnet-chat, "
			 "chatml, auto",
			 NULL, NULL, NULL, 0},
			{"system-prompt", OPT_STR, "TEXT", "system prompt for the template", NULL,
			 NULL, NULL, 0},
			{"override-kv", OPT_LIST, "KEY=TYPE:VALUE",
			 "replace a value of the file's metadata", NULL, NULL, NULL, 0},
			{"ids", OPT_FLAG, NULL, "only the ids, with commas", NULL, NULL, NULL, 0},
			{0},
		},
	.run = run,
	.details =
		"Without a text standard input is read. One line per token: id, byte offset, piece.\n"
		"Offsets count bytes of the formatted text.\n",
};
