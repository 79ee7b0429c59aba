#include "schema.h"

#include <regex.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { WHERE_MAX = 1024, DEPTH_MAX = 64 };

struct check {
	const json_t *root;
	schema_report_fn *report;
	void *ctx;
	char where[WHERE_MAX];
	int depth, violations;
};

static void walk(struct check *c, const json_t *schema, const json_t *value);

static void violate(struct check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void violate(struct check *c, const char *fmt, ...)
{
	char message[SCHEMA_MESSAGE_MAX];
	va_list ap;

	c->violations++;
	if (!c->report)
		return;
	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	c->report(c->ctx, *c->where ? c->where : "/", message);
}

/* Violations of a part, without reporting them. */
static int quietly(struct check *c, const json_t *schema, const json_t *value)
{
	struct check part = *c;

	part.report = NULL;
	part.violations = 0;
	walk(&part, schema, value);
	return part.violations;
}

static const char *type_name(const json_t *v)
{
	switch (json_typeof(v)) {
	case JSON_OBJECT: return "object";
	case JSON_ARRAY: return "array";
	case JSON_STRING: return "string";
	case JSON_INTEGER: return "integer";
	case JSON_REAL: return "number";
	case JSON_NULL: return "null";
	default: return "boolean";
	}
}

/*
 * JSON Schema takes 1.0 for an integer too. In a canonical text it is none: whoever counts reads
 * integers only, and one number has one spelling.
 */
static bool has_type(const json_t *v, const char *type)
{
	if (strcmp(type, "number") == 0)
		return json_is_number(v);
	return strcmp(type, type_name(v)) == 0;
}

static void check_type(struct check *c, const json_t *types, const json_t *value)
{
	char expected[200] = "";
	const json_t *t;
	size_t i;

	if (json_is_string(types)) {
		if (!has_type(value, json_string_value(types)))
			violate(c, "is %s, expected %s", type_name(value),
				json_string_value(types));
		return;
	}
	json_array_foreach(types, i, t) {
		size_t n = strlen(expected);

		if (has_type(value, json_string_value(t)))
			return;
		snprintf(expected + n, sizeof(expected) - n, "%s%s", i ? " or " : "",
			 json_string_value(t));
	}
	violate(c, "is %s, expected %s", type_name(value), expected);
}

static void check_pattern(struct check *c, const char *pattern, const char *text)
{
	regex_t re;

	if (regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB) != 0) {
		violate(c, "the schema's pattern %s does not compile", pattern);
		return;
	}
	if (regexec(&re, text, 0, NULL, 0) != 0)
		violate(c, "\"%.80s\" does not match %s", text, pattern);
	regfree(&re);
}

static void check_bounds(struct check *c, const char *key, double limit, const json_t *v)
{
	bool low = strncmp(key, "min", 3) == 0;
	const char *what = key + 3;
	double x;

	if (strcmp(what, "imum") == 0 && json_is_number(v))
		x = json_number_value(v);
	else if (strcmp(what, "Items") == 0 && json_is_array(v))
		x = (double)json_array_size(v);
	else if (strcmp(what, "Length") == 0 && json_is_string(v))
		x = (double)json_string_length(v);
	else
		return;
	if (low ? !(x >= limit) : !(x <= limit))
		violate(c, "%s is %g, got %.17g", key, limit, x);
}

static void enter(struct check *c, const char *name, const json_t *schema, const json_t *value)
{
	size_t n = strlen(c->where);

	snprintf(c->where + n, sizeof(c->where) - n, "/%s", name);
	walk(c, schema, value);
	c->where[n] = '\0';
}

static void check_object(struct check *c, const json_t *schema, json_t *value)
{
	const json_t *properties = json_object_get(schema, "properties"), *v, *r;
	const json_t *other = json_object_get(schema, "additionalProperties");
	const char *key;
	size_t i;

	json_array_foreach(json_object_get(schema, "required"), i, r)
		if (!json_object_get(value, json_string_value(r)))
			violate(c, "lacks \"%s\"", json_string_value(r));
	json_object_foreach(value, key, v) {
		const json_t *s = json_object_get(properties, key);

		if (s)
			enter(c, key, s, v);
		else if (json_is_false(other))
			violate(c, "has \"%s\", which is not known", key);
		else if (json_is_object(other))
			enter(c, key, other, v);
	}
}

static void check_items(struct check *c, const json_t *items, const json_t *value)
{
	const json_t *v;
	char index[24];
	size_t i;

	json_array_foreach(value, i, v) {
		snprintf(index, sizeof(index), "%zu", i);
		enter(c, index, items, v);
	}
}

static void check_enum(struct check *c, const json_t *values, const json_t *value)
{
	char *text = json_dumps(values, JSON_COMPACT);
	const json_t *v;
	size_t i;
	bool found = false;

	json_array_foreach(values, i, v)
		found = found || json_equal(v, value);
	if (!found)
		violate(c, "is none of %s", text);
	free(text);
}

static void check_any_of(struct check *c, const json_t *schemas, const json_t *value)
{
	const json_t *s;
	size_t i;

	json_array_foreach(schemas, i, s)
		if (quietly(c, s, value) == 0)
			return;
	violate(c, "fits none of the %zu allowed forms", json_array_size(schemas));
}

static void follow(struct check *c, const char *ref, const json_t *value)
{
	static const char prefix[] = "#/definitions/";
	const json_t *s = NULL;

	if (strncmp(ref, prefix, sizeof(prefix) - 1) == 0)
		s = json_object_get(json_object_get(c->root, "definitions"),
				    ref + sizeof(prefix) - 1);
	if (s)
		walk(c, s, value);
	else
		violate(c, "the schema's %s leads nowhere", ref);
}

static void check_condition(struct check *c, const json_t *schema, const json_t *value)
{
	bool holds = quietly(c, json_object_get(schema, "if"), value) == 0;
	const json_t *s = json_object_get(schema, holds ? "then" : "else");

	if (s)
		walk(c, s, value);
}

static bool one_of(const char *key, const char *const *names)
{
	for (; *names; names++)
		if (strcmp(key, *names) == 0)
			return true;
	return false;
}

static void check_keyword(struct check *c, const json_t *schema, const char *key, const json_t *k,
			  const json_t *value)
{
	static const char *const passed_over[] = {
		"$schema", "$id",      "title",      "description",          "definitions", "then",
		"else",    "required", "properties", "additionalProperties", NULL};
	static const char *const bounds[] = {"minimum", "maximum", "minItems", "maxItems",
		"minLength", "maxLength", NULL};
	const json_t *s;
	size_t i;

	if (strcmp(key, "$ref") == 0)
		follow(c, json_string_value(k), value);
	else if (strcmp(key, "type") == 0)
		check_type(c, k, value);
	else if (strcmp(key, "enum") == 0)
		check_enum(c, k, value);
	else if (strcmp(key, "anyOf") == 0)
		check_any_of(c, k, value);
	else if (strcmp(key, "if") == 0)
		check_condition(c, schema, value);
	else if (one_of(key, bounds))
		check_bounds(c, key, json_number_value(k), value);
	else if (strcmp(key, "allOf") == 0)
		json_array_foreach(k, i, s)
			walk(c, s, value);
	else if (strcmp(key, "const") == 0 && !json_equal(k, value))
		violate(c, "is not the constant that the schema names");
	else if (strcmp(key, "pattern") == 0 && json_is_string(value))
		check_pattern(c, json_string_value(k), json_string_value(value));
	else if (strcmp(key, "items") == 0 && json_is_array(value))
		check_items(c, k, value);
	else if (!one_of(key, passed_over) && strcmp(key, "const") != 0 &&
		 strcmp(key, "pattern") != 0 && strcmp(key, "items") != 0)
		violate(c, "the schema uses \"%s\", which this validator lacks", key);
}

static void walk(struct check *c, const json_t *schema, const json_t *value)
{
	const char *key;
	json_t *k;

	if (++c->depth > DEPTH_MAX) {
		violate(c, "is nested deeper than %d", DEPTH_MAX);
	} else {
		json_object_foreach((json_t *)schema, key, k)
			check_keyword(c, schema, key, k, value);
		if (json_is_object(value))
			check_object(c, schema, (json_t *)value);
	}
	c->depth--;
}

int schema_check(const json_t *schema, const json_t *value, schema_report_fn *report, void *ctx)
{
	struct check c = {.root = schema, .report = report, .ctx = ctx};

	walk(&c, schema, value);
	return c.violations;
}
