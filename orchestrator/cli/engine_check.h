/*
 * The steps of engine-check: each asks the engine something and says what it found. A step that
 * needs what an earlier one did not find is not run and says so.
 */
#ifndef ASSAY_ENGINE_CHECK_H
#define ASSAY_ENGINE_CHECK_H

#include "sweep/probe.h"

enum check_result { CHECK_OK, CHECK_FAILED, CHECK_WARN, CHECK_ABSENT };

enum { CHECK_IDS_MAX = 12 };

struct engine_check {
	struct client *client;
	const char *model;
	int threads;
	bool dead;		/* the engine does not answer any more */
	char features[512];	/* of HELLO */
	bool opened;
	int n_vocab, n_ctx, n_layer, n_embd;
	int32_t ids[CHECK_IDS_MAX];
	int n_ids;
	struct probe_answer base;	/* all positions of ids, one batch */
	bool has_base;
	struct probe_answer traced;	/* the same with all traces */
	bool has_trace;
	int n[CHECK_ABSENT + 1];	/* results so far */
	void (*say)(void *ctx, enum check_result r, const char *step, const char *text);
	void *ctx;
};

/* One line about a step. */
void check_say(struct engine_check *k, enum check_result r, const char *step, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* engine_check_basic.c: HELLO, OPEN and its failure, an unknown request, words. */
void check_hello(struct engine_check *k);
void check_refusals(struct engine_check *k);
void check_open(struct engine_check *k);
void check_words(struct engine_check *k);

/* engine_check_evaluate.c */
void check_positions(struct engine_check *k);	/* order, width, finite values; sets base */
void check_again(struct engine_check *k);	/* twice; one at a time; a shorter prompt */
void check_greedy(struct engine_check *k);
void check_less(struct engine_check *k);	/* logits=last, none */
void check_wrong_ids(struct engine_check *k);

/* engine_check_trace.c: only where HELLO names the feature. */
void check_traces(struct engine_check *k);
void check_splice(struct engine_check *k);
void check_replay(struct engine_check *k);

bool check_has(const struct engine_check *k, const char *feature);
/* Asks; a dead engine is a failure of the step and ends all further ones: false. */
bool check_ask(struct engine_check *k, const char *step, const struct wire_builder *b,
	       struct probe_answer *a);
/* An EVALUATE of the first n ids as far as the header; the caller adds keys, then the body. */
void check_begin(const struct engine_check *k, struct wire_builder *b, int n);
void check_body(const struct engine_check *k, struct wire_builder *b, int n);
/* Why these rows are not positions 0 … n−1 with finite logits; false when they are. */
bool check_rows_fault(const struct engine_check *k, const struct probe_answer *a, int n, char *out,
		      size_t size);
/* Worst NMSE of two answers' first n rows; 0 only when all bits are equal. */
double check_distance(const struct probe_answer *a, const struct probe_answer *b, int n,
		      int n_vocab);

#endif
