#include "canonical.h"

#include "digest.h"
#include "utf8.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char seal_key[] = "content_sha256";

void canonical_set(json_t *o, const char *key, json_t *v)
{
	int r;

	assert(v);
	r = json_object_set_new(o, key, v);
	assert(r == 0);
	(void)r;
}

json_t *canonical_real(double x)
{
	if (isnan(x))
		return json_string("NaN");
	if (isinf(x))
		return json_string(x > 0 ? "Infinity" : "-Infinity");
	return json_real(x);
}

json_t *canonical_text(const char *s)
{
	json_t *v = s ? json_string(s) : json_null();
	char *copy;

	if (v)
		return v;
	copy = strdup(s);
	assert(copy);
	for (size_t i = 0, left = strlen(copy); left;) {
		size_t n = utf8_length(copy + i, left);

		if (n == 0)
			copy[i] = '?', n = 1;
		i += n;
		left -= n;
	}
	v = json_string(copy);
	free(copy);
	return v;
}

static json_t *value_of(const char *text)
{
	char *end;
	long long n;

	if (!*text || strlen(text) > 18 || (*text != '-' && (*text < '0' || *text > '9')))
		return canonical_text(text);
	n = strtoll(text, &end, 10);
	return *end ? canonical_text(text) : json_integer(n);
}

/* A key that comes again makes an array of its values. */
static void add_value(json_t *o, const char *key, json_t *v)
{
	json_t *old = json_object_get(o, key);

	if (json_is_array(old)) {
		json_array_append_new(old, v);
	} else if (old) {
		json_t *both = json_array();

		json_array_append(both, old);
		json_array_append_new(both, v);
		canonical_set(o, key, both);
	} else {
		canonical_set(o, key, v);
	}
}

json_t *canonical_lines(const char *lines)
{
	json_t *o = json_object();

	while (lines && *lines) {
		size_t n = strcspn(lines, "\n");
		char *line = strndup(lines, n), *eq;

		assert(line);
		eq = strchr(line, '=');
		if (eq) {
			*eq = '\0';
			add_value(o, line, value_of(eq + 1));
		}
		free(line);
		lines += n + (lines[n] == '\n');
	}
	return o;
}

char *canonical_compact(const json_t *o)
{
	char *s = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(17));

	assert(s);
	return s;
}

char *canonical_indented(const json_t *o)
{
	char *s = json_dumps(o, JSON_INDENT(1) | JSON_SORT_KEYS | JSON_REAL_PRECISION(17));
	size_t n;

	assert(s);
	n = strlen(s);
	s = realloc(s, n + 2);
	assert(s);
	memcpy(s + n, "\n", 2);
	return s;
}

static void seal_hex(const json_t *o, char hex[DIGEST_HEX])
{
	char *text = canonical_compact(o);
	struct digest d;
	uint8_t sha[DIGEST_BYTES];

	digest_init(&d);
	digest_update(&d, text, strlen(text));
	digest_final(&d, sha);
	digest_hex(sha, hex);
	free(text);
}

void canonical_seal(json_t *o)
{
	char hex[DIGEST_HEX];

	json_object_del(o, seal_key);
	seal_hex(o, hex);
	canonical_set(o, seal_key, json_string(hex));
}

bool canonical_sealed(json_t *o)
{
	const char *said = json_string_value(json_object_get(o, seal_key));
	char *copy = said ? strdup(said) : NULL;
	char hex[DIGEST_HEX];
	bool same;

	if (!copy)
		return false;
	json_object_del(o, seal_key);
	seal_hex(o, hex);
	same = strcmp(hex, copy) == 0;
	json_object_set_new(o, seal_key, json_string(copy));
	free(copy);
	return same;
}
