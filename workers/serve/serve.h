/*
 * The worker's side of the conversation in wire.h: reads requests, has one engine answer them.
 * Exactly one terminal answer per request; an engine's failure is an answer, not an end.
 */
#ifndef ASSAY_SERVE_H
#define ASSAY_SERVE_H

#include "channel.h"
#include "engine.h"

enum { SERVE_STOPS_MAX = 64, SERVE_COUNTERS_MAX = 128 };

/* Answers a TEMPLATE request for the model at path; NULL where the program has no templates. */
typedef int serve_template_fn(struct channel *c, const char *model_path,
			      const struct wire_frame *f, struct err *e);

/* What this program was linked with, beside engine_table. */
struct worker_traits {
	size_t stack_bytes;		/* stack that the engines' threads need; 0 = the default */
	serve_template_fn *render;
	int (*measure)(struct channel *c, const struct wire_frame *f, struct err *e); /* or NULL */
};
extern const struct worker_traits worker_traits;

struct counters {
	struct counter {
		char kernel[64];
		uint64_t calls;
	} items[SERVE_COUNTERS_MAX];
	int n;
};

struct session {
	struct channel ch;
	const struct engine_ops *ops;
	const struct worker_traits *traits;
	struct engine *engine;		/* NULL until OPEN succeeded */
	char model_path[4096];
	int64_t prefill_us;		/* of the evaluation that ends; 0 = none */
	int64_t pace_ns;		/* machine_pace_ns beside it, timed=1; 0 = none */
	struct counters counted;	/* at the end of the last request */
};

/*
 * Speaks on fd until BYE, end of file (0) or a broken stream (negative). Sends HELLO first.
 * fd is borrowed.
 */
int serve(int fd, const struct engine_ops *ops, const struct worker_traits *traits, struct err *e);

/* One request each; sends every answer but FAIL: a failure is returned for the caller to send. */
int serve_open(struct session *s, const struct wire_frame *f, struct err *e);
int serve_evaluate(struct session *s, const struct wire_frame *f, struct err *e);
int serve_replay(struct session *s, const struct wire_frame *f, struct err *e);
int serve_weights(struct session *s, const struct wire_frame *f, struct err *e);

/* The DONE of a request that began at start_us (serve_now_us). */
int serve_done(struct session *s, int64_t n_pos, int64_t start_us, struct err *e);
int64_t serve_now_us(void);
/* Sends one trace record in parts of WIRE_PART_MAX; an engine_trace_fn, ctx is the session. */
int serve_trace(void *ctx, const struct trace_record *r, const float *values);

#endif
