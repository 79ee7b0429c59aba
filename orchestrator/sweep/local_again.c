#include "local_again.h"

#include "verdict/ties.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const profiles[LOCAL_PROFILES] = {"ggml-avx2", "ggml-avx512", "ggml-fp16"};

/* i = LOCAL_PROFILES: with the profile that the job has. */
static struct side *native_as(struct local_feed *f, int i)
{
	const struct local_job *j = f->again;
	struct exchange_setup setup = *j->setup;
	struct err ignored = ERR_NONE;

	if (i == LOCAL_PROFILES && strcmp(f->replayer->engine, "native") == 0)
		return f->replayer;
	if (i < LOCAL_PROFILES)
		setup.profile = profiles[i];
	if (!f->other_asked[i])
		side_open(&f->other[i], "native", &setup, j->swapped || j->both_references,
			  i == LOCAL_PROFILES ? j->reference : NULL,
			  j->n_ids + j->n_greedy[0] + j->n_greedy[1], &ignored);
	f->other_asked[i] = true;
	return f->other[i].client ? &f->other[i] : NULL;
}

/* [n] or NULL; caller frees. */
static float *computed(struct side *native, const struct side_op *op, const char *variant,
		       int64_t n)
{
	struct side_op as = *op;
	struct err ignored = ERR_NONE;
	float *out = NULL;
	int64_t got = 0;

	as.variant = variant;
	if (side_replay(native, &as, &out, &got, &ignored) < 0)
		return NULL;
	if (got == n)
		return out;
	free(out);
	return NULL;
}

static void try_profiles(struct local_feed *f, const struct side_op *op, struct local_row *row,
			 const float *got)
{
	for (int i = 0; i < LOCAL_PROFILES && f->other_profiles && !row->profile; i++) {
		bool same = strncmp(f->replayer->profile, profiles[i], strlen(profiles[i])) == 0;
		struct side *native = same ? NULL : native_as(f, i);
		float *out = native ? computed(native, op, NULL, row->diff.n) : NULL;
		struct tensor_diff d;

		if (!out)
			continue;
		tensor_diff(&d, out, got, row->diff.n, op->n_rows);
		if (d.n_different == 0) {
			row->diff = d;
			row->profile = profiles[i];
		}
		free(out);
	}
}

static void try_ties(struct local_feed *f, const struct side_op *op, struct local_row *row,
		     const float *replayed, const float *got)
{
	struct side *native = native_as(f, LOCAL_PROFILES);
	const int64_t n = row->diff.n;
	struct ties t = {.plain = replayed, .got = got, .rows = op->n_rows, .width = n / op->n_rows,
			 .bound = row->bound};
	float *turned[TIES_MAX], *own = NULL, *out = malloc((size_t)n * sizeof(*out));
	struct tensor_diff d;

	assert(out);
	if (native && native != f->replayer)
		t.plain = own = computed(native, op, NULL, n);
	for (int k = 0; k < TIES_MAX && native && t.plain; k++) {
		char variant[32];

		snprintf(variant, sizeof(variant), "tie=%d", k + 1);
		turned[k] = computed(native, op, variant, n);
		if (!turned[k])
			break;
		t.turned[t.n++] = turned[k];
	}
	int n_ties = t.n ? ties_turn(&t, out) : 0;

	if (n_ties) {
		tensor_diff(&d, out, got, n, op->n_rows);
		if (d.row_ulp <= row->bound) {
			row->diff = d;
			row->n_ties = n_ties;
		}
	}
	for (int k = 0; k < t.n; k++)
		free(turned[k]);
	free(own);
	free(out);
}

void local_again(struct local_feed *f, const struct side_op *op, struct local_row *row,
		 const float *replayed, const float *got)
{
	if (!f->again)
		return;
	try_profiles(f, op, row, got);
	if (!row->profile && local_kind_of(row->stage) == LOCAL_PRODUCT)
		try_ties(f, op, row, replayed, got);
}
