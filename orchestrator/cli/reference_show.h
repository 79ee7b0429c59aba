/* How the commands that build references tell about it. */
#ifndef ASSAY_REFERENCE_SHOW_H
#define ASSAY_REFERENCE_SHOW_H

#include "provision/reference_build.h"

#include <stdbool.h>

/* Progress and notes on standard error. */
void reference_show_setup(struct reference_build_options *o);
/* What came of it, on standard output. */
void reference_show_result(const struct reference_build_options *o,
			   const struct reference_build_result *r, bool json);

#endif
