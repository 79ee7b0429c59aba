/*
 * Which ids a position sees, asked of any engine from outside: the prompt is evaluated, then
 * again with one id exchanged for another; a position whose logits changed in any bit sees that
 * place. Needs no traces. An engine that attends causally gives: position t sees ids 0 … t, the
 * whole lower triangle, none above it; a mask that is off by one, a window or padding shows at
 * its place.
 */
#ifndef ASSAY_MASKS_H
#define ASSAY_MASKS_H

#include "exchange.h"

#include <stdbool.h>
#include <stdint.h>

enum { MASKS_POSITIONS_MAX = 64 };

struct masks {
	int n;			/* positions asked: the first ones of the prompt */
	bool sees[MASKS_POSITIONS_MAX][MASKS_POSITIONS_MAX];	/* [position][id] */
};

/* n + 1 evaluations of the first n ids (at most MASKS_POSITIONS_MAX) by one worker. */
int masks_measure(struct masks *m, const char *engine, const struct exchange_setup *setup,
		  const char *model, const int32_t *ids, int n, struct err *e);

bool masks_causal(const struct masks *m, int *position, int *id); /* first place that is not */
/* First place where they differ, in order of positions. */
bool masks_equal(const struct masks *a, const struct masks *b, int *position, int *id);

#endif
