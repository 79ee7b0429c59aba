/*
 * Named sets of thresholds: lockfiles/thresholds.json (carried in the program) or a file of the
 * user's in the same form:
 *
 *	{"schema_version": "1.0.0", "sets": {NAME: {"origin": TEXT, "rules": [RULE, …]}}}
 *	RULE	{"weights": "float|quantised|any|TYPE", "arch": NAME, "origin": TEXT,
 *		 "noise": LIMITS, "limit": LIMITS}; arch, origin and noise may be absent. TYPE is
 *		what most tensors beside the f32 ones are of, such as "i2_s"
 *	LIMITS	any of min_cosine, max_nmse, max_abs_diff, max_kl per position, min_top1, min_top5
 *		as fractions over all positions, "bits": true
 *
 * The first rule whose weights and architecture fit counts; its origin stands for the set's.
 * Beyond `limit` two engines have diverged; inside
 * `noise` they differ by no more than the reference from itself; between the two lies drift. A
 * rule without `noise` has no drift. Unknown keys are refused.
 *
 * "auto" is no set: it stands for "bits" where both sides say that they compute the same numerics
 * profile, for "compact" where the logits of one are a recording's compact form of that profile,
 * for "oracle" where one side is float64, else for "default".
 */
#ifndef ASSAY_THRESHOLDS_H
#define ASSAY_THRESHOLDS_H

#include "err.h"
#include "metrics.h"

#include <stdbool.h>

enum { THRESHOLDS_NAME_MAX = 64, THRESHOLDS_ORIGIN_MAX = 512 };

struct limits {			/* NaN = not limited */
	double min_cosine, max_nmse, max_abs, max_kl;	/* per position */
	double min_top1, min_top5;			/* over all positions */
	bool bits;
};

struct thresholds {
	char set[THRESHOLDS_NAME_MAX];
	char origin[THRESHOLDS_ORIGIN_MAX];
	char weights[16];		/* of the rule that was taken */
	struct limits noise, limit;
};

/*
 * text: the file's JSON, path: its name for sentences. weights: the engine's own list, such as
 * "i2_s:210 f16:1 f32:121"; anything beside f32, f16 and bf16 is quantised, "" counts as quantised.
 * arch: general.architecture, "" unknown. weights NULL: only whether the set is there; no limits.
 * EXIT_USAGE names an unknown set and the known ones, or line and reason of a broken file.
 */
int thresholds_load(struct thresholds *t, const char *text, size_t bytes, const char *path,
		    const char *set, const char *weights, const char *arch, struct err *e);

/* The type that most tensors are of, those of f32 not counted where there are others; "" = none. */
void thresholds_main_type(const char *weights, char *out, size_t size);

/* The set that "auto" means for two sides' profiles ("" when a side does not say); else `set`. */
const char *thresholds_choose(const char *set, const char *profile_a, const char *profile_b);

/* Limits nothing: what stands in a receipt until a set was chosen. */
extern const struct thresholds thresholds_none;

/* A set of one number, as --cos-tol gives it. */
void thresholds_cosine(struct thresholds *t, double min_cosine);

/* One position against the limits that are per position. */
bool limits_hold(const struct limits *l, const struct metrics *m);

#endif
