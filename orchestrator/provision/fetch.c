#include "fetch_internal.h"

#include <assert.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILES_AT_ONCE = 4, RATE_WINDOW_MS = 2000, HEARTBEAT_MS = 30000 };

void fetch_defaults(struct fetch_options *o)
{
	*o = (struct fetch_options){
	    .connections = 8,
	    .retries = 6,
	    .stall_ms = 30000,
	    .backoff_ms = 500,
	    .wait_max_ms = 15 * 60 * 1000,
	    .tick_ms = 100,
	    .commit_bytes = 8 << 20,
	    .range_bytes = 8 << 20,
	};
}

int fetch_tune(struct fetch_options *o, const char *text, struct err *e)
{
	while (*text) {
		char name[40];
		long long v;
		int used = 0;

		if (sscanf(text, "%39[a-z_]=%lld%n", name, &v, &used) != 2 || v < 1)
			return err_set(e, EXIT_USAGE,
				       "ASSAY_FETCH_TUNE: expected name=number, got \"%s\"", text);
		if (strcmp(name, "stall_ms") == 0)
			o->stall_ms = (int)v;
		else if (strcmp(name, "backoff_ms") == 0)
			o->backoff_ms = (int)v;
		else if (strcmp(name, "wait_max_ms") == 0)
			o->wait_max_ms = (int)v;
		else if (strcmp(name, "tick_ms") == 0)
			o->tick_ms = (int)v;
		else if (strcmp(name, "commit_bytes") == 0)
			o->commit_bytes = v < 4096 ? 4096 : v;
		else if (strcmp(name, "range_bytes") == 0)
			o->range_bytes = v < 4096 ? 4096 : v;
		else
			return err_set(e, EXIT_USAGE, "ASSAY_FETCH_TUNE: unknown name %s", name);
		text += used;
		text += *text == ',';
	}
	return 0;
}

uint64_t fetch_now(const struct fetch *f)
{
	(void)f;
	return uv_hrtime() / 1000000;
}

/* xorshift64: for jitter only */
uint32_t fetch_random(struct fetch *f)
{
	f->random ^= f->random << 13;
	f->random ^= f->random >> 7;
	f->random ^= f->random << 17;
	return (uint32_t)(f->random >> 16);
}

static bool is_active(const struct job *j)
{
	return j->phase != JOB_QUEUED && j->phase != JOB_OVER;
}

int fetch_share(const struct fetch *f)
{
	int active = 0, share;

	for (int i = 0; i < f->n; i++)
		active += is_active(&f->jobs[i]) && f->jobs[i].phase != JOB_LOCKING;
	share = f->o->connections / (active ? active : 1);
	return share < 1 ? 1 : share > FETCH_CONNECTIONS_MAX ? FETCH_CONNECTIONS_MAX : share;
}

void fetch_say(struct job *j, enum fetch_event_kind kind, const char *fmt, ...)
{
	char text[ERR_MSG_MAX];
	struct fetch_event ev = {.kind = kind,
				 .id = j->request->id,
				 .total = j->size,
				 .text = text,
				 .held = ranges_bytes(&j->written),
				 .rate = j->rate,
				 .eta_s = -1};
	va_list ap;

	if (!j->fetch->o->event)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (ev.total >= 0 && j->rate > 0)
		ev.eta_s = (double)(ev.total - ev.held) / j->rate;
	if (kind == FETCH_DONE || kind == FETCH_FAILED)
		ev.result = j->result;
	j->fetch->o->event(j->fetch->o->ctx, &ev);
}

/* ---- the loop ---------------------------------------------------------------------------- */

static void start_queued(struct fetch *f)
{
	int active = 0;

	for (int i = 0; i < f->n; i++)
		active += is_active(&f->jobs[i]);
	for (int i = 0; i < f->n && active < FILES_AT_ONCE; i++) {
		struct job *j = &f->jobs[i];

		if (j->phase != JOB_QUEUED)
			continue;
		j->phase = JOB_LOCKING;
		j->began_ms = fetch_now(f);
		active++;
	}
}

static void measure(struct job *j)
{
	uint64_t now = fetch_now(j->fetch), ms = now - j->rate_ms;

	if (ms < 250)
		return;
	if (j->rate_ms) {
		double rate = (double)(j->result->transferred - j->rate_bytes) * 1000 / (double)ms;
		double weight = (double)ms / RATE_WINDOW_MS;

		j->rate =
		    j->rate > 0 ? j->rate + (weight < 1 ? weight : 1) * (rate - j->rate) : rate;
	}
	j->rate_ms = now;
	j->rate_bytes = j->result->transferred;
	fetch_say(j, FETCH_PROGRESS, "%s", "");
}

static void say_waiting(struct job *j)
{
	uint64_t now = fetch_now(j->fetch);

	if (j->rate_ms && now - j->rate_ms < HEARTBEAT_MS)
		return;
	j->rate_ms = now;
	fetch_say(j, FETCH_WAITING, "another process is fetching it");
}

static void close_all(struct fetch *f)
{
	if (f->closing)
		return;
	f->closing = true;
	http_close(f->http);
	uv_close((uv_handle_t *)&f->tick, NULL);
	uv_close((uv_handle_t *)&f->sigint, NULL);
	uv_close((uv_handle_t *)&f->sigterm, NULL);
}

static void on_tick(uv_timer_t *t)
{
	struct fetch *f = t->data;
	bool over = true;

	start_queued(f);
	for (int i = 0; i < f->n; i++) {
		job_pump(&f->jobs[i]);
		if (f->jobs[i].phase == JOB_LOCKING)
			say_waiting(&f->jobs[i]);
		else if (is_active(&f->jobs[i]))
			measure(&f->jobs[i]);
	}
	for (int i = 0; i < f->n; i++)
		over &= f->jobs[i].phase == JOB_OVER;
	if (over)
		close_all(f);
}

/* Nothing is left to wait for: the tick looks at once. */
void fetch_wake(struct fetch *f)
{
	uv_timer_start(&f->tick, on_tick, 0, (uint64_t)f->o->tick_ms);
}

/* The second signal has its usual effect again. */
static void on_signal(uv_signal_t *s, int number)
{
	struct fetch *f = s->data;
	struct err e = ERR_NONE;

	(void)number;
	uv_signal_stop(&f->sigint);
	uv_signal_stop(&f->sigterm);
	err_set(&e, EXIT_INTERRUPTED,
		"interrupted; what has arrived is kept: the same command goes on from there");
	for (int i = 0; i < f->n; i++)
		job_fail(&f->jobs[i], &e, false);
}

static void start_handle(struct fetch *f, uv_signal_t *s, int number)
{
	uv_signal_init(&f->loop, s);
	s->data = f;
	uv_signal_start(s, on_signal, number);
}

static void prepare_job(struct job *j, struct fetch *f, const struct fetch_request *q,
			struct fetch_result *result)
{
	memset(result, 0, sizeof(*result));
	j->fetch = f;
	j->request = q;
	j->result = result;
	j->lock_fd = j->part_fd = j->direct_fd = -1;
	j->journal.fd = -1;
	j->size = -1;
	j->range_bytes = f->o->range_bytes;
	hash_open(j);
	for (int i = 0; i < q->n_sources; i++)
		j->sources[i].url = q->sources[i];
	for (int i = 0; i < FETCH_CONNECTIONS_MAX; i++)
		j->conns[i].job = j;
}

static int first_error(const struct fetch *f, const struct fetch_result *results, struct err *e)
{
	for (int i = 0; i < f->n; i++) {
		if (results[i].code) {
			*e = results[i].err;
			return -e->code;
		}
	}
	return 0;
}

int fetch_run(const struct fetch_request *requests, int n, const struct fetch_options *o,
	      const struct hub *hub, struct fetch_result *results, struct err *e)
{
	struct fetch f = {.o = o, .hub = hub, .n = n, .random = uv_hrtime() | 1};
	int r;

	assert(n >= 0 && n <= FETCH_FILES_MAX);
	setenv("UV_THREADPOOL_SIZE", "8", 0);
	signal(SIGPIPE, SIG_IGN);
	f.jobs = calloc((size_t)n + 1, sizeof(*f.jobs));
	assert(f.jobs);
	for (int i = 0; i < n; i++)
		prepare_job(&f.jobs[i], &f, &requests[i], &results[i]);
	r = uv_loop_init(&f.loop);
	assert(r == 0);
	r = http_open(&f.http, &f.loop, e);
	if (r < 0)
		goto out;
	uv_timer_init(&f.loop, &f.tick);
	f.tick.data = &f;
	start_handle(&f, &f.sigint, SIGINT);
	start_handle(&f, &f.sigterm, SIGTERM);
	uv_timer_start(&f.tick, on_tick, 0, (uint64_t)o->tick_ms);
	uv_run(&f.loop, UV_RUN_DEFAULT);
	http_free(f.http);
	r = first_error(&f, results, e);
out:
	for (int i = 0; i < n; i++)
		job_free(&f.jobs[i]);
	free(f.jobs);
	while (f.n_spare)
		free(f.spare[--f.n_spare]);
	r = uv_loop_close(&f.loop) == 0 ? r : err_set(e, EXIT_INTERNAL, "a handle was left open");
	return r;
}
