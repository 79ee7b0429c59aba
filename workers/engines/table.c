/* What assay's own worker is linked with. */
#include "engines/measure.h"
#include "serve/serve_template.h"

extern const struct engine_ops engine_native, engine_oracle;

const struct engine_ops *const engine_table[] = {&engine_native, &engine_oracle, NULL};

const struct worker_traits worker_traits = {
	.stack_bytes = 0,
	.render = serve_template,
	.measure = measure_answer,
};
