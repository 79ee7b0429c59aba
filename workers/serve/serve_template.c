/*
 * TEMPLATE for programs that have the GGUF reader: the model's metadata give what `auto` needs.
 * A reference's worker does without; the prompt is rendered once, for both sides.
 */
#include "serve_template.h"

#include "gguf.h"
#include "template.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *copy(const char *s, size_t n)
{
	char *out = malloc(n + 1);

	if (out) {
		memcpy(out, s, n);
		out[n] = 0;
	}
	return out;
}

static char *text_of(const struct gguf *g, const char *key)
{
	struct gguf_str s;

	return gguf_string(g, key, &s) ? copy(s.s, s.n) : NULL;
}

/* The text of the token whose id the metadata hold under key. */
static char *token_of(const struct gguf *g, const char *key)
{
	const struct gguf_kv *tokens = gguf_find(g, "tokenizer.ggml.tokens");
	struct gguf_str s;
	uint64_t id;
	size_t at = 0;

	if (!tokens || !gguf_u64(g, key, &id) || id >= tokens->count)
		return NULL;
	for (uint64_t i = 0; gguf_next_string(tokens, &at, &s); i++)
		if (i == id)
			return copy(s.s, s.n);
	return NULL;
}

/* Line ends and backslashes of a stop text as \n, \r, \\: a header value is one line. */
static void put_stop(struct wire_builder *b, const char *s)
{
	char out[128];
	size_t n = 0;

	for (; *s && n + 3 < sizeof(out); s++) {
		const char *escape = *s == '\n'   ? "\\n"
				     : *s == '\r' ? "\\r"
				     : *s == '\\' ? "\\\\"
						  : NULL;

		if (escape) {
			out[n++] = escape[0];
			out[n++] = escape[1];
		} else {
			out[n++] = *s;
		}
	}
	out[n] = 0;
	wire_put(b, "stop", "%s", out);
}

static int send_templated(struct channel *c, const struct template_result *r, struct err *e)
{
	wire_begin(&c->out, WIRE_TEMPLATED);
	wire_put(&c->out, "name", "%s", r->name);
	wire_put(&c->out, "why", "%s", r->why);
	wire_put(&c->out, "add_bos", "%d", r->add_bos);
	wire_put(&c->out, "parse_special", "%d", r->parse_special);
	for (int i = 0; i < r->n_stops; i++)
		put_stop(&c->out, r->stops[i]);
	wire_body(&c->out, r->text, r->bytes);
	return channel_send(c, e);
}

int serve_template(struct channel *c, const char *model_path, const struct wire_frame *f,
		   struct err *e)
{
	struct template_result r = {0};
	struct gguf g = {0};
	char name[64] = "auto", *arch = NULL, *chat = NULL, *bos = NULL, *eos = NULL;
	char *system = NULL, *user = NULL;
	int64_t n = wire_get_int(f, "system", 0);
	int rc;

	wire_get(f, "name", 0, name, sizeof(name));
	if (n < 0 || n > (int64_t)f->body_bytes)
		return err_set(e, EXIT_USAGE, "system=%lld in a body of %zu bytes", (long long)n,
			       f->body_bytes);
	if (memchr(f->body, 0, f->body_bytes))
		return err_set(e, EXIT_TEMPLATE,
			       "a prompt that goes through a template holds a NUL");
	rc = gguf_open(&g, model_path, e);
	if (rc < 0)
		return rc;
	arch = text_of(&g, "general.architecture");
	chat = text_of(&g, "tokenizer.chat_template");
	bos = token_of(&g, "tokenizer.ggml.bos_token_id");
	eos = token_of(&g, "tokenizer.ggml.eos_token_id");
	gguf_close(&g);
	system = copy((const char *)f->body, (size_t)n);
	user = copy((const char *)f->body + n, f->body_bytes - (size_t)n);
	if (!system || !user) {
		rc = err_set(e, EXIT_INTERNAL, "no memory");
		goto out;
	}
	rc = template_render(&r, name,
			     &(struct template_model){.arch = arch,
						      .chat_template = chat,
						      .bos_token = bos,
						      .eos_token = eos},
			     wire_get_int(f, "system", -1) < 0 ? NULL : system, user, e);
	if (rc == 0)
		rc = send_templated(c, &r, e);
	template_free(&r);
out:
	free(arch);
	free(chat);
	free(bos);
	free(eos);
	free(system);
	free(user);
	return rc;
}
