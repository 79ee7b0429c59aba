/*
 * The golden runs' tensors.tsv and tensors.f32 as a trace directory: names mapped to canonical
 * stages by the table that the references' workers use, attention cut to the cells there are.
 */
#ifndef ASSAY_TESTS_GOLDEN_TRACE_H
#define ASSAY_TESTS_GOLDEN_TRACE_H

#include "engines/llama_stages.h"
#include "golden.h"

struct golden_line {
	char name[128], op[32], source[128];
	int64_t ne[4], offset;
	int stage, layer;
};

static inline bool golden_parse(char *text, struct golden_line *l)
{
	char dims[64] = "";
	char *rest = NULL;

	memset(l, 0, sizeof(*l));
	if (sscanf(text, "%127[^\t]\t%31[^\t]\t%*[^\t]\t%63[^\t]\t%ld\t%127[^\t\n]", l->name, l->op,
		   dims, &l->offset, l->source) < 4)
		return false;
	rest = dims;
	for (int i = 0; i < 4; i++, rest += *rest == ',')
		l->ne[i] = strtol(rest, &rest, 10);
	l->stage = llama_stage(l->name, l->op, l->source, &l->layer);
	return true;
}

static inline void golden_put(FILE *lines, FILE *values, const struct golden_line *l,
			      const float *all, int n_tokens, int64_t *at)
{
	const float *x = all + l->offset;
	int64_t total = l->ne[0] * l->ne[1] * l->ne[2] * l->ne[3], n = total;
	char shape[96];

	if (l->stage == STAGE_ATTN_SCORES || l->stage == STAGE_ATTN_SOFTMAX) {
		int64_t heads = l->ne[2];

		n = heads * n_tokens * n_tokens;
		for (int64_t t = 0; t < n_tokens; t++)
			for (int64_t h = 0; h < heads; h++)
				for (int64_t c = 0; c < n_tokens; c++) {
					float v = c > t ? 0 : x[(h * l->ne[1] + t) * l->ne[0] + c];

					fwrite(&v, sizeof(v), 1, values);
				}
		snprintf(shape, sizeof(shape), "%d,%ld,%d", n_tokens, heads, n_tokens);
	} else {
		fwrite(x, sizeof(*x), (size_t)n, values);
		snprintf(shape, sizeof(shape), "%d,%ld", n_tokens, n / n_tokens);
	}
	fprintf(lines,
		"{\"stage\":\"%s\",\"layer\":%d,\"shape\":[%s],\"num_elements\":%ld,"
		"\"values_offset\":%ld}\n",
		trace_stage_name((enum trace_stage)l->stage), l->layer, shape, n, *at);
	*at += n;
}

/* Writes to/trace.jsonl and to/values.f32; records written, or −1. A stage that comes twice under
 * the same name counts with its last occurrence, as in llama_trace.c. */
static inline int golden_trace_write(const char *dir, const char *to, int n_tokens)
{
	char path[700], text[2][1024];
	struct floats all = golden_floats(dir, "tensors.f32");
	struct golden_line l, next;
	int n = 0;
	int64_t at = 0;

	snprintf(path, sizeof(path), "%s/tensors.tsv", dir);
	FILE *in = fopen(path, "r");
	snprintf(path, sizeof(path), "%s/trace.jsonl", to);
	FILE *lines = fopen(path, "w");
	snprintf(path, sizeof(path), "%s/values.f32", to);
	FILE *values = fopen(path, "w");
	if (!in || !lines || !values || !all.n)
		return -1;
	bool more = fgets(text[0], sizeof(text[0]), in) && golden_parse(text[0], &l);
	while (more) {
		more = fgets(text[1], sizeof(text[1]), in) && golden_parse(text[1], &next);
		if (l.stage == LLAMA_UNKNOWN)
			printf("# unknown tensor %s %s\n", l.name, l.op);
		if (l.stage >= 0 && !(more && next.stage == l.stage && next.layer == l.layer)) {
			golden_put(lines, values, &l, all.x, n_tokens, &at);
			n++;
		}
		l = next;
	}
	fclose(in);
	fclose(lines);
	fclose(values);
	free(all.x);
	return n;
}

#endif
