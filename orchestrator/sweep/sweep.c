#include "sweep_internal.h"

#include "explain_command.h"
#include "facts.h"
#include "local.h"
#include "output.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the local check ---------------------------------------------------------------------- */

static bool wants_local(const struct exchange *x)
{
	const struct exchange_side *a = &x->sides[0], *b = &x->sides[1];

	if (x->n_sides != 2 || !a->finished || !b->finished || x->exit_code > EXIT_DIVERGED ||
	    x->setup->local == EXCHANGE_LOCAL_NEVER)
		return false;
	if (x->setup->local == EXCHANGE_LOCAL_ALWAYS)
		return true;
	return x->verdict != VERDICT_IDENTICAL && a->n_positions <= LOCAL_POSITIONS_MAX &&
	       x->comparison.n_nonfinite_ours + x->comparison.n_nonfinite_ref == 0 &&
	       strcmp(a->engine, "oracle") != 0 && strcmp(b->engine, "oracle") != 0 &&
	       exchange_says(a->hello, "trace") && exchange_says(b->hello, "trace") &&
	       exchange_says(a->hello, "replay");
}

/* The side that cannot replay is judged by the one that can. */
static void check_local(struct local_result *out, const struct planned *p, struct exchange *x)
{
	char sha[POOL_SIDES][DIGEST_HEX] = {"", ""};
	struct exchange_setup setup = *x->setup;
	bool swapped = !exchange_says(x->sides[0].hello, "replay") &&
		       exchange_says(x->sides[1].hello, "replay");
	const struct exchange_side *ours = &x->sides[swapped], *ref = &x->sides[!swapped];
	struct local_job j = {.setup = &setup,
			      .ours = ours->engine,
			      .reference = ref->engine,
			      .swapped = swapped,
			      .both_references = p->references,
			      .ids = ref->ids,
			      .n_ids = ref->n_ids,
			      .greedy = {ours->greedy, ref->greedy},
			      .n_greedy = {ours->n_greedy, ref->n_greedy}};
	struct err e = ERR_NONE;
	char end_to_end[ERR_MSG_MAX];

	for (int i = 0; i < POOL_SIDES && !x->setup->only_last; i++) {
		uint8_t bytes[DIGEST_BYTES];

		hasher_final(x->hasher, swapped ? !i : i, bytes);
		digest_hex(bytes, sha[i]);
		j.logits_sha256[i] = sha[i];
	}
	setup.silence_s = x->scenario->timeout_s;
	if (!setup.profile && *x->profile)
		setup.profile = x->profile;
	if (local_run(out, &j, &e) < 0) {
		out->ran = false;
		snprintf(out->reason, sizeof(out->reason), "%.500s", e.msg);
	}
	/* no proof makes a number of what is none */
	if (x->comparison.n_nonfinite_ours + x->comparison.n_nonfinite_ref)
		out->equivalent = false;
	/* what crashed or could not be compared stays that, whatever its operations gave */
	if (!out->equivalent || x->verdict <= VERDICT_IDENTICAL || x->verdict > VERDICT_DIVERGED)
		return;
	memcpy(end_to_end, x->explanation, sizeof(end_to_end));
	x->verdict = VERDICT_EQUIVALENT;
	x->exit_code = EXIT_AGREE;
	snprintf(x->explanation, sizeof(x->explanation), "%s; end to end: %.900s", out->reason,
		 end_to_end);
}

static void finish(struct sweep *w, struct planned *p, struct exchange *x)
{
	int64_t start_us = facts_now_us();
	struct err e = ERR_NONE;
	struct local_result local = {.tried = false};
	struct receipt r;
	char *json, *explain;
	int rc = 0;

	if (wants_local(x))
		check_local(&local, p, x);
	p->over_us += facts_now_us() - start_us;
	if (w->o->strict && x->verdict == VERDICT_DRIFT)
		x->exit_code = EXIT_DIVERGED;
	sweep_fill_receipt(&r, w, p, x);
	if (local.tried)
		r.local = &local;
	r.explain = explain = explain_command(x);
	json = receipt_json(&r);
	if (w->o->out)
		rc = sweep_write_results(w, &r, json, &e);
	else
		rc = summary_add(w->summary, json, strlen(json), "receipt", &e);
	free(json);
	if (rc < 0 && !w->failed.code)
		w->failed = e;
	p->done = rc == 0;
	w->n_done++;
	if (w->o->on_receipt)
		w->o->on_receipt(w->o->ctx, x, &r);
	free(explain);
	local_free(&local);
}

/* A group's receipts are written when all of it is over: a check of operations runs engines of
 * its own, and the group's workers must not be late because of it. */
static void on_over(struct exchange *x, struct lane *l)
{
	struct sweep *w = x->ctx;
	int at = w->next - 1, first;

	while (w->plan[at].running != x)	/* started last: it is near the end */
		at--;
	w->plan[at].over = true;
	w->plan[at].over_us = facts_now_us();
	for (first = at; first > 0 && w->plan[first - 1].group == w->plan[at].group;)
		first--;
	for (int i = first; i < w->n && w->plan[i].group == w->plan[at].group; i++)
		if (w->plan[i].running && !w->plan[i].over) {
			lane_finish(l);
			return;
		}
	for (int i = first; i < w->n && w->plan[i].group == w->plan[at].group; i++) {
		struct planned *p = &w->plan[i];

		if (!p->running)
			continue;
		finish(w, p, p->running);
		w->retired[w->n_retired++] = p->running;
		p->running = NULL;
	}
	lane_finish(l);
}

/* ---- the pool's side ---------------------------------------------------------------------- */

static void free_retired(struct sweep *w)
{
	while (w->n_retired) {
		exchange_free(w->retired[--w->n_retired]);
		free(w->retired[w->n_retired]);
	}
}

/* native's, where nobody asked for one: the first that is known among the scenario's engines. */
static void group_profile(const struct sweep *w, int group, char *out, size_t size)
{
	out[0] = '\0';
	for (int i = 0; i < w->n && !*out; i++)
		for (int k = POOL_SIDES - 1; k >= 0 && w->plan[i].group == group && !*out; k--)
			if (w->plan[i].engine[k])
				engine_profile(w->plan[i].engine[k], out, size);
}

static void start_pair(struct sweep *w, struct planned *p, struct pool_group *out)
{
	struct exchange *x = calloc(1, sizeof(*x));

	assert(x);
	exchange_init(x, &w->o->setup, p->scenario, p->engine);
	group_profile(w, p->group, x->profile, sizeof(x->profile));
	x->sides[0].is_reference = p->references;
	x->over = on_over;
	x->ctx = w;
	p->running = x;
	p->start_us = facts_now_us();
	facts_time(p->started);
	out->pair[out->n_pairs].job = x;
	for (int k = 0; k < POOL_SIDES; k++) {
		out->pair[out->n_pairs].seat[k] = p->seat[k];
		if (p->seat[k] >= 0)
			out->engine[p->seat[k]] = p->engine[k];
	}
	out->n_pairs++;
}

static bool on_next(void *ctx, struct pool_group *out)
{
	struct sweep *w = ctx;
	int group, engines = 0;

	free_retired(w);	/* none of them is on the stack: this is a new turn of the loop */
	while (w->next < w->n && w->plan[w->next].done)
		w->next++;
	if (w->next == w->n || w->failed.code)
		return false;
	group = w->plan[w->next].group;
	for (; w->next < w->n && w->plan[w->next].group == group; w->next++)
		if (!w->plan[w->next].done)
			start_pair(w, &w->plan[w->next], out);
	for (int i = 0; i < POOL_SEATS_MAX; i++)
		engines += out->engine[i] != NULL;
	/* a scenario's time is for two engines at once */
	out->timeout_ms = w->plan[w->next - 1].scenario->timeout_s * 1000 * ((engines + 1) / 2);
	return true;
}

static void on_tick(void *ctx)
{
	const struct sweep *w = ctx;
	char line[512];
	int n;

	if (!w->o->on_progress)
		return;
	n = snprintf(line, sizeof(line), "%d/%d", w->n_done, w->n);
	for (int i = 0; i < w->next && n > 0 && (size_t)n < sizeof(line); i++) {
		const struct exchange *x = w->plan[i].running;

		if (!x)
			continue;
		n += snprintf(line + n, sizeof(line) - (size_t)n, "  %s", w->plan[i].id);
		for (int k = 0; k < x->n_sides && (size_t)n < sizeof(line); k++)
			n += snprintf(line + n, sizeof(line) - (size_t)n, " %.20s %d/%d",
				      x->sides[k].engine, x->sides[k].n_positions,
				      x->sides[k].n_ids + x->scenario->max_new_tokens);
	}
	w->o->on_progress(w->o->ctx, line);
}

/* ---- the run ------------------------------------------------------------------------------ */

static void put_identity(char *out, size_t size, const struct sweep *w)
{
	const struct exchange_setup *u = &w->o->setup;
	struct digest d;
	uint8_t sha[DIGEST_BYTES];
	char hex[DIGEST_HEX], options[512];

	digest_init(&d);
	for (int i = 0; i < w->n; i++) {
		digest_update(&d, w->plan[i].id, strlen(w->plan[i].id) + 1);
		for (int k = 0; k < POOL_SIDES; k++)
			if (w->plan[i].engine[k])
				digest_update(&d, w->plan[i].engine[k],
					      strlen(w->plan[i].engine[k]) + 1);
	}
	snprintf(options, sizeof(options), "%s|%s|%s|%d|%d|%d|%s|%.17g", u->template_name,
		 u->profile ? u->profile : "", u->kv ? u->kv : "", u->ctx, u->ubatch, u->batch,
		 u->thresholds_set, u->cos_tol);
	digest_update(&d, options, strlen(options));
	for (int i = 0; i < u->n_overrides; i++)
		digest_update(&d, u->overrides[i], strlen(u->overrides[i]) + 1);
	digest_final(&d, sha);
	digest_hex(sha, hex);
	snprintf(out, size, "%s model %s %s plan %s", w->o->build, w->run.model_sha256,
		 w->run.model_ref_sha256, hex);
}

static int make_folder(const char *path, struct err *e)
{
	char part[PATH_MAX];

	for (const char *p = path; *p; p++) {
		if (p != path && *p == '/') {
			snprintf(part, sizeof(part), "%.*s", (int)(p - path), path);
			mkdir(part, 0777);
		}
	}
	if (mkdir(path, 0777) < 0 && errno != EEXIST)
		return output_failed(e, "--out", path);
	return 0;
}

static int read_text(const char *path, char **text, size_t *bytes)
{
	FILE *f = fopen(path, "rbe");
	long n;

	if (!f)
		return -1;
	fseek(f, 0, SEEK_END);
	n = ftell(f);
	rewind(f);
	*text = malloc((size_t)(n > 0 ? n : 0) + 1);
	assert(*text);
	*bytes = fread(*text, 1, (size_t)(n > 0 ? n : 0), f);
	fclose(f);
	return 0;
}

static bool receipt_stands(const struct sweep *w, const char *id)
{
	char path[PATH_MAX], *text;
	size_t bytes;
	bool stands;

	snprintf(path, sizeof(path), "%.3000s/%s/receipt.json", w->o->out, id);
	if (read_text(path, &text, &bytes) < 0)
		return false;
	stands = receipt_check(text, bytes, path, NULL) == 0;
	free(text);
	return stands;
}

static int begin_output(struct sweep *w, struct err *e)
{
	char identity[JOURNAL_IDENTITY_MAX];
	int r;

	put_identity(identity, sizeof(identity), w);
	r = journal_open(&w->journal, w->o->out, identity, w->o->resume, e);
	for (int i = 0; r == 0 && i < w->n; i++) {
		w->plan[i].done = journal_has(&w->journal, w->plan[i].id) &&
				  receipt_stands(w, w->plan[i].id);
		w->n_done += w->plan[i].done;
	}
	return r;
}

static int summarise(struct sweep *w, struct err *e)
{
	for (int i = 0; i < w->n; i++) {
		char path[PATH_MAX], *text;
		size_t bytes;
		int r;

		if (!w->plan[i].done)
			continue;
		snprintf(path, sizeof(path), "%.3000s/%s/receipt.json", w->o->out, w->plan[i].id);
		if (read_text(path, &text, &bytes) < 0)
			return err_set(e, EXIT_INTERNAL, "%s has gone", path);
		r = summary_add(w->summary, text, bytes, path, e);
		free(text);
		if (r < 0)
			return r;
	}
	return 0;
}

static int write_summary(struct sweep *w, struct err *e)
{
	char path[PATH_MAX], *text;
	int r;

	text = summary_json(w->summary);
	snprintf(path, sizeof(path), "%.4000s/summary.json", w->o->out);
	r = facts_write(path, text, e);
	free(text);
	if (r < 0)
		return r;
	text = summary_markdown(w->summary);
	snprintf(path, sizeof(path), "%.4000s/summary.md", w->o->out);
	r = facts_write(path, text, e);
	free(text);
	return r;
}

static int64_t own_peak_rss(void)
{
	struct rusage u;

	return getrusage(RUSAGE_SELF, &u) == 0 ? (int64_t)u.ru_maxrss * 1024 : 0;
}

/* What changes an evaluation beyond model and scenario: bound into every receipt. */
static char *asked_lines(const struct exchange_setup *u)
{
	char *text = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);

	assert(f);
	if (u->kv)
		fprintf(f, "kv=%s\n", u->kv);
	if (u->profile)
		fprintf(f, "profile=%s\n", u->profile);
	if (u->isa)
		fprintf(f, "isa=%s\n", u->isa);
	if (u->ctx)
		fprintf(f, "ctx=%d\n", u->ctx);
	if (u->ubatch)
		fprintf(f, "ubatch=%d\n", u->ubatch);
	if (u->batch)
		fprintf(f, "batch=%d\n", u->batch);
	if (u->reproduce_defects)
		fprintf(f, "reproduce_defects=1\n");
	for (int i = 0; i < u->n_overrides; i++)
		fprintf(f, "override=%s\n", u->overrides[i]);
	fclose(f);
	return text;
}

static int prepare(struct sweep *w, struct err *e)
{
	const struct sweep_options *o = w->o;
	char stamp[PATH_MAX];
	int r = sweep_plan(w, e);

	if (r == 0)
		r = sweep_check_engines(w, e);
	if (r == 0 && o->out)
		r = make_folder(o->out, e);
	if (r < 0)
		return r;
	w->retired = calloc((size_t)w->n + 1, sizeof(struct exchange *));
	assert(w->retired);
	w->run = (struct receipt_run){
		.version = o->version,
		.build = o->build,
		.model_path = o->setup.model,
		.model_ref_path = o->setup.model_ref,
		.tokenizer_path = o->setup.tokenizer,
		.threads = o->setup.threads,
	};
	w->asked = asked_lines(&o->setup);
	w->run.asked = w->asked;
	snprintf(stamp, sizeof(stamp), "%.4000s/model.stamp", o->out ? o->out : "");
	r = facts_fill(&w->run, o->out ? stamp : NULL, e);
	if (r == 0 && o->out)
		r = begin_output(w, e);
	return r;
}

static int run_pool(struct sweep *w, struct err *e)
{
	static const struct pool_ops ops = {
		.next = on_next,
		.begin = exchange_begin,
		.frame = exchange_frame,
		.trouble = exchange_trouble,
		.late = exchange_late,
		.tick = on_tick,
	};
	int left = w->n - w->n_done > w->n_groups ? w->n_groups : w->n - w->n_done;
	int n_crews = w->o->n_workers < left ? w->o->n_workers : left;
	int r = n_crews > 0 ? pool_run(n_crews, &ops, w, e) : 0;

	free_retired(w);
	for (int i = 0; i < w->n; i++)
		if (w->plan[i].running) {	/* given up by a signal */
			exchange_free(w->plan[i].running);
			free(w->plan[i].running);
		}
	if (r == 0 && w->failed.code) {
		*e = w->failed;
		r = -e->code;
	}
	return r;
}

int sweep_run(const struct sweep_options *o, struct summary *s, struct err *e)
{
	struct sweep w = {.o = o, .summary = s, .journal = {.fd = -1}};
	struct err late = ERR_NONE;
	int r = prepare(&w, e);

	if (r == 0) {
		r = run_pool(&w, e);
		s->interrupted = r == -EXIT_INTERRUPTED;
		s->n_planned = w.n;
		s->peak_rss = own_peak_rss();
		facts_time(s->generated);
	}
	if (o->out && (r == 0 || s->interrupted)) {
		int r2 = summarise(&w, &late);

		if (r2 == 0)
			r2 = write_summary(&w, &late);
		if (r2 < 0 && r == 0) {
			*e = late;
			r = r2;
		}
	}
	if (s->interrupted)
		err_set(e, EXIT_INTERRUPTED, "interrupted after %d of %d comparisons%s", w.n_done,
			w.n, o->out ? "; the same command with --resume does the rest" : "");
	journal_close(&w.journal);
	free(w.plan);
	free(w.retired);
	free(w.asked);
	return r;
}
