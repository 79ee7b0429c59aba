/*
 * The local check of verdict/local.h on real engines: one engine's trace, fed operation by
 * operation to an engine that can replay.
 *
 * A trace comes in execution order, so an operation's inputs are there when its result comes.
 * What is kept is one layer, the stream that left the one before, and keys and values of all
 * layers: n_layer · positions · 2 · n_kv_head · d floats and a few MiB more, whatever the length
 * of the run.
 */
#ifndef ASSAY_SWEEP_LOCAL_H
#define ASSAY_SWEEP_LOCAL_H

#include "digest.h"
#include "gguf.h"
#include "side.h"
#include "verdict/local.h"

struct local_kept {
	float *x;		/* [n], owned */
	int64_t n, cap;
	int rows;		/* keys and values: of all calls so far */
	int call;		/* number of the call that it belongs to */
};

enum { LOCAL_PROFILES = 3 };

/* One operation with all that it read and gave: what a caller may look at while it is there. */
struct local_seen {
	bool own;			/* of pass 2 */
	struct side_op op;		/* inputs borrow the feed */
	const float *got;		/* [n] of the trace */
	const float *replayed;		/* [n] */
	int64_t n;
	const struct local_row *row;
};

struct local_feed {
	struct side *replayer;
	struct local_pass *pass;
	const int32_t *ids;		/* [n_ids] all the ids the run reads, decoded ones too */
	int n_ids;
	int n_layer, call, pos0, n_rows, next_pos;
	bool own;
	int n_positions;		/* of the whole run, for the bounds */
	uint64_t *has;			/* [n_layer + 1] stages of each layer in this call */
	const uint64_t *expected;	/* the same, what must be there; NULL = not known */
	struct local_kept (*kept)[STAGE_COUNT];	/* [n_layer + 1], −1 first */
	const struct gguf *weights;	/* types and shapes, for the bounds; NULL = not known */
	struct digest traced, answered;	/* over all logits, as traced and as answered */
	int n_vocab;
	/* beyond its bound a product is computed again (local_again.h) by native, opened when wanted */
	const struct local_job *again;	/* NULL = never */
	bool other_profiles;
	struct side other[LOCAL_PROFILES + 1];	/* the last: native as it is */
	bool other_asked[LOCAL_PROFILES + 1];
	int (*on_seen)(void *ctx, const struct local_seen *seen, struct err *e); /* or NULL */
	void *ctx;
};

int local_feed_init(struct local_feed *f, struct side *replayer, struct local_pass *pass,
		    const int32_t *ids, int n_ids, struct err *e);
/* The next tensor. A side_trace_fn: ctx is the feed. */
int local_feed_add(void *feed, const struct trace_record *r, const float *values, struct err *e);
/* Stages that never came are missing. */
void local_feed_end(struct local_feed *f);
void local_feed_free(struct local_feed *f);	/* accepts zeroed */

struct local_job {
	const struct exchange_setup *setup;
	const char *ours, *reference;	/* the one that replays, the one that is judged */
	const char *label[2];		/* how the two are called in the tables; NULL = by name */
	bool swapped;			/* ours is the setup's reference */
	bool both_references;		/* both read the reference's model */
	const int32_t *ids;		/* [n_ids] of the prompt */
	int n_ids;
	const int32_t *greedy[2];	/* [n_greedy[i]] what ours and the reference decoded */
	int n_greedy[2];
	const char *logits_sha256[2];	/* of the runs that were compared; NULL = not known */
	const char *reference_trace;	/* directory of a trace instead of the engine, or NULL */
	int (*on_seen)(void *ctx, const struct local_seen *seen, struct err *e); /* or NULL */
	void *ctx;
};

/* Both passes. Negative only when an engine failed; why there is no table is in out->reason. */
int local_run(struct local_result *out, const struct local_job *j, struct err *e);

bool local_two_files(const struct exchange_setup *u);

/*
 * Hashes of all dequantised weights of the two files. *differ: the names of those that differ, a
 * line each, NULL when there are none; caller frees.
 */
int local_weights_equal(const struct exchange_setup *u, bool *equal, char **differ, struct err *e);
/* The same of one file as this engine reads it, where it can say that, against our reading. */
int local_reader_equal(const struct exchange_setup *u, const char *engine, bool reference,
		       char **differ, struct err *e);

#endif
