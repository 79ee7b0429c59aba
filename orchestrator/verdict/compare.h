/*
 * From the metrics of single positions to one verdict. Positions come in order, once each; what
 * is kept is one row of numbers per position, never logits.
 */
#ifndef ASSAY_COMPARE_H
#define ASSAY_COMPARE_H

#include "err.h"
#include "metrics.h"
#include "thresholds.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum verdict {
	VERDICT_NOT_RUN,	/* exit 7 */
	VERDICT_IDENTICAL,	/* 0 */
	VERDICT_EQUIVALENT,	/* 0 */
	VERDICT_WITHIN_NOISE,	/* 0 */
	VERDICT_DRIFT,		/* 0, with --strict 1: inside the limits, outside the noise */
	VERDICT_DIVERGED,	/* 1 */
	VERDICT_TOKENS_DIFFER,	/* 2 */
	VERDICT_NOT_COMPARABLE,	/* 7: the reason says why nothing could be compared */
	VERDICT_CRASHED,	/* 6 */
	VERDICT_TIMED_OUT,	/* 6 */
	VERDICT_FAILED,		/* the failing side's own exit code (3, 4, 5, 10, 16, …) */
};

const char *verdict_name(enum verdict v);
int verdict_exit_code(enum verdict v);	/* FAILED: EXIT_INFERENCE */

/* Which of two exit codes is worse in a sweep: 1, 2, 6, then any other failure, then 7, then 0. */
int verdict_worse(int a, int b);

struct compare_row {		/* one position */
	int32_t pos, step;	/* step 0 = prefill */
	int32_t top1_ours, top1_ref;
	double cosine, nmse, max_abs, l2, kl, margin_ref, kendall;
	double top5_agree;
	uint32_t max_ulp;
	bool bits_equal, inside_limit, inside_noise;
};

struct comparison {
	struct thresholds thresholds;
	struct compare_row *rows;	/* [n] */
	int n, cap;
	int n_bits_equal, n_top1, n_decode;
	int first_different;		/* row with other bits, −1 */
	int first_beyond_noise;		/* row, −1 */
	int first_beyond_limit;		/* row, −1 */
	int worst;			/* row of the greatest NMSE, −1 */
	double min_cosine, max_nmse, max_abs, max_kl, max_l2;
	double sum_cosine, sum_kl, sum_top5;
	uint32_t max_ulp;
	int64_t n_nonfinite_ours, n_nonfinite_ref;

	/* greedy decoding: equal up to flip_step (0 = first id after the prompt), −1 = all equal */
	int n_greedy;			/* ids compared, the flipped one included */
	int flip_step;
	int32_t flip_ours, flip_ref;
	double flip_margin;		/* by which the reference preferred its own id */
	double flip_error;		/* measured so far: max |Δ| of all positions */
	bool flip_is_tie;		/* margin ≤ error in a position inside the limit */
};

void compare_init(struct comparison *c, const struct thresholds *t);
/*
 * token_*: id chosen after this position by each side, −1 where none is chosen. After a flip the
 * sides read different tokens: later positions are not comparable and ignored; returns false then.
 */
bool compare_add(struct comparison *c, int pos, int step, const struct metrics *m,
		 int32_t token_ours, int32_t token_ref);
enum verdict compare_decide(const struct comparison *c);
void compare_free(struct comparison *c);	/* accepts zeroed */

/* One sentence for people: what was found, where, by how much. */
void compare_explain(const struct comparison *c, char *out, size_t size);

#endif
