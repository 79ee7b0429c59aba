#include "trace_diff.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *trace_diff_state_name(enum trace_diff_state s)
{
	static const char *const names[] = {"equal", "within", "beyond", "other shapes",
					    "only in the first", "only in the second"};

	return names[s];
}

static bool same_place(const struct trace_record *a, const struct trace_record *b)
{
	return a->stage == b->stage && a->layer == b->layer && a->seq == b->seq;
}

static bool same_shape(const struct trace_record *a, const struct trace_record *b)
{
	return a->n_dims == b->n_dims &&
	       memcmp(a->shape, b->shape, (size_t)a->n_dims * sizeof(a->shape[0])) == 0;
}

/* The first record of b at the same place that nobody has taken; −1. */
static int counterpart(const struct trace_record *a, const struct trace_diff_tensor *b, int n_b,
		       const bool *taken, int from)
{
	for (int i = 0; i < n_b; i++) {
		int k = (from + i) % n_b;

		if (!taken[k] && same_place(a, b[k].r))
			return k;
	}
	return -1;
}

static void judge(struct trace_diff_row *row, const struct trace_diff_tensor *a,
		  const struct trace_diff_tensor *b, double tolerance)
{
	bool hashed = *a->r->blake3 && *b->r->blake3;

	if (!same_shape(a->r, b->r)) {
		row->state = TRACE_SHAPES;
		return;
	}
	row->diff = (struct tensor_diff){.n = a->r->num_elements, .worst = -1, .cosine = 1};
	if (a->values && b->values) {
		row->measured = true;
		tensor_diff(&row->diff, a->values, b->values, a->r->num_elements, a->r->shape[0]);
	} else if (!hashed || strcmp(a->r->blake3, b->r->blake3) != 0) {
		row->diff.n_different = 1;
		row->diff.rel_rms = row->rms_b > 0 ? fabs(row->rms_a - row->rms_b) / row->rms_b :
				    row->rms_a == row->rms_b ? 0 : INFINITY;
	}
	if (row->diff.n_different == 0)
		row->state = TRACE_EQUAL;
	else
		row->state = row->measured && row->diff.rel_rms <= tolerance ? TRACE_WITHIN
									     : TRACE_BEYOND;
}

static void count(struct trace_diff *d, int i)
{
	const struct trace_diff_row *r = &d->rows[i];

	d->n_equal += r->state == TRACE_EQUAL;
	d->n_within += r->state == TRACE_WITHIN;
	d->n_beyond += r->state == TRACE_BEYOND || r->state == TRACE_SHAPES;
	d->n_unmatched += r->state == TRACE_ONLY_A || r->state == TRACE_ONLY_B;
	if (r->state != TRACE_EQUAL && d->first_different < 0)
		d->first_different = i;
	if (r->state > TRACE_WITHIN && d->first_beyond < 0)
		d->first_beyond = i;
}

void trace_diff_run(struct trace_diff *d, const struct trace_diff_tensor *a, int n_a,
		    const struct trace_diff_tensor *b, int n_b, double tolerance)
{
	bool *taken = calloc((size_t)n_b + 1, sizeof(*taken));
	int next = 0;

	*d = (struct trace_diff){.first_different = -1, .first_beyond = -1, .tolerance = tolerance};
	d->rows = calloc((size_t)(n_a + n_b) + 1, sizeof(*d->rows));
	assert(taken && d->rows);
	for (int i = 0; i < n_a; i++) {
		struct trace_diff_row *row = &d->rows[d->n];
		int k = counterpart(a[i].r, b, n_b, taken, next);

		*row = (struct trace_diff_row){.stage = a[i].r->stage, .layer = a[i].r->layer,
					       .seq = a[i].r->seq, .state = TRACE_ONLY_A,
					       .rms_a = a[i].r->rms};
		if (k >= 0) {
			taken[k] = true;
			next = k + 1;
			row->rms_b = b[k].r->rms;
			judge(row, &a[i], &b[k], tolerance);
		}
		count(d, d->n++);
	}
	for (int k = 0; k < n_b; k++)
		if (!taken[k]) {
			d->rows[d->n] = (struct trace_diff_row){
				.stage = b[k].r->stage, .layer = b[k].r->layer, .seq = b[k].r->seq,
				.state = TRACE_ONLY_B, .rms_b = b[k].r->rms};
			count(d, d->n++);
		}
	free(taken);
}

void trace_diff_free(struct trace_diff *d)
{
	free(d->rows);
	*d = (struct trace_diff){0};
}

/* ---- the picture -------------------------------------------------------------------------- */

char trace_diff_mark(const struct trace_diff_row *r)
{
	double x = r->diff.rel_rms;

	if (r->state == TRACE_EQUAL)
		return '=';
	if (r->state == TRACE_WITHIN)
		return '.';
	if (r->state != TRACE_BEYOND)
		return '?';
	if (!(x < 0.1))
		return '#';
	return (char)('0' + (x <= 1e-9 ? 9 : (int)floor(-log10(x))));
}

/* Worse marks come later; digits count down. */
static int badness(char c)
{
	return c == '=' ? 1 : c == '.' ? 2 : c == '#' ? 20 : c == '?' ? 21 : c ? 12 - (c - '0') : 0;
}

char *trace_diff_picture(const struct trace_diff *d)
{
	int n_layer = 0;
	bool used[STAGE_COUNT] = {false};
	char *text = NULL;
	size_t bytes = 0;

	for (int i = 0; i < d->n; i++) {
		n_layer = d->rows[i].layer + 1 > n_layer ? d->rows[i].layer + 1 : n_layer;
		used[d->rows[i].stage] = true;
	}
	char (*grid)[STAGE_COUNT] = calloc((size_t)n_layer + 1, sizeof(*grid));
	FILE *f = open_memstream(&text, &bytes);

	assert(grid && f);
	for (int i = 0; i < d->n; i++) {
		char *at = &grid[d->rows[i].layer + 1][d->rows[i].stage],
		     mark = trace_diff_mark(&d->rows[i]);

		if (badness(mark) > badness(*at))
			*at = mark;
	}
	for (int s = 0, column = 0; s < STAGE_COUNT; s++)
		if (used[s])
			fprintf(f, "      %*s%s\n", 2 * column++, "",
				trace_stage_name((enum trace_stage)s));
	for (int l = -1; l < n_layer; l++) {
		fprintf(f, "%4d  ", l);
		for (int s = 0; s < STAGE_COUNT; s++)
			if (used[s])
				fprintf(f, "%c ", grid[l + 1][s] ? grid[l + 1][s] : ' ');
		putc('\n', f);
	}
	fclose(f);
	free(grid);
	return text;
}
