/*
 * The numbers of generated models: from (seed, tensor name) alone, by exactly rounded operations,
 * so that they are the same on every machine and in every weight type that can hold them.
 */
#ifndef ASSAY_FIXTURE_VALUES_H
#define ASSAY_FIXTURE_VALUES_H

#include "gguf_write.h"
#include "weight_type.h"

enum fixture_values {
	VALUES_TERNARY, /* −s, 0, +s in equal parts; a product keeps the size of its input */
	VALUES_NORMAL,  /* bell-shaped around 0 with deviation `sigma` */
	VALUES_GAMMA,   /* bell-shaped around `centre` with deviation `sigma` */
	VALUES_GIVEN,   /* `given`, one row */
};

struct fixture_tensor {
	char name[64];
	const struct weight_type *type;
	int n_dims;
	int64_t ne[2];
	enum fixture_values values;
	float sigma, centre;
	const float *given;
};

/* Writes the tensor's bytes; -EXIT_INTERNAL when out of memory. */
int fixture_values_write(struct gguf_writer *w, const struct fixture_tensor *t, uint64_t seed,
			 struct err *e);

#endif
