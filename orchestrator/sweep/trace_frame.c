#include "trace_frame.h"

#include <stdbool.h>
#include <stdlib.h>

static bool outside_layers(enum trace_stage s)
{
	return s == STAGE_EMBEDDINGS || s == STAGE_OUTPUT_NORM || s == STAGE_LOGITS;
}

const char *trace_record_fault(const struct trace_record *r)
{
	int64_t total = 1;

	if (r->n_dims < 1)
		return "its shape= has no dimension";
	for (int i = 0; i < r->n_dims; i++) {
		if (r->shape[i] < 1 || r->shape[i] > TRACE_FRAME_VALUES_MAX / total)
			return "its shape= has a dimension below 1 or more values than fit";
		total *= r->shape[i];
	}
	if (total != r->num_elements)
		return "its n= is not the product of its shape=";
	if (outside_layers(r->stage) ? r->layer != -1 : r->layer < 0)
		return "its layer= does not fit its stage: -1 for embeddings, output_norm and logits, "
		       "0 and up for all others";
	return NULL;
}

int trace_frame_read(struct trace_record *r, const struct wire_frame *f, const char *engine,
		     struct err *e)
{
	char stage[32] = "", shape[128] = "", *end;
	const char *fault;

	*r = (struct trace_record){.layer = (int)wire_get_int(f, "layer", -1),
				   .seq = (int)wire_get_int(f, "seq", 0),
				   .rms = wire_get_real(f, "rms", 0),
				   .num_elements = wire_get_int(f, "n", 0)};
	wire_get(f, "stage", 0, stage, sizeof(stage));
	wire_get(f, "name", 0, r->name, sizeof(r->name));
	wire_get(f, "dtype", 0, r->dtype, sizeof(r->dtype));
	wire_get(f, "blake3", 0, r->blake3, sizeof(r->blake3));
	wire_get(f, "shape", 0, shape, sizeof(shape));
	if (trace_stage_by_name(stage) < 0)
		return err_set(e, EXIT_WORKER,
			       "engine %.200s: trace record \"%.60s\" is of stage \"%s\", which does not "
			       "exist; docs/engines.md names the stages",
			       engine, r->name, stage);
	r->stage = (enum trace_stage)trace_stage_by_name(stage);
	for (const char *p = shape; *p && r->n_dims < TRACE_DIMS_MAX; p = *end ? end + 1 : end) {
		r->shape[r->n_dims] = strtoll(p, &end, 10);
		if (end == p)
			break;
		r->n_dims++;
	}
	fault = trace_record_fault(r);
	if (fault)
		return err_set(e, EXIT_WORKER,
			       "engine %.200s: trace record \"%.60s\" (stage %s, layer %d, shape %s, n=%lld): "
			       "%s",
			       engine, r->name, stage, r->layer, shape, (long long)r->num_elements,
			       fault);
	return 0;
}
