#include "model_events.h"

#include "cli/term.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PLAIN_MS = 5000, EVENT_MS = 1000 };

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void model_events_init(struct model_events *m)
{
	memset(m, 0, sizeof(*m));
}

static struct model_line *line_of(struct model_events *m, const char *id)
{
	struct model_line *free_line = NULL;

	for (int i = 0; i < MODEL_EVENTS_LINES; i++) {
		if (m->lines[i].live && strcmp(m->lines[i].id, id) == 0)
			return &m->lines[i];
		if (!m->lines[i].live)
			free_line = &m->lines[i];
	}
	if (!free_line)
		free_line = &m->lines[0];
	*free_line = (struct model_line){.live = true, .said_ms = now_ms()};
	snprintf(free_line->id, sizeof(free_line->id), "%s", id);
	return free_line;
}

static void progress_text(const struct fetch_event *ev, char *out, size_t bytes)
{
	char left[40] = "", total[40] = "";

	if (ev->eta_s >= 0 && ev->eta_s < 360000)
		snprintf(left, sizeof(left), ", %d:%02d left", (int)ev->eta_s / 60,
			 (int)ev->eta_s % 60);
	if (ev->total > 0)
		snprintf(total, sizeof(total), " of %.1f MB (%.0f %%)", (double)ev->total / 1e6,
			 100.0 * (double)ev->held / (double)ev->total);
	snprintf(out, bytes, "%s: %.1f%s, %.1f MB/s%s", ev->id, (double)ev->held / 1e6,
		 *total ? total : " MB", ev->rate / 1e6, left);
}

static void put_event(const struct fetch_event *ev)
{
	static const char *const names[] = {"fetch.waiting", "fetch.started", "fetch.progress",
					    "fetch.trouble", "fetch.done",    "fetch.failed"};
	json_t *o = json_pack("{ss ss sI sI}", "event", names[ev->kind], "id", ev->id, "bytes",
			      (json_int_t)ev->held, "total", (json_int_t)ev->total);
	char *text;

	if (ev->kind == FETCH_PROGRESS)
		json_object_set_new(o, "bytes_per_s", json_integer((json_int_t)ev->rate));
	if (ev->kind == FETCH_PROGRESS && ev->eta_s >= 0)
		json_object_set_new(o, "eta_s", json_integer((json_int_t)ev->eta_s));
	if (ev->text && *ev->text)
		json_object_set_new(o, "message", json_string(ev->text));
	if (ev->result)
		json_object_set_new(o, "exit_code", json_integer(ev->result->code));
	if (ev->result && !ev->result->code)
		json_object_set_new(o, "path", json_string(ev->result->path));
	text = json_dumps(o, JSON_COMPACT);
	if (text)
		term_event(text);
	free(text);
	json_decref(o);
}

/* On a terminal all transfers share the live line; elsewhere each has its own line now and then. */
static void show_progress(struct model_events *m, struct model_line *l,
			  const struct fetch_event *ev)
{
	char all[MODEL_EVENTS_LINES * 170] = "";

	progress_text(ev, l->text, sizeof(l->text));
	if (!term_is_tty()) {
		if (now_ms() - l->said_ms < PLAIN_MS)
			return;
		l->said_ms = now_ms();
		term_note("%s", l->text);
		return;
	}
	for (int i = 0; i < MODEL_EVENTS_LINES; i++)
		if (m->lines[i].live && *m->lines[i].text)
			snprintf(all + strlen(all), sizeof(all) - strlen(all), "%s%s",
				 *all ? " | " : "", m->lines[i].text);
	term_progress("%s", all);
}

static void show_end(const struct model_events *m, struct model_line *l,
		     const struct fetch_event *ev)
{
	const struct fetch_result *r = ev->result;

	l->live = false;
	if (ev->kind == FETCH_FAILED && !m->single) /* of a single file the command tells */
		term_note("failed: %s", r->err.msg);
	else if (ev->kind == FETCH_FAILED)
		term_clear();
	else if (r->transferred || r->resumed)
		term_note("%s: %.1f MB in %.1f s, verified%s", ev->id, (double)r->size / 1e6,
			  r->seconds, r->resumed ? " (resumed)" : "");
	else
		term_note("%s: another process has fetched it", ev->id);
}

void model_events_show(void *ctx, const struct fetch_event *ev)
{
	struct model_events *m = ctx;
	struct model_line *l = line_of(m, ev->id);

	if (term_events()) {
		if (ev->kind == FETCH_PROGRESS && now_ms() - l->said_ms < EVENT_MS)
			return;
		l->said_ms = now_ms();
		put_event(ev);
		l->live = !ev->result;
		return;
	}
	switch (ev->kind) {
	case FETCH_WAITING:
		term_note("%s: waiting: %s", ev->id, ev->text);
		break;
	case FETCH_STARTED:
		if (ev->held > 0)
			term_note("%s: going on with %.1f of %.1f MB", ev->id,
				  (double)ev->held / 1e6, (double)ev->total / 1e6);
		break;
	case FETCH_PROGRESS:
		show_progress(m, l, ev);
		break;
	case FETCH_TROUBLE:
		term_note("%s", ev->text);
		break;
	case FETCH_DONE:
	case FETCH_FAILED:
		show_end(m, l, ev);
		break;
	}
}

void model_events_hashes(struct model_events *m, const char *id, int64_t total)
{
	snprintf(m->hashed.id, sizeof(m->hashed.id), "%s", id);
	m->hashed.total = total;
	m->hashed.said_ms = now_ms();
}

static void put_hashing(const struct model_events *m, uint64_t bytes)
{
	json_t *o = json_pack("{ss ss sI sI}", "event", "hash.progress", "id", m->hashed.id, "bytes",
			      (json_int_t)bytes, "total", (json_int_t)m->hashed.total);
	char *text = json_dumps(o, JSON_COMPACT);

	if (text)
		term_event(text);
	free(text);
	json_decref(o);
}

int model_events_hashing(void *ctx, uint64_t bytes)
{
	struct model_events *m = ctx;
	uint64_t now = now_ms(), every = term_events() ? EVENT_MS : term_is_tty() ? 0 : PLAIN_MS;
	char total[40] = "";

	if (now - m->hashed.said_ms < every)
		return 0;
	m->hashed.said_ms = now;
	if (term_events()) {
		put_hashing(m, bytes);
		return 0;
	}
	if (m->hashed.total > 0)
		snprintf(total, sizeof(total), " of %.0f", (double)m->hashed.total / 1e6);
	term_progress("%s: hashing, %.0f%s MB", m->hashed.id, (double)bytes / 1e6, total);
	return 0;
}
