/*
 * What a bench receipt claims, recomputed: form, seal, statistics of every series, ratios, and that
 * no engine was faster than the machine it measured.
 */
#ifndef ASSAY_GATE_BENCH_H
#define ASSAY_GATE_BENCH_H

#include "gate.h"

/* The same report as gate_run's: gates that a bench has nothing for pass. */
void gate_bench_run(const json_t *receipt, const struct gate_context *ctx, struct gate_report *out);

#endif
