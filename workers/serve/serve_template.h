/* The TEMPLATE request answered from a GGUF file's metadata; a serve_template_fn. */
#ifndef ASSAY_SERVE_TEMPLATE_H
#define ASSAY_SERVE_TEMPLATE_H

#include "serve.h"

int serve_template(struct channel *c, const char *model_path, const struct wire_frame *f,
		   struct err *e);

#endif
