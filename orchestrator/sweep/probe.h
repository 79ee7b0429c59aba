/*
 * One engine asked small things, its answers kept whole: what engine-check judges. Unlike a
 * sweep it holds all logits and traces of a request, so requests are short.
 */
#ifndef ASSAY_PROBE_H
#define ASSAY_PROBE_H

#include "sweep/client.h"
#include "trace.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PROBE_ROWS_MAX = 64, PROBE_TRACES_MAX = 8192, PROBE_VALUES_MAX = 64 << 20 };

struct probe_row {
	int pos, step;
	int32_t token;		/* −1 when none was named */
	float *values;		/* [n_values], owned */
	int n_values;
};

struct probe_trace {
	struct trace_record r;	/* as the engine says */
	int stage;		/* −1: a name that trace.h does not know */
	float *values;		/* [n_got], owned */
	int64_t n_got;
	bool in_order;		/* parts followed one another without a gap */
};

/* One answer. */
struct probe_answer {
	enum wire_type type;	/* the terminal frame's; 0 when the engine did not answer */
	int code;		/* of FAIL, or of what went wrong */
	char sentence[512];	/* of FAIL, or what went wrong */
	char header[4096];	/* of the terminal frame, NUL-terminated */
	uint8_t *body;		/* of the terminal frame, owned */
	size_t body_bytes;
	struct probe_row rows[PROBE_ROWS_MAX];
	int n_rows;
	struct probe_trace *traces;	/* [n_traces], owned */
	int n_traces;
};

/* Sends the request and keeps the answer. The engine's failure is an answer; negative only when
 * it cannot be asked any more (dead, silent, talking garbage): the sentence is in a->sentence. */
int probe_ask(struct client *c, const struct wire_builder *request, struct probe_answer *a);
void probe_free(struct probe_answer *a);	/* accepts zeroed */

/* A number from the terminal frame's header. */
int64_t probe_int(const struct probe_answer *a, const char *key, int64_t absent);
bool probe_text(const struct probe_answer *a, const char *key, char *out, size_t size);

const struct probe_trace *probe_find(const struct probe_answer *a, int stage, int layer);

#endif
