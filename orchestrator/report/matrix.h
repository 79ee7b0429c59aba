/*
 * Several engines on the same scenarios: who agrees with whom. A row of a summary is a pair of
 * references when its first engine is what another row of the same scenario was compared with:
 * such a pair tells about the references, so that it differs (exit 1, 2) is not the run's exit
 * code; that it failed is.
 *
 * An engine that took part in several comparisons of a scenario is evaluated once for all of them in
 * one run, but anew where a run was resumed or summaries are merged. Its logits must have had the
 * same digest each time where it computed the same numerics profile; where not, it differs from
 * itself and nothing said about it holds (EXIT_DIVERGED).
 */
#ifndef ASSAY_MATRIX_H
#define ASSAY_MATRIX_H

#include "summary.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

/* More than two engines in some scenario: only then there is anything to print. */
bool matrix_wanted(const struct summary *s);

/* Whether row i compares two references. */
bool matrix_is_pair(const struct summary *s, int i);

/* Row whose side (0 ours, 1 reference) has another digest than the same engine in an earlier row
 * of the same scenario; −1 none. */
int matrix_unsteady(const struct summary *s, int *side);

json_t *matrix_json(const struct summary *s);	/* one object per scenario */
void matrix_print(FILE *f, const struct summary *s, bool markdown);

#endif
