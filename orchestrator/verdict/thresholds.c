#include "thresholds.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UNLIMITED {NAN, NAN, NAN, NAN, NAN, NAN, false}

static const struct limits unlimited = UNLIMITED;
const struct thresholds thresholds_none = {.limit = UNLIMITED, .noise = UNLIMITED};

static bool is_quantised(const char *weights)
{
	static const char *const floats[] = {"f32", "f16", "bf16"};

	if (!*weights)
		return true;
	for (const char *p = weights; *p;) {
		size_t n = strcspn(p, " "), type = strcspn(p, ": ");
		bool found = false;

		for (int i = 0; i < 3; i++)
			found |= strlen(floats[i]) == type && strncmp(p, floats[i], type) == 0;
		if (!found)
			return true;
		p += n + (p[n] == ' ');
	}
	return false;
}

void thresholds_main_type(const char *weights, char *out, size_t size)
{
	long most = -1;

	out[0] = '\0';
	for (const char *p = weights; *p;) {
		size_t n = strcspn(p, " "), type = strcspn(p, ": ");
		bool f32 = type == 3 && strncmp(p, "f32", 3) == 0;
		long count = f32 || p[type] != ':' ? 0 : strtol(p + type + 1, NULL, 10);

		if (count > most && type < size) {
			snprintf(out, size, "%.*s", (int)type, p);
			most = count;
		}
		p += n + (p[n] == ' ');
	}
}

static int refuse(struct err *e, const char *path, const char *set, const char *what)
{
	return err_set(e, EXIT_USAGE, "%s: thresholds \"%s\": %s", path, set, what);
}

static int read_limits(struct limits *l, json_t *o, const char *path, const char *set,
		       struct err *e)
{
	struct {
		const char *key;
		double *to;
	} numbers[] = {
		{"min_cosine", &l->min_cosine}, {"max_nmse", &l->max_nmse},
		{"max_abs_diff", &l->max_abs},	{"max_kl", &l->max_kl},
		{"min_top1", &l->min_top1},	{"min_top5", &l->min_top5},
	};
	const char *key;
	json_t *v;

	*l = unlimited;
	if (!json_is_object(o) || json_object_size(o) == 0)
		return refuse(e, path, set, "limits are an object with at least one of them");
	json_object_foreach(o, key, v) {
		bool known = false;

		if (strcmp(key, "bits") == 0 && json_is_boolean(v)) {
			l->bits = json_is_true(v);
			continue;
		}
		for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
			if (strcmp(key, numbers[i].key) == 0 && json_is_number(v)) {
				*numbers[i].to = json_number_value(v);
				known = true;
			}
		if (!known) {
			char what[200];

			snprintf(what, sizeof(what), "\"%.100s\" is no limit, or not of its type",
				 key);
			return refuse(e, path, set, what);
		}
	}
	return 0;
}

static int read_rule(struct thresholds *t, json_t *rule, const char *path, struct err *e)
{
	const char *weights = json_string_value(json_object_get(rule, "weights"));
	json_t *noise = json_object_get(rule, "noise"), *limit = json_object_get(rule, "limit");
	json_t *arch = json_object_get(rule, "arch"), *origin = json_object_get(rule, "origin");
	size_t known = 1 + (noise != NULL) + (limit != NULL) + (arch != NULL) + (origin != NULL);
	int r;

	if (!weights || !limit || json_object_size(rule) != known ||
	    (arch && !json_is_string(arch)) || (origin && !json_is_string(origin)))
		return refuse(e, path, t->set,
			      "a rule has weights, limit and perhaps noise, arch and origin");
	if (origin)
		snprintf(t->origin, sizeof(t->origin), "%s", json_string_value(origin));
	snprintf(t->weights, sizeof(t->weights), "%s", weights);
	r = read_limits(&t->limit, limit, path, t->set, e);
	if (r < 0)
		return r;
	t->noise = t->limit;
	return noise ? read_limits(&t->noise, noise, path, t->set, e) : 0;
}

static int unknown_set(struct err *e, const char *path, json_t *sets, const char *set)
{
	char names[512] = "";
	size_t n = 0;
	const char *key;
	json_t *v;

	json_object_foreach(sets, key, v) {
		if (n < sizeof(names))
			n += (size_t)snprintf(names + n, sizeof(names) - n, "%s%s", n ? ", " : "",
					      key);
	}
	return err_set(e, EXIT_USAGE, "%s has no thresholds \"%s\"; it has %s", path, set, names);
}

static bool rule_fits(const json_t *rule, const char *weights, const char *arch)
{
	const char *fits = json_string_value(json_object_get(rule, "weights"));
	const char *of = json_string_value(json_object_get(rule, "arch"));
	char type[32];

	if (!fits)
		return true;	/* reading it says what is missing */
	if (of && strcmp(of, arch) != 0)
		return false;
	thresholds_main_type(weights, type, sizeof(type));
	return strcmp(fits, "any") == 0 || strcmp(fits, type) == 0 ||
	       strcmp(fits, is_quantised(weights) ? "quantised" : "float") == 0;
}

static int find_rule(struct thresholds *t, json_t *root, const char *path, const char *set,
		     const char *weights, const char *arch, struct err *e)
{
	json_t *sets = json_object_get(root, "sets"), *one, *rule;
	const char *version = json_string_value(json_object_get(root, "schema_version"));
	const char *origin;
	char what[200];
	size_t i;

	if (!version || strcmp(version, "1.0.0") != 0 || !json_is_object(sets))
		return err_set(e, EXIT_USAGE,
			       "%s: expected schema_version 1.0.0 and an object \"sets\"", path);
	one = json_object_get(sets, set);
	if (!one)
		return unknown_set(e, path, sets, set);
	origin = json_string_value(json_object_get(one, "origin"));
	snprintf(t->set, sizeof(t->set), "%s", set);
	snprintf(t->origin, sizeof(t->origin), "%s", origin ? origin : path);
	if (!weights)
		return 0;
	json_array_foreach(json_object_get(one, "rules"), i, rule) {
		if (rule_fits(rule, weights, arch))
			return read_rule(t, rule, path, e);
	}
	snprintf(what, sizeof(what), "no rule fits weights \"%.100s\" of architecture \"%.40s\"",
		 weights, arch);
	return refuse(e, path, set, what);
}

int thresholds_load(struct thresholds *t, const char *text, size_t bytes, const char *path,
		    const char *set, const char *weights, const char *arch, struct err *e)
{
	struct thresholds found = {.set = ""};
	json_error_t why;
	json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &why);
	int r;

	if (!root)
		return err_set(e, EXIT_USAGE, "%s:%d: %s", path, why.line, why.text);
	r = find_rule(&found, root, path, set, weights, arch, e);
	json_decref(root);
	if (r == 0)
		*t = found;
	return r;
}

/* "P" and "P~compact": the same numbers but for the stated error of a recording. */
static bool same_but_compact(const char *a, const char *b)
{
	size_t n = strcspn(a, "~");

	return n > 0 && n == strcspn(b, "~") && strncmp(a, b, n) == 0 &&
	       (strcmp(a + n, "~compact") == 0 || strcmp(b + n, "~compact") == 0);
}

const char *thresholds_choose(const char *set, const char *profile_a, const char *profile_b)
{
	if (strcmp(set, "auto") != 0)
		return set;
	if (*profile_a && strcmp(profile_a, profile_b) == 0)
		return same_but_compact(profile_a, profile_b) ? "compact" : "bits";
	if (same_but_compact(profile_a, profile_b))
		return "compact";
	if (strcmp(profile_a, "float64") == 0 || strcmp(profile_b, "float64") == 0)
		return "oracle";
	return "default";
}

void thresholds_cosine(struct thresholds *t, double min_cosine)
{
	*t = (struct thresholds){.set = "cos-tol", .origin = "--cos-tol", .weights = "any"};
	t->limit = unlimited;
	t->limit.min_cosine = min_cosine;
	t->noise = t->limit;
}

bool limits_hold(const struct limits *l, const struct metrics *m)
{
	if (m->n_nonfinite_ours || m->n_nonfinite_ref)
		return false;
	if (l->bits && !m->bits_equal)
		return false;
	if (!isnan(l->min_cosine) && !(m->cosine >= l->min_cosine))
		return false;
	if (!isnan(l->max_nmse) && !(m->nmse <= l->max_nmse))
		return false;
	if (!isnan(l->max_abs) && !(m->max_abs <= l->max_abs))
		return false;
	return isnan(l->max_kl) || m->kl <= l->max_kl;
}
