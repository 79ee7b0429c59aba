#include "pool.h"

#include "engines.h"

#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum { POOL_SIGNALS = 3 };

struct request {
	uint8_t *bytes;		/* [n], owned; NULL = none */
	size_t n, header_bytes;
};

struct worker {
	struct crew *crew;
	struct child *child;		/* NULL: none */
	char engine[ENGINE_NAME_MAX];
	char *hello, *opened;
	char mark[POOL_MARK_MAX];
	bool owes, leaving, troubled;
	struct request asked;		/* of this wave */
};

struct lane {			/* one comparison's view of its crew */
	struct crew *crew;
	struct worker *workers[POOL_SIDES];	/* [1] may be NULL */
	void *job;
	bool live;		/* from next to lane_finish */
	struct request waiting[POOL_SIDES];	/* for the next wave */
	bool hears[POOL_SIDES];	/* this wave's answer is for it, too */
	bool pauses[POOL_SIDES];
};

struct crew {
	struct pool *pool;
	struct worker workers[POOL_SEATS_MAX];
	struct lane lanes[POOL_PAIRS_MAX];
	struct pool_group group;
	bool has_group, begun, over;	/* over: no groups are left for this crew */
	uv_timer_t kick, late;
};

struct pool {
	uv_loop_t loop;
	const struct pool_ops *ops;
	void *ctx;
	struct crew *crews;		/* [n_crews] */
	int n_crews, n_over;
	uv_signal_t signals[POOL_SIGNALS];
	uv_timer_t tick;
	bool interrupted, closing;
};

static void advance(struct crew *c);

static void on_kick(uv_timer_t *t)
{
	advance(t->data);
}

static void kick(struct crew *c)
{
	if (!c->pool->closing)
		uv_timer_start(&c->kick, on_kick, 0, 0);
}

/* The side at which the lane sees this worker, or −1. */
static int side_of(const struct lane *l, const struct worker *w)
{
	for (int i = 0; i < POOL_SIDES; i++)
		if (l->live && l->workers[i] == w)
			return i;
	return -1;
}

static void trouble(struct worker *w, const char *what)
{
	struct crew *c = w->crew;
	char sentence[ERR_MSG_MAX];

	if (!c->has_group || w->troubled || c->pool->interrupted)
		return;
	w->troubled = true;
	w->owes = true;		/* it is not fit for another group */
	snprintf(sentence, sizeof(sentence), "engine %.200s %s", w->engine, what);
	for (int i = 0; i < c->group.n_pairs; i++) {
		struct lane *l = &c->lanes[i];
		int side = side_of(l, w);

		if (side >= 0)
			c->pool->ops->trouble(l->job, l, side, sentence);
	}
	kick(c);
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

	if (engine_hello_fault(f, what, sizeof(what))) {
		trouble(w, what);
		return;
	}
	w->hello = copy_header(f);
	kick(w->crew);
}

static void hand_on(struct worker *w, const struct wire_frame *f)
{
	struct crew *c = w->crew;

	for (int i = 0; i < c->group.n_pairs; i++) {
		struct lane *l = &c->lanes[i];
		int side = side_of(l, w);

		if (side >= 0 && l->hears[side])
			c->pool->ops->frame(l->job, l, side, f);
	}
}

static void on_frame(void *ctx, const struct wire_frame *f)
{
	struct worker *w = ctx;
	char what[200];

	if (w->troubled || w->leaving || f->type == WIRE_NOTE)
		return;
	if (!w->hello) {
		take_hello(w, f);
		return;
	}
	if (!w->owes || !w->crew->has_group) {
		snprintf(what, sizeof(what), "said %s though nothing was asked",
			 wire_type_name(f->type));
		trouble(w, what);
		w->leaving = true;
		child_kill(w->child);
		return;
	}
	if (wire_terminal(f->type)) {
		w->owes = false;
		kick(w->crew);
	}
	if (f->type == WIRE_OPENED) {
		free(w->opened);
		w->opened = copy_header(f);
	}
	hand_on(w, f);
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
	kick(w->crew);
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
		if (child_start(&w->child, &w->crew->pool->loop, &o, &e) == 0)
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

static bool anyone_leaving(const struct crew *c)
{
	for (int i = 0; i < POOL_SEATS_MAX; i++)
		if (c->workers[i].child && c->workers[i].leaving)
			return true;
	return false;
}

static void crew_over(struct crew *c)
{
	for (int i = 0; i < POOL_SEATS_MAX; i++)
		leave(&c->workers[i]);
	for (int i = 0; i < POOL_SEATS_MAX; i++)
		if (c->workers[i].child)
			return;		/* on_end kicks again */
	if (c->over)
		return;
	c->over = true;
	if (++c->pool->n_over == c->pool->n_crews)
		uv_stop(&c->pool->loop);
}

static bool is_needed(const struct crew *c, const struct worker *w)
{
	for (int i = 0; i < c->group.n_pairs; i++)
		if (side_of(&c->lanes[i], w) >= 0)
			return true;
	return false;
}

/* It is this worker that is waited for: not one that was told to wait. */
static bool is_late(const struct worker *w)
{
	return w->owes && w->child && !child_paused(w->child);
}

/* The comparisons of who is late are over. The others waited for it: they have their time now. */
static void on_late(uv_timer_t *t)
{
	struct crew *c = t->data;
	bool late[POOL_SEATS_MAX], all = true;

	if (!c->has_group || c->pool->interrupted)
		return;
	for (int i = 0; i < POOL_SEATS_MAX; i++) {
		late[i] = is_late(&c->workers[i]) && is_needed(c, &c->workers[i]);
		all = all && !late[i];
	}
	all = all || !c->begun;
	for (int i = 0; i < c->group.n_pairs; i++) {
		struct lane *l = &c->lanes[i];
		bool ends = all;

		for (int k = 0; k < POOL_SIDES; k++)
			ends = ends || (l->workers[k] && late[l->workers[k] - c->workers]);
		if (l->live && ends)
			c->pool->ops->late(l->job, l);
	}
	if (c->has_group)
		uv_timer_start(&c->late, on_late, (uint64_t)c->group.timeout_ms, 0);
	kick(c);
}

static bool take_group(struct crew *c)
{
	struct pool *p = c->pool;
	struct pool_group *g = &c->group;

	*g = (struct pool_group){0};
	if (p->interrupted || !p->ops->next(p->ctx, g))
		return false;
	assert(g->n_pairs > 0 && g->n_pairs <= POOL_PAIRS_MAX);
	c->has_group = true;
	c->begun = false;
	for (int i = 0; i < g->n_pairs; i++) {
		struct lane *l = &c->lanes[i];

		*l = (struct lane){.crew = c, .job = g->pair[i].job, .live = true};
		for (int k = 0; k < POOL_SIDES; k++)
			if (g->pair[i].seat[k] >= 0)
				l->workers[k] = &c->workers[g->pair[i].seat[k]];
	}
	for (int i = 0; i < POOL_SEATS_MAX; i++)
		c->workers[i].troubled = false;
	uv_timer_start(&c->late, on_late, (uint64_t)g->timeout_ms, 0);
	return true;
}

/* Workers of another engine leave first: more models than needed are never open. */
static void set_up(struct crew *c)
{
	bool wait = false, ready = true;

	for (int i = 0; i < POOL_SEATS_MAX; i++) {
		struct worker *w = &c->workers[i];
		const char *engine = c->group.engine[i];

		if (w->child && (!engine || strcmp(w->engine, engine) != 0)) {
			leave(w);
			wait = true;
		}
	}
	for (int i = 0; i < POOL_SEATS_MAX && !wait; i++) {
		struct worker *w = &c->workers[i];

		if (!c->group.engine[i] || !is_needed(c, w))
			continue;
		if (!w->child && !w->troubled)
			start_worker(w, c->group.engine[i]);
		ready = ready && (!is_needed(c, w) || (w->child && w->hello && !w->troubled));
	}
	if (wait || !ready || !c->has_group)
		return;
	c->begun = true;
	for (int i = 0; i < c->group.n_pairs; i++)
		if (c->lanes[i].live)
			c->pool->ops->begin(c->lanes[i].job, &c->lanes[i]);
}

/* ---- waves -------------------------------------------------------------------------------- */

static void drop_request(struct request *q)
{
	free(q->bytes);
	*q = (struct request){0};
}

static bool same_request(const struct request *a, const struct request *b)
{
	return a->n == b->n && memcmp(a->bytes, b->bytes, a->n) == 0;
}

static bool fits_wave(const struct lane *l)
{
	for (int k = 0; k < POOL_SIDES; k++)
		if (l->waiting[k].bytes && l->workers[k]->asked.bytes &&
		    !same_request(&l->waiting[k], &l->workers[k]->asked))
			return false;
	return true;
}

static void join_wave(struct lane *l)
{
	for (int k = 0; k < POOL_SIDES; k++) {
		l->hears[k] = l->waiting[k].bytes != NULL;
		if (l->hears[k] && !l->workers[k]->asked.bytes) {
			l->workers[k]->asked = l->waiting[k];
			l->waiting[k] = (struct request){0};
		}
		drop_request(&l->waiting[k]);
	}
}

static void send_asked(struct worker *w)
{
	struct wire_builder b = {.buf = w->asked.bytes, .n = w->asked.n,
				 .header_bytes = w->asked.header_bytes};

	if (!b.buf || !w->child || w->leaving || w->troubled)
		return;
	w->owes = true;
	child_send(w->child, &b);
}

static void next_wave(struct crew *c)
{
	for (int i = 0; i < POOL_SEATS_MAX; i++)
		if (c->workers[i].owes && is_needed(c, &c->workers[i]))
			return;
	for (int i = 0; i < POOL_SEATS_MAX; i++)
		drop_request(&c->workers[i].asked);
	for (int i = 0; i < c->group.n_pairs; i++) {
		struct lane *l = &c->lanes[i];

		memset(l->hears, 0, sizeof(l->hears));
		if (l->live && fits_wave(l))
			join_wave(l);
	}
	for (int i = 0; i < POOL_SEATS_MAX; i++)
		send_asked(&c->workers[i]);
}

/* A lane that is over holds nobody back. */
static void resume_workers(struct crew *c)
{
	for (int s = 0; s < POOL_SEATS_MAX; s++) {
		struct worker *w = &c->workers[s];
		bool wanted = false;

		for (int i = 0; i < c->group.n_pairs; i++) {
			int side = side_of(&c->lanes[i], w);

			wanted |= side >= 0 && c->lanes[i].pauses[side];
		}
		if (w->child && child_paused(w->child) && !wanted)
			child_resume(w->child);
	}
}

/* The last lane is over: whoever still owes an answer leaves. */
static void end_group(struct crew *c)
{
	c->has_group = false;
	uv_timer_stop(&c->late);
	for (int i = 0; i < POOL_SEATS_MAX; i++) {
		struct worker *w = &c->workers[i];

		drop_request(&w->asked);
		if (w->child && (w->owes || w->troubled || !w->hello))
			leave(w);
	}
}

static void advance(struct crew *c)
{
	if (c->over)
		return;
	if (c->has_group && c->begun && !c->pool->interrupted) {
		resume_workers(c);
		if (c->has_group)
			next_wave(c);
	}
	if (anyone_leaving(c))
		return;
	if (c->pool->interrupted)
		c->has_group = false;
	if (!c->has_group && !take_group(c)) {
		crew_over(c);
		return;
	}
	if (!c->begun)
		set_up(c);
}

/* ---- what a comparison sees --------------------------------------------------------------- */

void lane_send(struct lane *l, int side, const struct wire_builder *b)
{
	struct request *q = &l->waiting[side];

	assert(!q->bytes);
	*q = (struct request){.bytes = malloc(b->n), .n = b->n, .header_bytes = b->header_bytes};
	assert(q->bytes);
	memcpy(q->bytes, b->buf, b->n);
	kick(l->crew);
}

bool lane_owes(const struct lane *l, int side)
{
	const struct worker *w = l->workers[side];

	return w->owes || (w->child && !w->hello);
}

void lane_pause(struct lane *l, int side)
{
	l->pauses[side] = true;
	if (l->workers[side]->child)
		child_pause(l->workers[side]->child);
}

void lane_resume(struct lane *l, int side)
{
	l->pauses[side] = false;
	resume_workers(l->crew);
}

bool lane_paused(const struct lane *l, int side)
{
	return l->workers[side]->child && child_paused(l->workers[side]->child);
}

const char *lane_hello(const struct lane *l, int side)
{
	return l->workers[side]->hello;
}

const char *lane_opened(const struct lane *l, int side)
{
	return l->workers[side]->opened;
}

const char *lane_mark(const struct lane *l, int side)
{
	return l->workers[side]->mark;
}

void lane_set_mark(struct lane *l, int side, const char *mark)
{
	struct worker *w = l->workers[side];

	snprintf(w->mark, POOL_MARK_MAX, "%s", mark);
	free(w->opened);
	w->opened = NULL;
}

int64_t lane_peak_rss(const struct lane *l, int side)
{
	return l->workers[side]->child ? child_peak_rss(l->workers[side]->child) : -1;
}

void lane_finish(struct lane *l)
{
	struct crew *c = l->crew;

	assert(l->live);
	l->live = false;
	for (int k = 0; k < POOL_SIDES; k++)
		drop_request(&l->waiting[k]);
	for (int i = 0; i < c->group.n_pairs; i++)
		if (c->lanes[i].live) {
			kick(c);
			return;
		}
	end_group(c);
	kick(c);
}

static void on_signal(uv_signal_t *s, int number)
{
	struct pool *p = s->data;

	(void)number;
	p->interrupted = true;
	for (int i = 0; i < p->n_crews; i++) {
		struct crew *c = &p->crews[i];

		uv_timer_stop(&c->late);
		for (int k = 0; k < POOL_SEATS_MAX; k++)
			leave(&c->workers[k]);
		kick(c);
	}
}

static void on_tick(uv_timer_t *t)
{
	struct pool *p = t->data;

	p->ops->tick(p->ctx);
}

static void pool_start(struct pool *p)
{
	static const int numbers[POOL_SIGNALS] = {SIGINT, SIGTERM, SIGHUP};
	struct sigaction was;

	for (int i = 0; i < POOL_SIGNALS; i++) {
		uv_signal_init(&p->loop, &p->signals[i]);
		p->signals[i].data = p;
		/* under nohup the terminal may go */
		if (numbers[i] != SIGHUP || (sigaction(SIGHUP, NULL, &was) == 0 &&
					     was.sa_handler != SIG_IGN))
			uv_signal_start(&p->signals[i], on_signal, numbers[i]);
	}
	uv_timer_init(&p->loop, &p->tick);
	p->tick.data = p;
	if (p->ops->tick)
		uv_timer_start(&p->tick, on_tick, POOL_TICK_MS, POOL_TICK_MS);
	for (int i = 0; i < p->n_crews; i++) {
		struct crew *c = &p->crews[i];

		c->pool = p;
		uv_timer_init(&p->loop, &c->kick);
		uv_timer_init(&p->loop, &c->late);
		c->kick.data = c->late.data = c;
		for (int k = 0; k < POOL_SEATS_MAX; k++)
			c->workers[k] = (struct worker){.crew = c};
		kick(c);
	}
}

static void pool_close(struct pool *p)
{
	p->closing = true;
	for (int i = 0; i < POOL_SIGNALS; i++)
		uv_close((uv_handle_t *)&p->signals[i], NULL);
	uv_close((uv_handle_t *)&p->tick, NULL);
	for (int i = 0; i < p->n_crews; i++) {
		uv_close((uv_handle_t *)&p->crews[i].kick, NULL);
		uv_close((uv_handle_t *)&p->crews[i].late, NULL);
		for (int k = 0; k < POOL_SEATS_MAX; k++) {
			forget_facts(&p->crews[i].workers[k]);
			drop_request(&p->crews[i].workers[k].asked);
		}
		for (int k = 0; k < POOL_PAIRS_MAX; k++)	/* given up by a signal */
			for (int side = 0; side < POOL_SIDES; side++)
				drop_request(&p->crews[i].lanes[k].waiting[side]);
	}
	uv_run(&p->loop, UV_RUN_DEFAULT);
	uv_loop_close(&p->loop);
	free(p->crews);
}

int pool_run(int n_crews, const struct pool_ops *ops, void *ctx, struct err *e)
{
	struct pool p = {.ops = ops, .ctx = ctx, .n_crews = n_crews};

	assert(n_crews >= 1 && n_crews <= POOL_LANES_MAX);
	p.crews = calloc((size_t)n_crews, sizeof(*p.crews));
	assert(p.crews);
	uv_loop_init(&p.loop);
	pool_start(&p);
	while (p.n_over < p.n_crews)
		uv_run(&p.loop, UV_RUN_DEFAULT);
	pool_close(&p);
	if (p.interrupted)
		return err_set(e, EXIT_INTERRUPTED, "interrupted");
	return 0;
}
