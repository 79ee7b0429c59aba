#include "scenario.h"

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scenario_line.h"

struct reader {
	const char *path, *text;
	size_t bytes;
	int index;		/* scenario in hand */
	const char *id;		/* its id once known */
	struct err *e;
};

static int refuse(const struct reader *r, const char *key, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int refuse(const struct reader *r, const char *key, const char *fmt, ...)
{
	char what[1024], who[SCENARIO_ID_MAX + 2];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	if (r->id)
		snprintf(who, sizeof(who), "\"%s\"", r->id);
	else
		snprintf(who, sizeof(who), "#%d", r->index + 1);
	return err_set(r->e, EXIT_USAGE, "%s:%d: scenario %s%s%s: %s", r->path,
		       scenario_line(r->text, r->bytes, r->index, key), who, key ? ", " : "",
		       key ? key : "", what);
}

static int timeout_default(int *out, struct err *e)
{
	const char *text = getenv("CROSSVAL_TIMEOUT_SECS");
	char *end;
	long v;

	*out = SCENARIO_TIMEOUT_S;
	if (!text || !*text)
		return 0;
	v = strtol(text, &end, 10);
	if (*end || v < 1 || v > 86400)
		return err_set(e, EXIT_USAGE,
			       "CROSSVAL_TIMEOUT_SECS=%s: expected seconds from 1 to 86400", text);
	*out = (int)v;
	return 0;
}

int scenario_defaults(struct scenario_set *s, struct err *e)
{
	static const struct {
		const char *id, *prompt;
		int n;
	} defaults[] = {
		{"scenario1", "2+2=", 1},
		{"scenario2", "Hello", 2},
		{"scenario3", "Count: 1,2,3,", 4},
	};
	int timeout_s, r = timeout_default(&timeout_s, e);

	if (r < 0)
		return r;
	s->n = 3;
	s->items = calloc(3, sizeof(*s->items));
	assert(s->items);
	for (int i = 0; i < 3; i++) {
		struct scenario *c = &s->items[i];

		snprintf(c->id, sizeof(c->id), "%s", defaults[i].id);
		c->prompt = strdup(defaults[i].prompt);
		c->max_new_tokens = defaults[i].n;
		c->timeout_s = timeout_s;
	}
	return 0;
}

static int read_prompt_file(struct reader *r, struct scenario *s, const char *name)
{
	char path[PATH_MAX];
	const char *slash = strrchr(r->path, '/');
	int failed;
	size_t n;
	FILE *f;

	if (*name == '/' || !slash)
		snprintf(path, sizeof(path), "%s", name);
	else
		snprintf(path, sizeof(path), "%.*s%s", (int)(slash - r->path + 1), r->path, name);
	f = fopen(path, "rbe");
	if (!f)
		return refuse(r, "prompt_file", "%s: %s", path, strerror(errno));
	s->prompt = calloc(1, SCENARIO_PROMPT_MAX + 2);
	assert(s->prompt);
	n = fread(s->prompt, 1, SCENARIO_PROMPT_MAX + 1, f);
	failed = ferror(f) ? errno : 0;
	fclose(f);
	if (failed)
		return refuse(r, "prompt_file", "%s: %s", path, strerror(failed));
	if (n > SCENARIO_PROMPT_MAX || memchr(s->prompt, 0, n))
		return refuse(r, "prompt_file", "%s: longer than %d bytes, or with a NUL in it",
			      path, SCENARIO_PROMPT_MAX);
	s->prompt = realloc(s->prompt, n + 1);
	return 0;
}

static int take_id(struct reader *r, struct scenario *s, json_t *v)
{
	const char *id = json_string_value(v);

	if (!id || !*id || strlen(id) >= SCENARIO_ID_MAX || *id == '.' || *id == '-' ||
	    strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") !=
		    strlen(id))
		return refuse(
		    r, "id",
		    "expected 1 to %d characters of A-Z a-z 0-9 . _ -, the first no . or -",
		    SCENARIO_ID_MAX - 1);
	snprintf(s->id, sizeof(s->id), "%s", id);
	r->id = s->id;
	return 0;
}

static int take_text(struct reader *r, const char *key, json_t *v, char *out, size_t size)
{
	const char *text = json_string_value(v);

	if (!text || !*text || strlen(text) >= size)
		return refuse(r, key, "expected a text of 1 to %zu bytes", size - 1);
	snprintf(out, size, "%s", text);
	return 0;
}

static int take_string(struct reader *r, const char *key, json_t *v, char **out)
{
	if (!json_is_string(v) || json_string_length(v) > SCENARIO_PROMPT_MAX ||
	    strlen(json_string_value(v)) != json_string_length(v))
		return refuse(r, key, "expected a text of at most %d bytes without NUL",
			      SCENARIO_PROMPT_MAX);
	*out = strdup(json_string_value(v));
	return 0;
}

static int take_int(struct reader *r, const char *key, json_t *v, json_int_t low, json_int_t high,
		    json_int_t *out)
{
	if (!json_is_integer(v) || json_integer_value(v) < low || json_integer_value(v) > high)
		return refuse(r, key, "expected an integer from %lld to %lld", (long long)low,
			      (long long)high);
	*out = json_integer_value(v);
	return 0;
}

static int take_tokens(struct reader *r, struct scenario *s, json_t *v)
{
	json_t *id;
	size_t i;

	if (!json_is_array(v) || json_array_size(v) < 1 || json_array_size(v) > SCENARIO_TOKENS_MAX)
		return refuse(r, "tokens", "expected 1 to %d ids", SCENARIO_TOKENS_MAX);
	s->tokens = calloc(json_array_size(v), sizeof(*s->tokens));
	assert(s->tokens);
	json_array_foreach(v, i, id) {
		json_int_t value = 0;
		int rc = take_int(r, "tokens", id, 0, INT32_MAX, &value);

		if (rc < 0)
			return rc;
		s->tokens[s->n_tokens++] = (int32_t)value;
	}
	return 0;
}

static int take_engines(struct reader *r, struct scenario *s, json_t *v)
{
	json_t *name;
	size_t i;

	if (!json_is_array(v) || json_array_size(v) < 2 ||
	    json_array_size(v) > SCENARIO_ENGINES_MAX)
		return refuse(r, "engines",
			      "expected the engine under test and 1 to %d references",
			      SCENARIO_ENGINES_MAX - 1);
	json_array_foreach(v, i, name) {
		if (!json_is_string(name) || !*json_string_value(name) ||
		    json_string_length(name) > 1000)
			return refuse(r, "engines", "expected names of engines");
		s->engines[s->n_engines++] = strdup(json_string_value(name));
	}
	return 0;
}

static int take_key(struct reader *r, struct scenario *s, const char *key, json_t *v)
{
	json_int_t number = 0;
	int rc;

	if (strcmp(key, "id") == 0)
		return 0;	/* taken first */
	if (strcmp(key, "prompt") == 0)
		return take_string(r, key, v, &s->prompt);
	if (strcmp(key, "prompt_file") == 0) {
		if (!json_is_string(v))
			return refuse(r, key, "expected a file name");
		return read_prompt_file(r, s, json_string_value(v));
	}
	if (strcmp(key, "system") == 0)
		return take_string(r, key, v, &s->system);
	if (strcmp(key, "template") == 0)
		return take_text(r, key, v, s->template_name, sizeof(s->template_name));
	if (strcmp(key, "thresholds") == 0)
		return take_text(r, key, v, s->thresholds, sizeof(s->thresholds));
	if (strcmp(key, "tokens") == 0)
		return take_tokens(r, s, v);
	if (strcmp(key, "engines") == 0)
		return take_engines(r, s, v);
	if (strcmp(key, "max_new_tokens") == 0) {
		rc = take_int(r, key, v, 0, SCENARIO_NEW_TOKENS_MAX, &number);
		s->max_new_tokens = (int)number;
		return rc;
	}
	if (strcmp(key, "timeout_s") == 0) {
		rc = take_int(r, key, v, 1, 86400, &number);
		s->timeout_s = (int)number;
		return rc;
	}
	if (strcmp(key, "seed") == 0) {
		rc = take_int(r, key, v, 0, INT64_MAX, &number);
		s->seed = (uint64_t)number;
		return rc;
	}
	return refuse(r, key, "unknown key; known are id, prompt, prompt_file, system, template, "
			      "tokens, max_new_tokens, seed, timeout_s, thresholds, engines");
}

static int read_one(struct reader *r, struct scenario *s, json_t *o)
{
	const char *key;
	json_t *v;
	int rc, sources;

	r->id = NULL;
	if (!json_is_object(o))
		return refuse(r, NULL, "expected an object");
	rc = take_id(r, s, json_object_get(o, "id"));
	if (rc < 0)
		return rc;
	sources = (json_object_get(o, "prompt") != NULL) +
		  (json_object_get(o, "prompt_file") != NULL) +
		  (json_object_get(o, "tokens") != NULL);
	if (sources != 1)
		return refuse(r, NULL, "expected one of prompt, prompt_file and tokens, got %d",
			      sources);
	json_object_foreach(o, key, v) {
		rc = take_key(r, s, key, v);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int read_all(struct reader *r, struct scenario_set *s, json_t *list, int timeout_s)
{
	json_t *o;
	size_t i;

	if (!json_is_array(list) || json_array_size(list) > SCENARIOS_MAX)
		return err_set(r->e, EXIT_USAGE, "%s: expected an array of at most %d scenarios",
			       r->path, SCENARIOS_MAX);
	s->items = calloc(json_array_size(list) + 1, sizeof(*s->items));
	assert(s->items);
	json_array_foreach(list, i, o) {
		int rc;

		s->items[s->n].timeout_s = timeout_s;
		r->index = s->n++;
		rc = read_one(r, &s->items[r->index], o);
		if (rc < 0)
			return rc;
		for (int k = 0; k < r->index; k++)
			if (strcmp(s->items[k].id, s->items[r->index].id) == 0)
				return refuse(r, "id", "the id is taken by scenario #%d", k + 1);
	}
	return 0;
}

static int read_root(struct reader *r, struct scenario_set *s, json_t *root)
{
	int timeout_s, rc = timeout_default(&timeout_s, r->e);
	const char *key;
	json_t *v;

	if (rc < 0)
		return rc;
	if (json_is_array(root))
		return read_all(r, s, root, timeout_s);
	json_object_foreach(root, key, v) {
		if (strcmp(key, "schema_version") == 0 && json_is_string(v) &&
		    strcmp(json_string_value(v), "1.0.0") == 0)
			continue;
		if (strcmp(key, "scenarios") != 0)
			return err_set(
			    r->e, EXIT_USAGE,
			    "%s: unknown key \"%.100s\", or a schema_version that is not "
			    "\"1.0.0\"; expected {\"scenarios\": […]} or an array",
			    r->path, key);
	}
	return read_all(r, s, json_object_get(root, "scenarios"), timeout_s);
}

static int read_file(const char *path, char **text, size_t *bytes, struct err *e)
{
	FILE *f = fopen(path, "rbe");
	size_t cap = 1 << 16, n = 0, got;
	int failed;

	if (!f)
		return err_set(e, EXIT_USAGE, "scenario file %s: %s", path, strerror(errno));
	*text = malloc(cap);
	while (*text && (got = fread(*text + n, 1, cap - n, f)) > 0) {
		n += got;
		if (n == cap && cap <= SCENARIO_FILE_MAX)
			*text = realloc(*text, cap *= 2);
	}
	failed = ferror(f) ? errno : 0;
	fclose(f);
	assert(*text);
	*bytes = n;
	if (failed)
		return err_set(e, EXIT_USAGE, "scenario file %s: %s", path, strerror(failed));
	if (n > SCENARIO_FILE_MAX)
		return err_set(e, EXIT_USAGE, "scenario file %s: longer than %d bytes", path,
			       SCENARIO_FILE_MAX);
	return 0;
}

int scenario_load(struct scenario_set *s, const char *path, struct err *e)
{
	struct scenario_set found = {0};
	struct reader r = {.path = path, .e = e};
	json_error_t why;
	json_t *root = NULL;
	char *text = NULL;
	int rc = read_file(path, &text, &r.bytes, e);

	if (rc == 0) {
		r.text = text;
		root = json_loadb(text, r.bytes, JSON_REJECT_DUPLICATES, &why);
		if (root)
			rc = read_root(&r, &found, root);
		else
			rc = err_set(e, EXIT_USAGE, "%s:%d: %s", path, why.line, why.text);
	}
	json_decref(root);
	free(text);
	if (rc < 0)
		scenario_free(&found);
	else
		*s = found;
	return rc;
}

void scenario_free(struct scenario_set *s)
{
	for (int i = 0; i < s->n; i++) {
		free(s->items[i].prompt);
		free(s->items[i].system);
		free(s->items[i].tokens);
		for (int k = 0; k < s->items[i].n_engines; k++)
			free(s->items[i].engines[k]);
	}
	free(s->items);
	*s = (struct scenario_set){0};
}
