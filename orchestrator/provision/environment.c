#include "environment.h"

#include "paths.h"
#include "reference.h"
#include "store.h"

#include <assert.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *slot(struct environment *v, const char *name, size_t *size)
{
	assert(v->n < ENVIRONMENT_MAX);
	v->vars[v->n].name = name;
	*size = sizeof(v->vars[0].value);
	return v->vars[v->n++].value;
}

static void set(struct environment *v, const char *name, const char *value)
{
	size_t size;
	char *out = slot(v, name, &size);

	snprintf(out, size, "%s", value);
}

/* The first of the names that is ready; its libraries' folder, and the one above. */
static void add_reference(struct environment *v, const char *const *names, const char *variable,
			  char *library_path, size_t size)
{
	struct reference *r = calloc(1, sizeof(*r));
	struct err ignored;

	assert(r);
	for (; *names; names++) {
		char *slash;
		size_t n = strlen(library_path);

		if (reference_look(r, *names, false, &ignored) < 0 || r->state != REFERENCE_READY ||
		    !r->libraries[0])
			continue;
		snprintf(library_path + n, size - n, "%s%s", n ? ":" : "", r->libraries);
		r->libraries[strcspn(r->libraries, ":")] = '\0';
		slash = strrchr(r->libraries, '/');
		if (slash && strcmp(slash, "/lib") == 0)
			*slash = '\0';
		set(v, variable, r->libraries);
		break;
	}
	free(r);
}

int environment_collect(struct environment *v, struct err *e)
{
	static const char *const bitnet[] = {"bitnet", "bitnet-2026-03", NULL};
	static const char *const llama[] = {"llama", NULL};
	char root[4096], library_path[3 * 4096] = "", model[STORE_PATH_MAX];
	const char *old = getenv("LD_LIBRARY_PATH");
	struct err ignored;
	size_t n;
	int r = paths_cache(root, sizeof(root), e);

	v->n = 0;
	if (r < 0)
		return r;
	set(v, "ASSAY_CACHE", root);
	add_reference(v, bitnet, "BITNET_CPP_DIR", library_path, sizeof(library_path));
	add_reference(v, llama, "LLAMA_CPP_DIR", library_path, sizeof(library_path));
	n = strlen(library_path);
	if (n && old && *old && !strstr(old, library_path))
		snprintf(library_path + n, sizeof(library_path) - n, ":%s", old);
	if (n)
		set(v, "LD_LIBRARY_PATH", library_path);
	if (store_find("bitnet-2b4t-i2s", model, &ignored) == 0)
		set(v, "CROSSVAL_GGUF", model);
	if (store_find("llama3-tokenizer", model, &ignored) == 0)
		set(v, "CROSSVAL_GGUF_TOKENIZER", model);
	return 0;
}

/* value with every quote replaced by `to`, and in fish every backslash doubled. */
static void quote(char *out, size_t size, const char *value, const char *to, bool backslashes)
{
	size_t n = 0;

	for (const char *p = value; *p && n + 8 < size; p++) {
		if (*p == '\'')
			n += (size_t)snprintf(out + n, size - n, "%s", to);
		else if (*p == '\\' && backslashes)
			n += (size_t)snprintf(out + n, size - n, "\\\\");
		else
			out[n++] = *p;
	}
	out[n] = '\0';
}

static int print_json(const struct environment *v, char *out, size_t size, struct err *e)
{
	json_t *o = json_object();
	char *text;
	int n;

	for (int i = 0; i < v->n; i++)
		json_object_set_new(o, v->vars[i].name, json_string(v->vars[i].value));
	text = json_dumps(o, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
	n = snprintf(out, size, "%s\n", text ? text : "{}");
	free(text);
	json_decref(o);
	return (size_t)n < size ? 0 : err_set(e, EXIT_INTERNAL, "the environment is too long");
}

struct form {
	const char *name, *before, *between, *after, *quote;
	bool backslashes;
};

static int print_lines(const struct environment *v, const struct form *f, char *out, size_t size,
		       struct err *e)
{
	char quoted[5 * 4096];
	size_t n = 0;

	out[0] = '\0';
	for (int i = 0; i < v->n; i++) {
		if (strchr(v->vars[i].value, '\n'))
			return err_set(e, EXIT_USAGE, "%s holds a newline", v->vars[i].name);
		quote(quoted, sizeof(quoted), v->vars[i].value, f->quote, f->backslashes);
		n += (size_t)snprintf(out + n, size - n, "%s%s%s%s%s\n", f->before, v->vars[i].name,
				      f->between, quoted, f->after);
		if (n >= size)
			return err_set(e, EXIT_INTERNAL, "the environment is too long");
	}
	return 0;
}

int environment_print(const struct environment *v, const char *form, char *out, size_t size,
		      struct err *e)
{
	static const struct form forms[] = {{"sh", "export ", "='", "'", "'\\''", false},
					    {"fish", "set -gx ", " '", "'", "\\'", true},
					    {"pwsh", "$env:", " = '", "'", "''", false},
					    {"github", "", "=", "", "'", false}};

	if (strcmp(form, "json") == 0)
		return print_json(v, out, size, e);
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
		if (strcmp(forms[i].name, form) == 0)
			return print_lines(v, &forms[i], out, size, e);
	return err_set(e, EXIT_USAGE, "unknown form \"%s\"; there are sh, fish, pwsh, json, github",
		       form);
}
