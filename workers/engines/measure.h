/* Answers MEASURE (wire.h) with kernels/roofline.h; linked into assay's own worker only. */
#ifndef ASSAY_MEASURE_H
#define ASSAY_MEASURE_H

#include "serve/channel.h"

int measure_answer(struct channel *c, const struct wire_frame *f, struct err *e);

#endif
