#include "sweep_internal.h"

#include "engines.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of a long name the end: there commands and paths differ. */
static void slug(char *out, size_t size, const char *engine)
{
	size_t n = 0, bytes = strlen(engine);

	for (const char *p = bytes > 40 ? engine + bytes - 40 : engine; *p && n + 1 < size; p++)
		out[n++] = isalnum((unsigned char)*p) || strchr("._-", *p) ? *p : '_';
	out[n] = '\0';
}

static void plan_one(struct sweep *w, const struct scenario *s, const char *ours, const char *ref,
		     bool several)
{
	struct planned *p = &w->plan[w->n++];
	char name[64];

	p->scenario = s;
	p->group = w->n_groups;
	p->engine[0] = ours;
	p->engine[1] = ref;
	p->seat[1] = ref ? 1 : -1;
	slug(name, sizeof(name), ref ? ref : "");
	snprintf(p->id, sizeof(p->id), several ? "%s.%s" : "%s", s->id, name);
}

/* The engine under test against each reference, then the references among themselves. */
static void plan_scenario(struct sweep *w, const struct scenario *s, const char *ours,
			  const char *const *refs, int n)
{
	char a[48], b[48];

	for (int k = 0; k < n; k++) {
		plan_one(w, s, ours, refs[k], n > 1);
		w->plan[w->n - 1].seat[1] = k + 1;
	}
	for (int i = 0; i < n; i++)
		for (int k = i + 1; k < n; k++) {
			plan_one(w, s, refs[i], refs[k], true);
			slug(a, sizeof(a), refs[i]);
			slug(b, sizeof(b), refs[k]);
			snprintf(w->plan[w->n - 1].id, SUMMARY_ID_MAX, "%s.%.40s-%.40s", s->id, a,
				 b);
			w->plan[w->n - 1].seat[0] = i + 1;
			w->plan[w->n - 1].seat[1] = k + 1;
			w->plan[w->n - 1].references = true;
		}
}

static int check_ids(const struct sweep *w, struct err *e)
{
	static const char *const ours[] = {"journal.jsonl", "model.stamp", "summary.json",
					   "summary.md"};

	for (int i = 0; i < w->n; i++)
		for (int k = 0; k < 4; k++)
			if (strcmp(w->plan[i].id, ours[k]) == 0)
				return err_set(e, EXIT_USAGE,
					       "a comparison would be called \"%s\", as a file of "
					       "the run is; rename the scenario",
					       ours[k]);
	for (int i = 0; i < w->n; i++)
		for (int k = 0; k < i; k++)
			if (strcmp(w->plan[i].id, w->plan[k].id) == 0)
				return err_set(
				    e, EXIT_USAGE,
				    "two comparisons would both be called \"%s\"; rename one "
				    "scenario or name each reference once",
				    w->plan[i].id);
	return 0;
}

int sweep_plan(struct sweep *w, struct err *e)
{
	const struct sweep_options *o = w->o;

	w->plan = calloc((size_t)o->scenarios->n * SWEEP_COMPARISONS_MAX + 1, sizeof(*w->plan));
	assert(w->plan);
	for (int i = 0; i < o->scenarios->n; i++) {
		const struct scenario *s = &o->scenarios->items[i];

		if (s->n_engines)
			plan_scenario(w, s, s->engines[0], (const char *const *)s->engines + 1,
				      s->n_engines - 1);
		else if (o->n_references)
			plan_scenario(w, s, o->engine, o->references, o->n_references);
		else
			plan_one(w, s, o->engine, NULL, false);
		w->n_groups++;
	}
	return check_ids(w, e);
}

int sweep_check_engines(const struct sweep *w, struct err *e)
{
	struct engine_command command;

	for (int i = 0; i < w->n; i++)
		for (int k = 0; k < POOL_SIDES; k++)
			if (w->plan[i].engine[k]) {
				int r = engine_command(&command, w->plan[i].engine[k], e);

				if (r < 0)
					return r;
			}
	return 0;
}
