#include "engine_call.h"

#include "sweep/trace_frame.h"
#include "term.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct run {
	struct cli *cli;
	FILE *lines;		/* JSON lines: standard output or DIR/trace.jsonl */
	FILE *values;		/* DIR/values.f32 or NULL */
	int64_t written;	/* float32 values in it so far */
	int records;
	const char *engine;
	struct trace_record now;	/* the one that comes */
	int64_t left;		/* of its values, where they are asked for */
};

static json_t *shape_of(const struct trace_record *t)
{
	json_t *shape = json_array();
	for (int i = 0; i < t->n_dims; i++)
		json_array_append_new(shape, json_integer(t->shape[i]));
	return shape;
}

static int unfinished(const struct run *r, struct err *e)
{
	return err_set(e, EXIT_WORKER, "engine %.200s: trace %.60s came with other values than its n=%lld says",
		       r->engine, r->now.name, (long long)r->now.num_elements);
}

static int write_values(struct run *r, const struct wire_frame *f, struct err *e)
{
	size_t n = f->body_bytes / sizeof(float);
	if (fwrite(f->body, sizeof(float), n, r->values) != n)
		return err_set(e, EXIT_NO_SPACE, "the trace's values cannot be written");
	r->written += (int64_t)n;
	return 0;
}

static int write_record(struct run *r, struct err *e)
{
	const struct trace_record *t = &r->now;
	json_t *j = json_pack("{s:s, s:s, s:i, s:i, s:s, s:o, s:s, s:I}", "name", t->name, "stage",
			      trace_stage_name(t->stage), "layer", t->layer, "seq", t->seq, "dtype",
			      t->dtype, "shape", shape_of(t), "blake3", t->blake3, "num_elements",
			      (json_int_t)t->num_elements);
	if (!j)
		return err_set(e, EXIT_WORKER, "a trace record of engine %.200s is cut within a letter",
			       r->engine);
	json_t *number = json_real(t->rms);	/* NULL when it is not finite */
	json_object_set_new(j, "rms", number ? number : json_string(t->rms > 0 ? "inf" : "nan"));
	if (r->values)
		json_object_set_new(j, "values_offset", json_integer(r->written));
	json_dumpf(j, r->lines, JSON_SORT_KEYS | JSON_COMPACT);
	json_decref(j);
	r->records++;
	return putc('\n', r->lines) == EOF ?
		       err_set(e, EXIT_NO_SPACE, "the trace cannot be written") : 0;
}

/* One line per record; parts of the same record only add values. */
static int on_frame(void *ctx, const struct wire_frame *f, struct err *e)
{
	struct run *r = ctx;
	int64_t offset = wire_get_int(f, "offset", 0), n = (int64_t)(f->body_bytes / sizeof(float));
	int rc = 0;
	if (f->type == WIRE_DONE && r->left)
		return unfinished(r, e);
	if (f->type != WIRE_TRACE)
		return 0;
	if (offset == 0) {
		if (r->left)
			return unfinished(r, e);
		rc = trace_frame_read(&r->now, f, r->engine, e);
		if (rc == 0)
			rc = write_record(r, e);
		r->left = rc == 0 && r->values ? r->now.num_elements : 0;
	}
	if (rc != 0 || !r->values)
		return rc;
	if (f->body_bytes % sizeof(float) || n > r->left || n == 0 ||
	    offset != r->now.num_elements - r->left)
		return unfinished(r, e);
	r->left -= n;
	return write_values(r, f, e);
}

static FILE *open_in(const char *dir, const char *file, struct err *e)
{
	char path[4200];
	snprintf(path, sizeof(path), "%.4000s/%s", dir, file);
	FILE *f = fopen(path, "wb");
	if (!f)
		err_set(e, EXIT_USAGE, "%s cannot be written: %s", path, strerror(errno));
	return f;
}

static int open_files(struct run *r, const char *dir, struct err *e)
{
	r->lines = stdout;
	if (!dir)
		return cli_flag(r->cli, "values")
			       ? err_set(e, EXIT_USAGE, "--values needs --out DIR to write them to")
			       : 0;
	if (mkdir(dir, 0777) != 0 && errno != EEXIST)
		return err_set(e, EXIT_USAGE, "%s cannot be made: %s", dir, strerror(errno));
	r->lines = open_in(dir, "trace.jsonl", e);
	if (r->lines && cli_flag(r->cli, "values"))
		r->values = open_in(dir, "values.f32", e);
	return e->code ? -e->code : 0;
}

static int close_files(struct run *r, int rc, struct err *e)
{
	bool bad = r->values && fclose(r->values) != 0;
	if (r->lines && r->lines != stdout)
		bad |= fclose(r->lines) != 0;
	return bad && rc == 0 ? err_set(e, EXIT_NO_SPACE, "the trace cannot be written") : rc;
}

static int evaluate(struct run *r, struct engine_call *g, struct err *e)
{
	engine_call_begin(g);
	wire_put(&g->request, "logits", "%s", cli_flag(r->cli, "last") ? "last" : "all");
	wire_put(&g->request, "greedy", "%" PRId64, cli_int(r->cli, "greedy"));
	wire_put(&g->request, "single", "%d", cli_flag(r->cli, "single"));
	wire_put(&g->request, "batch", "%" PRId64, cli_int(r->cli, "batch"));
	wire_put(&g->request, "trace", "%s", cli_str(r->cli, "stages"));
	wire_put(&g->request, "values", "%d", r->values != NULL);
	return engine_call_run(g, on_frame, r, e);
}

static int run_trace(struct cli *c, struct err *e)
{
	struct engine_call g;
	struct run r = {.cli = c, .engine = cli_str(c, "engine")};
	const char *dir = cli_str(c, "out");
	if (cli_int(c, "greedy") < 0 || cli_int(c, "greedy") > 1 << 20)
		return err_set(e, EXIT_USAGE, "--greedy is a count");
	int rc = engine_call_open(&g, c, (int)cli_int(c, "greedy"), e);
	if (rc != 0)
		return rc;
	rc = open_files(&r, dir, e);
	if (rc == 0)
		rc = evaluate(&r, &g, e);
	rc = close_files(&r, rc, e);
	if (rc == 0 && r.records == 0)
		rc = err_set(e, EXIT_NOTHING_RAN, "engine %s traced nothing", g.engine);
	if (rc == 0 && dir)
		term_note("%d records in %s", r.records, dir);
	engine_call_close(&g);
	return rc;
}

const struct command cmd_trace = {
	.name = "trace",
	.group = "Models",
	.summary = "every intermediate tensor of a run: name, shape, hash, root mean square",
	.positional = "[PROMPT]",
	.examples =
		"  assay trace --model model.gguf \"2+2=\"\n"
		"  assay trace --model model.gguf --tokens 1,2,3 --stages ffn_act,layer_out --out DIR --values\n",
	.details =
		"One JSON object per line: name, stage, layer (-1 for embeddings, output_norm and "
		"logits), seq (0 = prompt, 1 and up = decode steps), shape (slowest first), dtype, blake3 "
		"over the little-endian float32 values, rms, num_elements. With --out the lines are "
		"DIR/trace.jsonl; --values adds DIR/values.f32 and to each line values_offset, where "
		"its values begin, in float32 units.\n",
	.opts =
		(const struct opt[]){
			ENGINE_CALL_OPTS,
			ENGINE_CALL_PROMPT_OPTS,
			{"stages", OPT_STR, "LIST", "all, or names separated by commas", "all",
			 NULL, NULL, 0},
			{"out", OPT_STR, "DIR", "where trace.jsonl goes", NULL, "BITNET_TRACE_DIR",
			 NULL, 'o'},
			{"values", OPT_FLAG, NULL, "the values too, in DIR/values.f32", NULL, NULL,
			 NULL, 0},
			{"greedy", OPT_INT, "N", "ids decoded after the prompt, traced as well",
			 "0", NULL, NULL, 'n'},
			{"single", OPT_FLAG, NULL, "one position at a time", NULL, NULL, NULL, 0},
			{"batch", OPT_INT, "N", "positions given to the engine at once; 0 = all",
			 "0", NULL, NULL, 'b'},
			{"last", OPT_FLAG, NULL, "output_norm and logits of the last position only",
			 NULL, NULL, NULL, 0},
			{0},
		},
	.run = run_trace,
};
