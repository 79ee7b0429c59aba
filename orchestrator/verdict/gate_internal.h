/* What the files of the gates share: reading a receipt and noting what is wrong with it. */
#ifndef ASSAY_GATE_INTERNAL_H
#define ASSAY_GATE_INTERNAL_H

#include "gate.h"

#include <stdint.h>

struct gating {
	const json_t *r;		/* the receipt */
	const struct gate_context *ctx;
	struct gate_report *out;
	enum gate_id id;		/* of the gate that runs */
};

void gate_fail(struct gating *g, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void gate_unchecked(struct gating *g, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* "a.b.c" from an object; NULL when absent. */
const json_t *gate_at(const json_t *o, const char *path);
const char *gate_text(const json_t *o, const char *path);	/* "" when absent */
int64_t gate_int(const json_t *o, const char *path);		/* 0 when absent */
/* a receipt may claim any number: arithmetic on what it claims stops at the largest one */
int64_t gate_sum(int64_t a, int64_t b);
int64_t gate_product(int64_t a, int64_t b);
double gate_real(const json_t *o, const char *path);		/* strings "NaN", "Infinity" too */

/* Every side that evaluated: name "ours" or "reference". */
const json_t *gate_side(const struct gating *g, const char *name);

bool gate_foreign(const json_t *side);		/* exec: or recorded:, somebody else's words */
bool gate_own_engine(const json_t *side);	/* native or oracle */

/* gate_sides.c: what each side says of itself, and what ties the sides together */
void gate_side_facts(struct gating *g, const char *name);
void gate_template_form(struct gating *g);
void gate_ids_beside(struct gating *g);
void gate_texts_agree(struct gating *g, const json_t *a, const json_t *b);
/* Whether our engine can have run this instruction set with this numerics profile. */
bool gate_machine_words(bool native, const char *isa, const char *profile);
void gate_times(struct gating *g);

void gate_schema_form(struct gating *g);	/* schema and seal */
void gate_model(struct gating *g);
void gate_metrics(struct gating *g);
void gate_local(struct gating *g);	/* the table that EQUIVALENT stands on */
void gate_compute_path(struct gating *g);
void gate_kernels(struct gating *g);
void gate_weights(struct gating *g);

#endif
