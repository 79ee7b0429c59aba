/* Between exchange.c (the order of things) and exchange_logits.c (evaluating and comparing). */
#ifndef ASSAY_EXCHANGE_INTERNAL_H
#define ASSAY_EXCHANGE_INTERNAL_H

#include "exchange.h"

/* The exchange is over, once: keeps the workers' facts and calls x->over. */
void exchange_end(struct exchange *x, struct lane *l, enum verdict v, int exit_code,
		  const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* A side did what the protocol does not allow: CRASHED. */
void exchange_broken(struct exchange *x, struct lane *l, int side, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* Finishes the frame, sends it and counts one more answer to wait for. */
void exchange_ask(struct exchange *x, struct lane *l, int side, struct wire_builder *b);

void exchange_ask_logits(struct exchange *x, struct lane *l);	/* EVALUATE to all sides */
void exchange_take_logits(struct exchange *x, struct lane *l, int side,
			  const struct wire_frame *f);
void exchange_take_done(struct exchange *x, struct lane *l, int side, const struct wire_frame *f);
void exchange_judge(struct exchange *x, struct lane *l);	/* all sides are done */

#endif
