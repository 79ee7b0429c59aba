#include "engine_call.h"

#include "term.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROMPT_BYTES_MAX = 64 << 20, CTX_MAX = 1 << 20, TEMPLATE_ROOM = 4096 };

/* ---- what the user gave ------------------------------------------------------------------- */

static int read_file(const char *path, char **text, size_t *bytes, struct err *e)
{
	FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
	size_t cap = 1 << 16, n = 0, got;
	if (!f)
		return err_set(e, EXIT_USAGE, "%s cannot be read", path);
	char *buf = malloc(cap);
	while (buf && (got = fread(buf + n, 1, cap - n - 1, f)) > 0) {
		n += got;
		if (n > PROMPT_BYTES_MAX)
			break;
		if (cap - n < 2) {
			char *more = realloc(buf, cap *= 2);
			if (!more)
				free(buf);
			buf = more;
		}
	}
	if (f != stdin)
		fclose(f);
	if (!buf || n > PROMPT_BYTES_MAX) {
		free(buf);
		return err_set(e, EXIT_USAGE, "%s is larger than %d MiB", path,
			       PROMPT_BYTES_MAX >> 20);
	}
	buf[n] = 0;
	*text = buf;
	*bytes = n;
	return 0;
}

int engine_call_parse_ids(const char *text, int32_t **ids, int *n, struct err *e)
{
	size_t cap = strlen(text) / 2 + 1, k = 0;
	int32_t *out = malloc(cap * sizeof(*out));
	if (!out)
		return err_set(e, EXIT_INTERNAL, "no memory for token ids");
	const char *p = text;
	while (*p) {
		if (!isdigit((unsigned char)*p)) {
			if (!isspace((unsigned char)*p) && !strchr(",;[]", *p)) {
				free(out);
				return err_set(
					e, EXIT_USAGE,
					"\"%.20s\" is not a token id; ids are numbers separated by "
					"spaces, commas or line ends",
					p);
			}
			p++;
			continue;
		}
		char *end;
		unsigned long v = strtoul(p, &end, 10);
		if (v > INT32_MAX) {
			free(out);
			return err_set(e, EXIT_USAGE, "token id %.20s is too large", p);
		}
		out[k++] = (int32_t)v;
		p = end;
	}
	if (k == 0) {
		free(out);
		return err_set(e, EXIT_USAGE, "there is no token id in what was given");
	}
	*ids = out;
	*n = (int)k;
	return 0;
}

struct given {
	char *text;		/* prompt, owned */
	size_t bytes;
	bool tokens;		/* the ids are already in the call */
};

/* Exactly one source: an argument, --prompt, --prompt-file, --tokens, --tokens-file. */
static int read_given(struct engine_call *g, struct cli *c, struct given *in, struct err *e)
{
	const char *const *args;
	const char *prompt = cli_str(c, "prompt"), *file = cli_str(c, "prompt-file");
	const char *tokens = cli_str(c, "tokens"), *tokens_file = cli_str(c, "tokens-file");
	int n_args = cli_positional(c, &args);
	if (n_args > 1)
		return err_set(e, EXIT_USAGE,
			       "more than one prompt: \"%.40s\" and \"%.40s\"; quote it", args[0],
			       args[1]);
	if ((n_args > 0) + !!prompt + !!file + !!tokens + !!tokens_file != 1)
		return err_set(
			e, EXIT_USAGE,
			"give one of: a prompt, --prompt-file FILE, --tokens IDS, --tokens-file FILE");
	if (tokens || tokens_file) {
		char *text = NULL;
		size_t bytes;
		int rc = tokens_file ? read_file(tokens_file, &text, &bytes, e) : 0;
		if (rc == 0)
			rc = engine_call_parse_ids(text ? text : tokens, &g->ids, &g->n_ids, e);
		free(text);
		in->tokens = true;
		snprintf(g->template_name, sizeof(g->template_name), "tokens");
		return rc;
	}
	if (file)
		return read_file(file, &in->text, &in->bytes, e);
	in->text = strdup(n_args > 0 ? args[0] : prompt);
	if (!in->text)
		return err_set(e, EXIT_INTERNAL, "no memory for the prompt");
	in->bytes = strlen(in->text);
	return 0;
}

/* ---- answers ------------------------------------------------------------------------------ */

static int on_opened(void *ctx, const struct wire_frame *f, struct err *e)
{
	struct engine_call *g = ctx;
	(void)e;
	if (f->type == WIRE_NOTE)
		term_detail("%.*s", (int)f->body_bytes, (const char *)f->body);
	if (f->type != WIRE_OPENED)
		return 0;
	wire_get(f, "arch", 0, g->arch, sizeof(g->arch));
	wire_get(f, "profile", 0, g->profile, sizeof(g->profile));
	wire_get(f, "isa", 0, g->isa, sizeof(g->isa));
	wire_get(f, "weights", 0, g->weights, sizeof(g->weights));
	wire_get(f, "note", 0, g->note, sizeof(g->note));
	g->n_vocab = (int)wire_get_int(f, "n_vocab", 0);
	g->n_layer = (int)wire_get_int(f, "n_layer", 0);
	g->n_embd = (int)wire_get_int(f, "n_embd", 0);
	g->n_ctx = (int)wire_get_int(f, "n_ctx", 0);
	g->eos = (int32_t)wire_get_int(f, "eos", -1);
	g->eot = (int32_t)wire_get_int(f, "eot", -1);
	g->add_bos = wire_get_int(f, "add_bos", 0) != 0;
	return 0;
}

static int on_tokens(void *ctx, const struct wire_frame *f, struct err *e)
{
	struct engine_call *g = ctx;
	if (f->type != WIRE_TOKENS)
		return 0;
	g->ids = malloc(f->body_bytes + 1);
	if (!g->ids)
		return err_set(e, EXIT_INTERNAL, "no memory for token ids");
	if (f->body_bytes)
		memcpy(g->ids, f->body, f->body_bytes);
	g->n_ids = (int)(f->body_bytes / sizeof(*g->ids));
	return 0;
}

struct templated {
	struct engine_call *g;
	char *text;
	size_t bytes;
	bool add_bos, parse_special;
};

/* A stop text as TEMPLATED spells it. */
static char *unescape(const char *text)
{
	char *out = malloc(strlen(text) + 1), *to = out;
	while (out && *text) {
		if (*text == '\\' && text[1]) {
			*to++ = text[1] == 'n' ? '\n' : text[1] == 'r' ? '\r' : text[1];
			text += 2;
		} else {
			*to++ = *text++;
		}
	}
	if (out)
		*to = 0;
	return out;
}

static int on_templated(void *ctx, const struct wire_frame *f, struct err *e)
{
	struct templated *t = ctx;
	char why[256] = "", stop[128];
	if (f->type != WIRE_TEMPLATED)
		return 0;
	t->text = malloc(f->body_bytes + 1);
	if (!t->text)
		return err_set(e, EXIT_INTERNAL, "no memory for the prompt");
	if (f->body_bytes)
		memcpy(t->text, f->body, f->body_bytes);
	t->bytes = f->body_bytes;
	t->add_bos = wire_get_int(f, "add_bos", 0) != 0;
	t->parse_special = wire_get_int(f, "parse_special", 0) != 0;
	wire_get(f, "name", 0, t->g->template_name, sizeof(t->g->template_name));
	wire_get(f, "why", 0, why, sizeof(why));
	term_detail("template %s: %s", t->g->template_name, why);
	while (t->g->n_stops < ENGINE_CALL_STOPS_MAX &&
	       wire_get(f, "stop", t->g->n_stops, stop, sizeof(stop))) {
		char *copy = unescape(stop);
		if (!copy)
			return err_set(e, EXIT_INTERNAL, "no memory for a stop text");
		t->g->stops[t->g->n_stops++] = copy;
	}
	return 0;
}

static int call(struct engine_call *g, client_frame_fn *fn, void *ctx, struct err *e)
{
	int rc = wire_finish(&g->request, e);
	return rc < 0 ? rc : client_call(g->client, &g->request, fn, ctx, e);
}

/* ---- opening ------------------------------------------------------------------------------ */

static int open_model(struct engine_call *g, struct cli *c, int64_t positions, struct err *e)
{
	static const char *const texts[] = {"tokenizer", "profile", "isa", "kv"};
	static const char *const numbers[] = {"threads", "ubatch"};
	const char *const *overrides;
	struct wire_builder *b = &g->request;
	int64_t ctx = cli_int(c, "ctx");
	wire_begin(b, WIRE_OPEN);
	wire_put(b, "model", "%s", cli_str(c, "model"));
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (cli_str(c, texts[i]))
			wire_put(b, texts[i], "%s", cli_str(c, texts[i]));
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		wire_put(b, numbers[i], "%lld", (long long)cli_int(c, numbers[i]));
	if (ctx == 0 && positions > 0)
		ctx = positions < CTX_MAX ? positions : CTX_MAX;
	wire_put(b, "ctx", "%lld", (long long)ctx);
	wire_put(b, "pin", "%d", cli_flag(c, "pin"));
	wire_put(b, "reproduce_defects", "%d", cli_flag(c, "reproduce-defects"));
	int n = cli_list(c, "override-kv", &overrides);
	for (int i = 0; i < n; i++)
		wire_put(b, "override", "%s", overrides[i]);
	int rc = call(g, on_opened, g, e);
	if (rc == 0 && g->note[0])
		term_note("%s", g->note);
	return rc;
}

static int format_prompt(struct engine_call *g, struct cli *c, struct given *in,
			 struct templated *t, struct err *e)
{
	const char *name = cli_str(c, "prompt-template"), *system = cli_str(c, "system-prompt");
	t->g = g;
	t->add_bos = true;
	if (strcmp(name, "raw") == 0) {
		snprintf(g->template_name, sizeof(g->template_name), "raw");
		t->text = in->text;
		t->bytes = in->bytes;
		in->text = NULL;
		return 0;
	}
	wire_begin(&g->request, WIRE_TEMPLATE);
	wire_put(&g->request, "name", "%s", name);
	if (system) {
		wire_put(&g->request, "system", "%zu", strlen(system));
		wire_body(&g->request, system, strlen(system));
	}
	wire_body(&g->request, in->text, in->bytes);
	return call(g, on_templated, t, e);
}

static int make_ids(struct engine_call *g, struct cli *c, struct given *in, struct err *e)
{
	struct templated t = {0};
	int rc = format_prompt(g, c, in, &t, e);
	if (rc == 0) {
		if (cli_flag(c, "no-bos"))
			t.add_bos = false;
		wire_begin(&g->request, WIRE_TOKENIZE);
		wire_put(&g->request, "add_bos", "%d", t.add_bos);
		wire_put(&g->request, "parse_special", "%d",
			 t.parse_special || cli_flag(c, "parse-special"));
		wire_body(&g->request, t.text, t.bytes);
		rc = call(g, on_tokens, g, e);
	}
	if (rc == 0 && g->n_ids == 0)
		rc = err_set(e, EXIT_USAGE, "the prompt has no tokens");
	free(t.text);
	return rc;
}

int engine_call_open(struct engine_call *g, struct cli *c, int n_more, struct err *e)
{
	struct given in = {0};
	struct client_options o = {.engine = cli_str(c, "engine"),
				   .deadline_ms = (int)(cli_int(c, "timeout") * 1000)};
	int rc = 0;
	memset(g, 0, sizeof(*g));
	if (!cli_str(c, "model"))
		return err_set(e, EXIT_USAGE, "--model FILE is needed");
	snprintf(g->engine, sizeof(g->engine), "%s", o.engine);
	if (n_more >= 0)
		rc = read_given(g, c, &in, e);
	if (rc == 0)
		rc = client_open(&g->client, &o, e);
	if (rc == 0) {	/* a token takes at least one byte of the prompt */
		int64_t n = in.tokens ? g->n_ids : (int64_t)in.bytes + TEMPLATE_ROOM;
		const char *system = n_more >= 0 ? cli_str(c, "system-prompt") : NULL;
		n += system ? (int64_t)strlen(system) : 0;
		rc = open_model(g, c, n_more >= 0 ? n + n_more : 0, e);
	}
	if (rc == 0 && n_more >= 0 && !in.tokens)
		rc = make_ids(g, c, &in, e);
	free(in.text);
	if (rc != 0)
		engine_call_close(g);
	return rc;
}

void engine_call_close(struct engine_call *g)
{
	client_close(g->client);
	wire_builder_free(&g->request);
	free(g->ids);
	for (int i = 0; i < g->n_stops; i++)
		free(g->stops[i]);
	g->client = NULL;
	g->ids = NULL;
	g->n_stops = 0;
}

void engine_call_begin(struct engine_call *g)
{
	wire_begin(&g->request, WIRE_EVALUATE);
	wire_put(&g->request, "tokens", "%d", g->n_ids);
}

int engine_call_run(struct engine_call *g, client_frame_fn *fn, void *ctx, struct err *e)
{
	wire_body(&g->request, g->ids, (size_t)g->n_ids * sizeof(*g->ids));
	return call(g, fn, ctx, e);
}

int engine_call_finite(const char *engine, const struct wire_frame *f, int n_vocab, struct err *e)
{
	const int bad = f->type == WIRE_LOGITS ? (int)wire_get_int(f, "nonfinite", 0) : 0;

	if (bad == 0)
		return 0;
	return err_set(e, EXIT_INFERENCE,
		       "engine %s: after position %lld %d of %d logits are NaN or infinite: a weight of "
		       "the model or a kernel is broken; `assay trace` with the same model and prompt "
		       "shows the first stage whose rms is not a number",
		       engine, (long long)wire_get_int(f, "pos", -1), bad, n_vocab);
}

/* ---- pieces ------------------------------------------------------------------------------- */

static int on_pieces(void *ctx, const struct wire_frame *f, struct err *e)
{
	struct engine_pieces *p = ctx;
	if (f->type != WIRE_PIECES)
		return 0;
	p->text = malloc(f->body_bytes + 1);
	p->at = calloc((size_t)p->n + 1, sizeof(*p->at));
	if (!p->text || !p->at)
		return err_set(e, EXIT_INTERNAL, "no memory for the vocabulary's texts");
	int i = 0;
	for (size_t at = 0; at + 4 <= f->body_bytes && i < p->n; i++) {
		uint32_t n;
		memcpy(&n, f->body + at, 4);
		at += 4;
		if (n > f->body_bytes - at)
			return err_set(e, EXIT_WORKER, "a PIECES answer is cut off");
		memcpy(p->text + p->at[i], f->body + at, n);
		p->at[i + 1] = p->at[i] + n;
		at += n;
	}
	return i == p->n ? 0 : err_set(e, EXIT_WORKER, "%d of %d pieces came", i, p->n);
}

int engine_call_pieces(struct engine_call *g, const int32_t *ids, int n, struct engine_pieces *out,
		       struct err *e)
{
	struct engine_pieces p = {.n = n};
	wire_begin(&g->request, WIRE_DETOKENIZE);
	wire_body(&g->request, ids, (size_t)n * sizeof(*ids));
	int rc = call(g, on_pieces, &p, e);
	if (rc == 0 && !p.at)
		rc = err_set(e, EXIT_WORKER, "engine %s answered DETOKENIZE without pieces",
			     g->engine);
	if (rc != 0)
		engine_pieces_free(&p);
	else
		*out = p;
	return rc;
}

void engine_pieces_free(struct engine_pieces *p)
{
	free(p->text);
	free(p->at);
	*p = (struct engine_pieces){0};
}
