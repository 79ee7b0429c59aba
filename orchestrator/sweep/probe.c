#include "probe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int keep_values(float **values, int64_t have, const struct wire_frame *f, struct err *e)
{
	int64_t n = (int64_t)(f->body_bytes / sizeof(float));
	float *p;

	if (have + n > PROBE_VALUES_MAX)
		return err_set(e, EXIT_WORKER, "more than %d values of one tensor",
			       PROBE_VALUES_MAX);
	p = realloc(*values, (size_t)(have + n) * sizeof(float) + 1);
	if (!p)
		return err_set(e, EXIT_INTERNAL, "no memory");
	if (n)
		memcpy(p + have, f->body, (size_t)n * sizeof(float));
	*values = p;
	return 0;
}

static int keep_row(struct probe_answer *a, const struct wire_frame *f, struct err *e)
{
	struct probe_row *r;

	if (a->n_rows == PROBE_ROWS_MAX)
		return err_set(e, EXIT_WORKER, "more than %d positions were answered",
			       PROBE_ROWS_MAX);
	r = &a->rows[a->n_rows++];
	r->pos = (int)wire_get_int(f, "pos", -1);
	r->step = (int)wire_get_int(f, "step", -1);
	r->token = (int32_t)wire_get_int(f, "token", -1);
	r->n_values = (int)(f->body_bytes / sizeof(float));
	return keep_values(&r->values, 0, f, e);
}

static void read_record(struct probe_trace *t, const struct wire_frame *f)
{
	char stage[64] = "", shape[128] = "", *at = shape, *item;

	wire_get(f, "name", 0, t->r.name, sizeof(t->r.name));
	wire_get(f, "stage", 0, stage, sizeof(stage));
	wire_get(f, "dtype", 0, t->r.dtype, sizeof(t->r.dtype));
	wire_get(f, "blake3", 0, t->r.blake3, sizeof(t->r.blake3));
	wire_get(f, "shape", 0, shape, sizeof(shape));
	t->stage = trace_stage_by_name(stage);
	t->r.layer = (int)wire_get_int(f, "layer", -2);
	t->r.seq = (int)wire_get_int(f, "seq", 0);
	t->r.rms = wire_get_real(f, "rms", -1);
	t->r.num_elements = wire_get_int(f, "n", -1);
	while (*shape && t->r.n_dims < TRACE_DIMS_MAX && (item = strsep(&at, ",")))
		t->r.shape[t->r.n_dims++] = strtoll(item, NULL, 10);
	t->in_order = true;
}

static int keep_trace(struct probe_answer *a, const struct wire_frame *f, struct err *e)
{
	int64_t offset = wire_get_int(f, "offset", 0);
	struct probe_trace *t;
	int rc;

	if (offset == 0 || a->n_traces == 0) {
		if (a->n_traces == PROBE_TRACES_MAX)
			return err_set(e, EXIT_WORKER, "more than %d trace records",
				       PROBE_TRACES_MAX);
		t = realloc(a->traces, ((size_t)a->n_traces + 1) * sizeof(*t));
		if (!t)
			return err_set(e, EXIT_INTERNAL, "no memory");
		a->traces = t;
		t += a->n_traces++;
		memset(t, 0, sizeof(*t));
		read_record(t, f);
	}
	t = &a->traces[a->n_traces - 1];
	t->in_order = t->in_order && offset == t->n_got;
	rc = keep_values(&t->values, t->n_got, f, e);
	if (rc == 0)
		t->n_got += (int64_t)(f->body_bytes / sizeof(float));
	return rc;
}

static int on_frame(void *ctx, const struct wire_frame *f, struct err *e)
{
	struct probe_answer *a = ctx;

	if (f->type == WIRE_LOGITS)
		return keep_row(a, f, e);
	if (f->type == WIRE_TRACE)
		return keep_trace(a, f, e);
	if (!wire_terminal(f->type))
		return 0;
	a->type = f->type;
	snprintf(a->header, sizeof(a->header), "%.*s", (int)f->header_bytes, f->header);
	a->body = malloc(f->body_bytes + 1);
	if (!a->body)
		return err_set(e, EXIT_INTERNAL, "no memory");
	memcpy(a->body, f->body, f->body_bytes);
	a->body_bytes = f->body_bytes;
	if (f->type == WIRE_FAIL) {
		a->code = (int)wire_get_int(f, "code", -1);
		snprintf(a->sentence, sizeof(a->sentence), "%.*s", (int)f->body_bytes,
			 (const char *)f->body);
	}
	return 0;
}

int probe_ask(struct client *c, const struct wire_builder *request, struct probe_answer *a)
{
	struct err e = ERR_NONE;
	int rc;

	memset(a, 0, sizeof(*a));
	rc = client_call(c, request, on_frame, a, &e);
	if (rc < 0 && a->type != WIRE_FAIL) {
		a->type = 0;
		a->code = e.code;
		snprintf(a->sentence, sizeof(a->sentence), "%.500s", e.msg);
		return rc;
	}
	return 0;
}

void probe_free(struct probe_answer *a)
{
	for (int i = 0; i < a->n_rows; i++)
		free(a->rows[i].values);
	for (int i = 0; i < a->n_traces; i++)
		free(a->traces[i].values);
	free(a->traces);
	free(a->body);
	memset(a, 0, sizeof(*a));
}

static struct wire_frame header_of(const struct probe_answer *a)
{
	const char *end = strrchr(a->header, '\n');	/* a cut last line does not count */

	return (struct wire_frame){.header = a->header,
				   .header_bytes = end ? (size_t)(end + 1 - a->header) : 0};
}

int64_t probe_int(const struct probe_answer *a, const char *key, int64_t absent)
{
	struct wire_frame f = header_of(a);

	return wire_get_int(&f, key, absent);
}

bool probe_text(const struct probe_answer *a, const char *key, char *out, size_t size)
{
	struct wire_frame f = header_of(a);

	return wire_get(&f, key, 0, out, size);
}

const struct probe_trace *probe_find(const struct probe_answer *a, int stage, int layer)
{
	for (int i = 0; i < a->n_traces; i++)
		if (a->traces[i].stage == stage && a->traces[i].r.layer == layer)
			return &a->traces[i];
	return NULL;
}
