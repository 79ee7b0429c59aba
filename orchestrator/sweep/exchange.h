/*
 * One scenario put to the one or two workers of a lane: open, template, tokens, the gate, then
 * logits compared position by position.
 *
 *	OPEN		both sides at once, unless the worker has the model open; those that announce
 *			"vocab_only" open just that where there is text to tokenize
 *	TEMPLATE	one side that can; given ids need neither template nor tokenizer
 *	TOKENIZE	every side that can; ids differ: the pieces around the first difference
 *			are asked for and the exchange ends. EVALUATE is never sent then
 *	LOAD		OPEN with weights, where only the vocabulary is open so far
 *	EVALUATE	both sides at once. A position is compared as soon as both have it; a side
 *			that is ahead is paused, so at most EXCHANGE_AHEAD positions are held
 *	DETOKENIZE	the texts of what each side decoded, where it can
 *
 * Knows nothing of files, receipts or the loop. With one side (no reference) the same steps run
 * and nothing is compared. Other exchanges may share a worker (pool.h): they must open it alike.
 */
#ifndef ASSAY_EXCHANGE_H
#define ASSAY_EXCHANGE_H

#include "pool.h"
#include "hasher.h"
#include "scenario.h"
#include "verdict/compare.h"

#include <stdbool.h>
#include <stdint.h>

enum { EXCHANGE_AHEAD = 2, EXCHANGE_OURS = 0, EXCHANGE_REF = 1, EXCHANGE_OVERRIDES_MAX = 32 };

struct exchange;

/* The same for every scenario of a run: what OPEN and EVALUATE say. Borrowed. */
struct exchange_setup {
	const char *model, *tokenizer;		/* tokenizer NULL = the model's own */
	const char *model_ref;			/* the reference's, NULL = the same file */
	const char *profile, *isa, *kv;		/* NULL = the engine's; profile goes to native */
	const char *template_name;		/* where the scenario names none */
	const char *thresholds_text;		/* JSON of the threshold sets */
	size_t thresholds_bytes;
	const char *thresholds_path;		/* its name */
	const char *thresholds_set;		/* where the scenario names none */
	char weights[256]; /* the model's "type:count …"; "" = as engines say */
	char arch[64];				/* general.architecture; "" = as engines say */
	double cos_tol;				/* > 0: used instead of a set */
	int threads, ctx, ubatch, batch;	/* 0 = the engine's */
	int max_positions;			/* > 0: only so many ids of the prompt */
	int silence_s;				/* of an engine asked for operations; 0 = an hour */
	bool reproduce_defects;			/* native: the reference's known defects too */
	bool only_tokens;			/* end after the gate */
	bool only_last;				/* logits of the prompt's last position alone */
	const char *overrides[EXCHANGE_OVERRIDES_MAX];
	int n_overrides;
	/* Sees every compared position's logits once, [n_vocab] of both sides; or NULL. */
	void (*on_logits)(void *ctx, const struct exchange *x, int pos, const struct metrics *m,
			  const float *ours, const float *ref);
	void *logits_ctx;
	const char *overrides_ref[EXCHANGE_OVERRIDES_MAX];	/* for the reference only, too */
	int n_overrides_ref;
	enum exchange_local {
		EXCHANGE_LOCAL_AUTO,	/* where short and not IDENTICAL, never against oracle */
		EXCHANGE_LOCAL_ALWAYS,
		EXCHANGE_LOCAL_NEVER,
	} local;			/* the check of verdict/local.h */
};

struct exchange_side {
	const char *engine;		/* borrowed from the job */
	bool is_reference;		/* reads model_ref and overrides_ref */
	char *hello, *opened, *done;	/* header lines of these frames, or NULL */
	int32_t *ids;			/* [n_ids] of the prompt as this side tokenized it */
	int n_ids;
	bool tokenized;			/* false: it has no tokenizer and took the other's ids */
	char *identity;			/* of a reference (engines.h), or NULL */
	char *pieces;			/* around the first difference: "[id] text …"; or NULL */
	char *text;			/* of greedy, as this side reads it; or NULL */
	int32_t *greedy;		/* [n_greedy] ids it chose after the prompt */
	int n_greedy;
	int n_positions;		/* LOGITS frames */
	int64_t eval_us, peak_rss;
	int n_vocab;
	struct held {			/* positions that wait for the other side */
		float *values;		/* [n_vocab] */
		int step;
		int32_t token;
	} held[EXCHANGE_AHEAD];
	int n_held;
	bool finished;			/* DONE came */
};

struct exchange {
	const struct exchange_setup *setup;
	const struct scenario *scenario;
	struct exchange_side sides[POOL_SIDES];
	int n_sides;
	char profile[64];		/* native's where the setup names none; "" = the default */
	int asked;			/* answers that the present step still waits for */
	enum exchange_step {
		EXCHANGE_OPEN,
		EXCHANGE_TEMPLATE,
		EXCHANGE_TOKENIZE,
		EXCHANGE_PIECES,
		EXCHANGE_LOAD,
		EXCHANGE_EVALUATE,
		EXCHANGE_TEXT,
		EXCHANGE_OVER,
	} step;

	char *prompt;			/* formatted */
	size_t prompt_bytes;
	char template_name[32], template_why[256];
	bool add_bos, parse_special;
	int first_difference;		/* index of the first differing id, −1 */
	char cause[512];		/* likely cause and fix of differing tokens; "" */

	struct comparison comparison;
	enum verdict verdict;
	int exit_code;
	int failed_side; /* whose fault CRASHED, TIMED_OUT or FAILED is; −1 both, none */
	char explanation[ERR_MSG_MAX];	/* one sentence */
	int64_t compare_us;		/* spent in comparing, and waiting for the hasher */
	struct hasher *hasher;		/* over each side's logits in order, little-endian float32 */

	void (*over)(struct exchange *x, struct lane *l);	/* called once, at the end */
	void *ctx;
};

/* Fills x; engine[1] NULL = one side; native takes the profile of the other side, where that is
 * known. over must end with lane_finish. */
void exchange_init(struct exchange *x, const struct exchange_setup *setup,
		   const struct scenario *s, const char *const engine[POOL_SIDES]);

/* The pool's callbacks, job = the exchange. */
void exchange_begin(void *job, struct lane *l);
void exchange_frame(void *job, struct lane *l, int side, const struct wire_frame *f);
void exchange_trouble(void *job, struct lane *l, int side, const char *sentence);
void exchange_late(void *job, struct lane *l);

void exchange_free(struct exchange *x);	/* accepts zeroed */

/* Position of the first logits vector: 0, or the prompt's last with only_last. */
int exchange_first_position(const struct exchange *x);

/* Whether id is not the first maximum of these logits, which a greedy choice is, and why in words. */
bool exchange_chose_badly(const float *logits, int n_vocab, int32_t id, char *why, size_t size);

/* The value of a key in header lines; false when absent or lines is NULL. */
bool exchange_fact(const char *lines, const char *key, char *out, size_t size);
/* Whether a HELLO offers the feature. */
bool exchange_says(const char *hello, const char *feature);
int64_t exchange_fact_int(const char *lines, const char *key, int64_t absent);

#endif
