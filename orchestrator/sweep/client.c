#include "client.h"

#include "child.h"
#include "engines.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum { DEADLINE_MS = 180000, HELLO_MAX = 4096 };

struct client {
	uv_loop_t loop;
	struct child *child;
	char engine[ENGINE_NAME_MAX];
	char *hello;			/* header lines of HELLO */
	size_t hello_bytes;
	int deadline_ms;
	client_frame_fn *fn;		/* of the call in progress */
	void *ctx;
	struct err *e;
	int result;
	bool waiting, ended, silence;
	enum wire_type stray;		/* came when nothing was asked; 0 = none */
};

static int worker_failed(const struct client *c, const struct wire_frame *f, struct err *e)
{
	enum exit_code code = engine_fail_code(wire_get_int(f, "code", EXIT_INFERENCE));
	bool own = strncmp(c->engine, "exec:", 5) != 0;

	if (f->body_bytes == 0)
		return err_set(e, code, "engine %s: FAIL code=%d without a sentence", c->engine, code);
	/* our own workers and those of references say whole sentences */
	return err_set(e, code, "%s%s%s%.*s", own ? "" : "engine ", own ? "" : c->engine,
		       own ? "" : ": ", (int)(f->body_bytes > 1000 ? 1000 : f->body_bytes),
		       (const char *)f->body);
}

static void take_hello(struct client *c, const struct wire_frame *f)
{
	char what[200];

	if (engine_hello_fault(f, what, sizeof(what)))
		c->result = err_set(c->e, EXIT_WORKER, "engine %s: %s", c->engine, what);
	c->hello = malloc(f->header_bytes + 1);
	assert(c->hello);
	memcpy(c->hello, f->header, f->header_bytes);
	c->hello_bytes = f->header_bytes;
	c->waiting = false;
}

static void on_frame(void *ctx, const struct wire_frame *f)
{
	struct client *c = ctx;

	if (!c->hello) {
		take_hello(c, f);
		return;
	}
	if (f->type == WIRE_NOTE)
		return;
	if (!c->waiting) {
		c->stray = f->type;
		return;
	}
	if (c->silence)
		child_deadline(c->child, c->deadline_ms);
	if (c->result == 0 && c->fn)
		c->result = c->fn(c->ctx, f, c->e);
	if (f->type == WIRE_FAIL && c->result == 0)
		c->result = worker_failed(c, f, c->e);
	if (wire_terminal(f->type))
		c->waiting = false;
	else if (c->result < 0)
		child_kill(c->child);	/* the caller gave up in the middle of an answer */
}

static void on_end(void *ctx, const struct child_end *end)
{
	struct client *c = ctx;
	char why[ERR_MSG_MAX];

	c->ended = true;
	if (!c->waiting)
		return;
	c->waiting = false;
	if (c->result < 0)
		return;
	child_explain(end, why, sizeof(why));
	if (!c->hello && end->timed_out)
		snprintf(why + strlen(why), sizeof(why) - strlen(why),
			 ": it sent no HELLO on the descriptor that ASSAY_WIRE_FD names");
	c->result = err_set(c->e, EXIT_WORKER, "engine %s %s", c->engine, why);
}

static int wait_for_answer(struct client *c)
{
	child_deadline(c->child, c->deadline_ms);
	while (c->waiting)
		uv_run(&c->loop, UV_RUN_ONCE);
	if (!c->ended)
		child_deadline(c->child, 0);
	return c->result;
}

int client_open(struct client **out, const struct client_options *o, struct err *e)
{
	struct engine_command command;
	struct child_options co = {.on_frame = on_frame, .on_end = on_end};
	struct client *c;
	int r = engine_command(&command, o->engine, e);

	if (r < 0)
		return r;
	c = calloc(1, sizeof(*c));
	assert(c);
	uv_loop_init(&c->loop);
	snprintf(c->engine, sizeof(c->engine), "%s", o->engine);
	c->deadline_ms = o->deadline_ms > 0 ? o->deadline_ms : DEADLINE_MS;
	c->silence = o->silence;
	memcpy(co.argv, command.argv, sizeof(co.argv));
	co.ctx = c;
	c->e = e;
	c->waiting = true;
	r = child_start(&c->child, &c->loop, &co, e);
	if (r < 0)
		c->ended = true;
	else
		r = wait_for_answer(c);
	if (r < 0) {
		client_close(c);
		return r;
	}
	*out = c;
	return 0;
}

int client_call(struct client *c, const struct wire_builder *request, client_frame_fn *fn,
		void *ctx, struct err *e)
{
	if (c->ended)
		return err_set(e, EXIT_WORKER, "engine %s has ended", c->engine);
	if (c->stray)
		return err_set(e, EXIT_WORKER, "engine %s sent %s when nothing was asked",
			       c->engine, wire_type_name(c->stray));
	c->fn = fn;
	c->ctx = ctx;
	c->e = e;
	c->result = 0;
	c->waiting = true;
	child_send(c->child, request);
	return wait_for_answer(c);
}

void client_deadline(struct client *c, int deadline_ms)
{
	c->deadline_ms = deadline_ms;
}

static void on_flag(uv_timer_t *t)
{
	*(bool *)t->data = true;
}

static void on_closed(uv_handle_t *h)
{
	*(bool *)h->data = true;
}

void client_settle(struct client *c, int ms)
{
	bool over = false, closed = false;
	uv_timer_t t;

	uv_timer_init(&c->loop, &t);
	t.data = &over;
	uv_timer_start(&t, on_flag, (uint64_t)ms, 0);
	while (!over && !c->stray && !c->ended)
		uv_run(&c->loop, UV_RUN_ONCE);
	t.data = &closed;
	uv_close((uv_handle_t *)&t, on_closed);
	while (!closed)
		uv_run(&c->loop, UV_RUN_ONCE);
}

bool client_hello(const struct client *c, const char *key, char *out, size_t size)
{
	struct wire_frame f = {.header = c->hello, .header_bytes = c->hello_bytes};

	return wire_get(&f, key, 0, out, size);
}

bool client_says(const struct client *c, const char *feature)
{
	struct wire_frame f = {.header = c->hello, .header_bytes = c->hello_bytes};

	return wire_lists(&f, "features", feature);
}

void client_close(struct client *c)
{
	if (!c)
		return;
	c->waiting = false;
	if (c->child && !c->ended)
		child_bye(c->child);
	while (c->child && !c->ended)
		uv_run(&c->loop, UV_RUN_ONCE);
	child_free(c->child);
	uv_run(&c->loop, UV_RUN_DEFAULT);
	uv_loop_close(&c->loop);
	free(c->hello);
	free(c);
}
