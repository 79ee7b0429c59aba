#include "matrix.h"

#include "canonical.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { ENGINES_MAX = 64 };

static const char *engine_of(const struct summary_row *w, int side)
{
	return side ? w->reference : w->ours;
}

static bool same_scenario(const struct summary *s, int i, int k)
{
	return strcmp(s->rows[i].scenario, s->rows[k].scenario) == 0;
}

bool matrix_is_pair(const struct summary *s, int i)
{
	for (int k = 0; k < s->n; k++)
		if (same_scenario(s, i, k) && strcmp(s->rows[k].reference, s->rows[i].ours) == 0 &&
		    strcmp(s->rows[k].ours, s->rows[i].ours) != 0 && *s->rows[i].reference)
			return true;
	return false;
}

bool matrix_wanted(const struct summary *s)
{
	for (int i = 1; i < s->n; i++)
		for (int k = 0; k < i; k++)
			if (*s->rows[i].scenario && same_scenario(s, i, k))
				return true;
	return false;
}

/* Equal engines of one profile with digests of the same evaluation. */
static bool differ(const struct summary_row *a, int i, const struct summary_row *b, int k)
{
	return strcmp(engine_of(a, i), engine_of(b, k)) == 0 &&
	       strcmp(a->profile[i], b->profile[k]) == 0 && a->finished[i] && b->finished[k] &&
	       strcmp(a->logits[i], b->logits[k]) != 0;
}

int matrix_unsteady(const struct summary *s, int *side)
{
	for (int i = 1; i < s->n; i++)
		for (int k = 0; k < i; k++)
			for (int n = 0; n < 4 && same_scenario(s, i, k); n++)
				if (*s->rows[i].scenario &&
				    differ(&s->rows[i], n & 1, &s->rows[k], n >> 1)) {
					*side = n & 1;
					return i;
				}
	return -1;
}

/* Names of all engines, in the order of the rows. Returns how many. */
static int engines(const struct summary *s, const char *names[ENGINES_MAX])
{
	int n = 0;

	for (int i = 0; i < s->n; i++)
		for (int side = 0; side < 2; side++) {
			const char *name = engine_of(&s->rows[i], side);
			int k = 0;

			while (k < n && strcmp(names[k], name) != 0)
				k++;
			if (k == n && *name && n < ENGINES_MAX)
				names[n++] = name;
		}
	return n;
}

static const struct summary_row *find(const struct summary *s, const char *scenario, const char *a,
				      const char *b)
{
	for (int i = 0; i < s->n; i++) {
		const struct summary_row *w = &s->rows[i];

		if (strcmp(w->scenario, scenario) == 0 && strcmp(w->ours, a) == 0 &&
		    strcmp(w->reference, b) == 0)
			return w;
	}
	return NULL;
}

static bool first_of_scenario(const struct summary *s, int i)
{
	for (int k = 0; k < i; k++)
		if (same_scenario(s, i, k))
			return false;
	return true;
}

static json_t *digests(const struct summary *s, int first)
{
	json_t *o = json_object();
	char key[640];

	for (int i = first; i < s->n; i++)
		for (int side = 0; side < 2; side++) {
			const struct summary_row *w = &s->rows[i];

			if (!same_scenario(s, i, first) || !w->finished[side])
				continue;
			snprintf(key, sizeof(key), "%s%s%s", engine_of(w, side),
				 *w->profile[side] ? " as " : "", w->profile[side]);
			if (!json_object_get(o, key))
				canonical_set(o, key, canonical_text(w->logits[side]));
		}
	return o;
}

static json_t *cell(const struct summary *s, int i)
{
	const struct summary_row *w = &s->rows[i];
	json_t *o = json_object();

	canonical_set(o, "a", canonical_text(w->ours));
	canonical_set(o, "b", canonical_text(w->reference));
	canonical_set(o, "verdict", canonical_text(w->verdict));
	canonical_set(o, "exit_code", json_integer(w->exit_code));
	canonical_set(o, "references", json_boolean(matrix_is_pair(s, i)));
	return o;
}

json_t *matrix_json(const struct summary *s)
{
	json_t *list = json_array();

	for (int i = 0; i < s->n; i++) {
		json_t *o, *cells;

		if (!first_of_scenario(s, i))
			continue;
		o = json_object();
		cells = json_array();
		for (int k = i; k < s->n; k++) {
			if (same_scenario(s, i, k))
				json_array_append_new(cells, cell(s, k));
		}
		canonical_set(o, "scenario", canonical_text(s->rows[i].scenario));
		canonical_set(o, "cells", cells);
		canonical_set(o, "logits_sha256", digests(s, i));
		json_array_append_new(list, o);
	}
	return list;
}

static void print_unsteady(FILE *f, const struct summary *s)
{
	int side, at = matrix_unsteady(s, &side);

	if (at >= 0)
		fprintf(f,
			"\n%s differs from itself: the logits it gave in %s are not those of an "
			"earlier "
			"comparison of the same scenario\n",
			engine_of(&s->rows[at], side), s->rows[at].id);
	else
		fprintf(f,
			"\nEvery engine gave the same logits in each comparison of a scenario.\n");
}

/* Engines as rows and columns; a cell is the verdict, "–" where nobody compared. */
static void print_one(FILE *f, const struct summary *s, const char *scenario,
		      const char *const names[], int n, bool markdown)
{
	const char *gap = markdown ? " | " : "  ";

	fprintf(f, markdown ? "\n| %s" : "\n%-24s", scenario);
	for (int k = 1; k < n; k++)
		fprintf(f, markdown ? "%s%s" : "%s%-16.60s", gap, names[k]);
	fprintf(f, markdown ? " |\n|---" : "\n");
	for (int k = 1; k < n && markdown; k++)
		fprintf(f, "|---");
	fprintf(f, markdown ? "|\n" : "");
	for (int i = 0; i + 1 < n; i++) {
		fprintf(f, markdown ? "| %s" : "  %-22.60s", names[i]);
		for (int k = 1; k < n; k++) {
			const struct summary_row *w = find(s, scenario, names[i], names[k]);

			if (w)
				fprintf(f, markdown ? "%s%s" : "%s%-16s", gap, w->verdict);
			else
				fprintf(f, markdown ? "%s–" : "%s–               ", gap);
		}
		fprintf(f, markdown ? " |\n" : "\n");
	}
}

void matrix_print(FILE *f, const struct summary *s, bool markdown)
{
	const char *names[ENGINES_MAX];
	int n = engines(s, names);

	fprintf(f, markdown ? "\n## Who agrees with whom\n" : "\nwho agrees with whom\n");
	for (int i = 0; i < s->n; i++)
		if (first_of_scenario(s, i))
			print_one(f, s, s->rows[i].scenario, names, n, markdown);
	print_unsteady(f, s);
}
