#include "pool.h"

#include "engines.h"

#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

struct worker {
	struct lane *lane;
	int side;
	struct child *child;		/* NULL: none */
	char engine[ENGINE_NAME_MAX];
	char *hello, *opened;
	char mark[POOL_MARK_MAX];
	bool owes, leaving, troubled;
};

struct lane {
	struct pool *pool;
	struct worker workers[POOL_SIDES];
	struct pool_job job;
	bool has_job, begun, over;	/* over: no jobs are left for this lane */
	uv_timer_t kick, late;
};

struct pool {
	uv_loop_t loop;
	const struct pool_ops *ops;
	void *ctx;
	struct lane *lanes;		/* [n_lanes] */
	int n_lanes, n_over;
	uv_signal_t signals[2];
	uv_timer_t tick;
	bool interrupted, closing;
};

static void advance(struct lane *l);

static void on_kick(uv_timer_t *t)
{
	advance(t->data);
}

static void kick(struct lane *l)
{
	if (!l->pool->closing)
		uv_timer_start(&l->kick, on_kick, 0, 0);
}

static void trouble(struct worker *w, const char *what)
{
	struct lane *l = w->lane;
	char sentence[ERR_MSG_MAX];

	if (!l->has_job || w->troubled || l->pool->interrupted)
		return;
	w->troubled = true;
	w->owes = true;		/* it is not fit for another job */
	snprintf(sentence, sizeof(sentence), "engine %.200s %s", w->engine, what);
	l->pool->ops->trouble(l->job.job, l, w->side, sentence);
}

static char *copy_header(const struct wire_frame *f)
{
	char *text = malloc(f->header_bytes + 1);

	assert(text);
	memcpy(text, f->header, f->header_bytes);
	text[f->header_bytes] = '\0';
	return text;
}

static void take_hello(struct worker *w, const struct wire_frame *f)
{
	char what[200];
	int64_t protocol = wire_get_int(f, "protocol", -1);

	if (f->type != WIRE_HELLO)
		snprintf(what, sizeof(what), "said %s where HELLO was expected",
			 wire_type_name(f->type));
	else
		snprintf(what, sizeof(what), "speaks protocol %lld, this program speaks %d",
			 (long long)protocol, WIRE_PROTOCOL);
	if (f->type != WIRE_HELLO || protocol != WIRE_PROTOCOL) {
		trouble(w, what);
		return;
	}
	w->hello = copy_header(f);
	kick(w->lane);
}

static void on_frame(void *ctx, const struct wire_frame *f)
{
	struct worker *w = ctx;
	struct lane *l = w->lane;
	char what[200];

	if (w->troubled || w->leaving || f->type == WIRE_NOTE)
		return;
	if (!w->hello) {
		take_hello(w, f);
		return;
	}
	if (!w->owes || !l->has_job) {
		snprintf(what, sizeof(what), "said %s though nothing was asked",
			 wire_type_name(f->type));
		trouble(w, what);
		w->leaving = true;
		child_kill(w->child);
		return;
	}
	if (wire_terminal(f->type))
		w->owes = false;
	if (f->type == WIRE_OPENED) {
		free(w->opened);
		w->opened = copy_header(f);
	}
	l->pool->ops->frame(l->job.job, l, w->side, f);
}

static void forget(struct worker *w)
{
	child_free(w->child);
	w->child = NULL;
	w->leaving = w->owes = false;
}

static void forget_facts(struct worker *w)
{
	free(w->hello);
	free(w->opened);
	w->hello = w->opened = NULL;
}

static void on_end(void *ctx, const struct child_end *end)
{
	struct worker *w = ctx;
	char what[ERR_MSG_MAX];

	if (!w->leaving) {
		child_explain(end, what, sizeof(what));
		trouble(w, what);
	}
	forget(w);
	kick(w->lane);
}

static void start_worker(struct worker *w, const char *engine)
{
	struct engine_command command;
	struct child_options o = {.on_frame = on_frame, .on_end = on_end, .ctx = w,
				  .is_shell = strncmp(engine, "exec:", 5) == 0};
	struct err e = ERR_NONE;

	forget_facts(w);
	w->troubled = w->owes = w->leaving = false;
	snprintf(w->engine, sizeof(w->engine), "%s", engine);
	w->mark[0] = '\0';
	if (engine_command(&command, engine, &e) == 0) {
		memcpy(o.argv, command.argv, sizeof(o.argv));
		if (child_start(&w->child, &w->lane->pool->loop, &o, &e) == 0)
			return;
	}
	trouble(w, e.msg);
}

static void leave(struct worker *w)
{
	if (!w->child || w->leaving)
		return;
	w->leaving = true;
	if (w->owes || !w->hello)
		child_kill(w->child);
	else
		child_bye(w->child);
}

static bool anyone_leaving(const struct lane *l)
{
	for (int i = 0; i < POOL_SIDES; i++)
		if (l->workers[i].child && l->workers[i].leaving)
			return true;
	return false;
}

static void lane_over(struct lane *l)
{
	for (int i = 0; i < POOL_SIDES; i++)
		leave(&l->workers[i]);
	for (int i = 0; i < POOL_SIDES; i++)
		if (l->workers[i].child)
			return;		/* on_end kicks again */
	if (l->over)
		return;
	l->over = true;
	if (++l->pool->n_over == l->pool->n_lanes)
		uv_stop(&l->pool->loop);
}

static void on_late(uv_timer_t *t)
{
	struct lane *l = t->data;

	if (l->has_job && !l->pool->interrupted)
		l->pool->ops->late(l->job.job, l);
}

static bool take_job(struct lane *l)
{
	struct pool *p = l->pool;

	l->job = (struct pool_job){0};
	if (p->interrupted || !p->ops->next(p->ctx, &l->job))
		return false;
	l->has_job = true;
	l->begun = false;
	for (int i = 0; i < POOL_SIDES; i++)
		l->workers[i].troubled = false;
	uv_timer_start(&l->late, on_late, (uint64_t)l->job.timeout_ms, 0);
	return true;
}

/* Workers of another engine leave first: two models need not be open at once. */
static void set_up(struct lane *l)
{
	bool wait = false, ready = true;

	for (int i = 0; i < POOL_SIDES; i++) {
		struct worker *w = &l->workers[i];
		const char *engine = l->job.engine[i];

		if (w->child && (!engine || strcmp(w->engine, engine) != 0)) {
			leave(w);
			wait = true;
		}
	}
	for (int i = 0; i < POOL_SIDES && !wait && l->has_job; i++) {
		struct worker *w = &l->workers[i];

		if (!l->job.engine[i])
			continue;
		if (!w->child && !w->troubled)
			start_worker(w, l->job.engine[i]);
		ready = ready && w->child && w->hello && !w->troubled;
	}
	if (wait || !ready || !l->has_job)
		return;
	l->begun = true;
	l->pool->ops->begin(l->job.job, l);
}

static void advance(struct lane *l)
{
	if (l->over || anyone_leaving(l))
		return;
	if (l->pool->interrupted)
		l->has_job = false;
	if (!l->has_job && !take_job(l)) {
		lane_over(l);
		return;
	}
	if (!l->begun)
		set_up(l);
}

void lane_send(struct lane *l, int side, const struct wire_builder *b)
{
	struct worker *w = &l->workers[side];

	assert(!w->owes || w->troubled);
	if (!w->child || w->leaving || w->troubled)
		return;
	w->owes = true;
	child_send(w->child, b);
}

bool lane_owes(const struct lane *l, int side)
{
	const struct worker *w = &l->workers[side];

	return w->owes || (w->child && !w->hello);
}

void lane_pause(struct lane *l, int side)
{
	if (l->workers[side].child)
		child_pause(l->workers[side].child);
}

void lane_resume(struct lane *l, int side)
{
	if (l->workers[side].child)
		child_resume(l->workers[side].child);
}

bool lane_paused(const struct lane *l, int side)
{
	return l->workers[side].child && child_paused(l->workers[side].child);
}

const char *lane_hello(const struct lane *l, int side)
{
	return l->workers[side].hello;
}

const char *lane_opened(const struct lane *l, int side)
{
	return l->workers[side].opened;
}

const char *lane_mark(const struct lane *l, int side)
{
	return l->workers[side].mark;
}

void lane_set_mark(struct lane *l, int side, const char *mark)
{
	snprintf(l->workers[side].mark, POOL_MARK_MAX, "%s", mark);
}

int64_t lane_peak_rss(const struct lane *l, int side)
{
	return l->workers[side].child ? child_peak_rss(l->workers[side].child) : -1;
}

void lane_finish(struct lane *l, bool close)
{
	assert(l->has_job);
	l->has_job = false;
	uv_timer_stop(&l->late);
	for (int i = 0; i < POOL_SIDES; i++) {
		struct worker *w = &l->workers[i];

		if (w->child && (close || w->owes || w->troubled || !w->hello))
			leave(w);
	}
	kick(l);
}

static void on_signal(uv_signal_t *s, int number)
{
	struct pool *p = s->data;

	(void)number;
	p->interrupted = true;
	for (int i = 0; i < p->n_lanes; i++) {
		struct lane *l = &p->lanes[i];

		uv_timer_stop(&l->late);
		for (int k = 0; k < POOL_SIDES; k++)
			leave(&l->workers[k]);
		kick(l);
	}
}

static void on_tick(uv_timer_t *t)
{
	struct pool *p = t->data;

	p->ops->tick(p->ctx);
}

static void pool_start(struct pool *p)
{
	static const int numbers[2] = {SIGINT, SIGTERM};

	for (int i = 0; i < 2; i++) {
		uv_signal_init(&p->loop, &p->signals[i]);
		p->signals[i].data = p;
		uv_signal_start(&p->signals[i], on_signal, numbers[i]);
	}
	uv_timer_init(&p->loop, &p->tick);
	p->tick.data = p;
	if (p->ops->tick)
		uv_timer_start(&p->tick, on_tick, POOL_TICK_MS, POOL_TICK_MS);
	for (int i = 0; i < p->n_lanes; i++) {
		struct lane *l = &p->lanes[i];

		l->pool = p;
		uv_timer_init(&p->loop, &l->kick);
		uv_timer_init(&p->loop, &l->late);
		l->kick.data = l->late.data = l;
		for (int k = 0; k < POOL_SIDES; k++)
			l->workers[k] = (struct worker){.lane = l, .side = k};
		kick(l);
	}
}

static void pool_close(struct pool *p)
{
	p->closing = true;
	for (int i = 0; i < 2; i++)
		uv_close((uv_handle_t *)&p->signals[i], NULL);
	uv_close((uv_handle_t *)&p->tick, NULL);
	for (int i = 0; i < p->n_lanes; i++) {
		uv_close((uv_handle_t *)&p->lanes[i].kick, NULL);
		uv_close((uv_handle_t *)&p->lanes[i].late, NULL);
		for (int k = 0; k < POOL_SIDES; k++)
			forget_facts(&p->lanes[i].workers[k]);
	}
	uv_run(&p->loop, UV_RUN_DEFAULT);
	uv_loop_close(&p->loop);
	free(p->lanes);
}

int pool_run(int n_lanes, const struct pool_ops *ops, void *ctx, struct err *e)
{
	struct pool p = {.ops = ops, .ctx = ctx, .n_lanes = n_lanes};

	assert(n_lanes >= 1 && n_lanes <= POOL_LANES_MAX);
	p.lanes = calloc((size_t)n_lanes, sizeof(*p.lanes));
	assert(p.lanes);
	uv_loop_init(&p.loop);
	pool_start(&p);
	while (p.n_over < p.n_lanes)
		uv_run(&p.loop, UV_RUN_DEFAULT);
	pool_close(&p);
	if (p.interrupted)
		return err_set(e, EXIT_INTERRUPTED, "interrupted");
	return 0;
}
