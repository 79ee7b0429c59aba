/*
 * How far an engine is from itself. One evaluation of all scenarios with every thread and the
 * whole prompt at once is recorded; then the same engine runs again in other ways and is compared
 * with that: the same once more, fewer threads, one position at a time, calls of other sizes,
 * other micro-batches. What comes out is a rule of thresholds for this architecture and type of
 * weights (verdict/thresholds.h):
 *
 *	noise	CALIBRATE_MARGIN times the greatest NMSE, |difference| and KL of any position, rounded
 *		up to two digits; "bits": true when every way gave the same bits
 *	limit	the limit of the set "default" for such weights, or CALIBRATE_LIMIT times the noise's
 *		NMSE where that is more
 */
#ifndef ASSAY_CALIBRATE_H
#define ASSAY_CALIBRATE_H

#include "exchange.h"
#include "scenario.h"

#include <stdbool.h>
#include <stdint.h>

enum { CALIBRATE_WAYS_MAX = 24, CALIBRATE_MARGIN = 2, CALIBRATE_LIMIT = 2 };

struct calibrate_way {
	char name[48];			/* "threads 1", "batch 1", "ubatch 32", … */
	int threads, batch, ubatch;	/* 0 = the engine's */
	int n_positions, n_bits_equal, n_flips;
	double max_nmse, max_abs, max_kl, min_cosine;
	int64_t eval_us;
};

struct calibrate_options {
	const char *engine;
	struct exchange_setup setup;	/* model …; threads = the most that are tried */
	const struct scenario_set *scenarios;
	const char *default_sets;	/* JSON text of the program's own sets */
	size_t default_bytes;
	const char *version, *build;
	void (*on_way)(void *ctx, const struct calibrate_way *w);
	void *ctx;
};

struct calibrate_result {
	struct calibrate_way ways[CALIBRATE_WAYS_MAX];
	int n_ways, n_positions;	/* of the first evaluation */
	double max_nmse, max_abs, max_kl;	/* of all ways */
	double noise_nmse, noise_abs, noise_kl, limit_nmse;
	bool bits;			/* every way gave the same bits */
	char weights[32], arch[64];	/* of the rule */
	char origin[512];		/* how it was measured, one sentence */
};

int calibrate_run(const struct calibrate_options *o, struct calibrate_result *r, struct err *e);

/*
 * Puts the rule into set `name` of a thresholds file, in place of one for the same weights and
 * architecture; makes file and set where they are not there. EXIT_USAGE for a file that is none,
 * and for the name of a set of the program's own.
 */
int calibrate_write(const struct calibrate_result *r, const struct calibrate_options *o,
		    const char *path, const char *name, struct err *e);

#endif
