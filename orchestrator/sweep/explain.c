#include "explain.h"

#include "bundle.h"
#include "guess.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct explaining {
	struct diagnosis *d;
	const struct explain_job *j;
	struct side native;		/* computes hypotheses over the replayer's file */
	struct side native_source;	/* the same over the source's, where that is another one */
	struct side oracle;		/* over the replayer's file */
	struct side oracle_source;	/* over the source's, where that is another one */
	bool has_native, has_native_source, has_oracle, has_oracle_source;
};

/* ---- the third opinion -------------------------------------------------------------------- */

/* [s->n], caller frees; NULL when this oracle has no answer. */
static float *truth_of(struct side *oracle, bool has, const struct local_seen *s,
		       const char *variant)
{
	struct side_op op = s->op;
	struct err ignored = ERR_NONE;
	float *truth = NULL;
	int64_t n = 0;

	op.variant = variant;
	if (!has || side_replay(oracle, &op, &truth, &n, &ignored) < 0)
		return NULL;
	if (n == s->n)
		return truth;
	free(truth);
	return NULL;
}

/* Each side over the file that it read: nearer to its own than to the other's means that it
 * computes what stands there, and the files differ. */
static void judge_files(struct finding *f, const struct local_seen *s, const float *of_source,
			double bound)
{
	double source_own, replayer_cross, source_cross = f->oracle_source;

	opinion(s->got, s->replayed, of_source, s->n, s->op.n_rows, bound, &source_own,
		&replayer_cross);
	f->oracle_source = source_own;
	f->by_file = 2 * source_own < source_cross && 2 * f->oracle_replayer < replayer_cross;
}

/* What float64 cannot tell from rounding: native over the source's file gives what the source has. */
static void compute_over_source_file(struct explaining *x, struct finding *f,
				     const struct local_seen *s)
{
	struct tensor_diff d;

	if (f->by_file || !x->has_native_source || s->own ||
	    !guess_again(&x->native_source, NULL, s, &d))
		return;
	f->by_file = d.row_ulp <= s->row->bound && 2 * d.rel_rms < s->row->diff.rel_rms;
}

static void name_file(struct finding *f, const struct diagnosis *d)
{
	if (!f->by_file)
		return;
	if (*d->file_known[0] && !*d->file_known[1])
		f->file_fault = FAULT_SOURCE;
	else if (*d->file_known[1] && !*d->file_known[0])
		f->file_fault = FAULT_REPLAYER;
}

/*
 * Two right answers: operands as they are, and as the weight's type and the cache store them. The
 * error that storing makes hides a smaller fault, so where the first leaves it open who is wrong
 * each side is judged by the answer that it is nearer to.
 */
static void ask_about_rounding(struct explaining *x, struct finding *f, const struct local_seen *s,
			       double bound)
{
	bool other_file = x->d->two_files && !s->own;
	double source, replayer;
	float *truth = NULL;

	if (f->oracle_asked && !other_file && finding_fault(f) == FAULT_OPEN)
		truth = truth_of(&x->oracle, x->has_oracle, s, "rounded");
	if (!truth)
		return;
	opinion(s->got, s->replayed, truth, s->n, s->op.n_rows, bound, &source, &replayer);
	f->oracle_rounded = source < f->oracle_source || replayer < f->oracle_replayer;
	f->oracle_source = fmin(source, f->oracle_source);
	f->oracle_replayer = fmin(replayer, f->oracle_replayer);
	free(truth);
}

static void ask_oracle(struct explaining *x, struct finding *f, const struct local_seen *s)
{
	double bound = s->row->inside ? 0 : s->row->bound;
	bool other_file = x->d->two_files && !s->own;
	float *truth = truth_of(&x->oracle, x->has_oracle, s, NULL), *of_source = NULL;

	if (truth && other_file)
		of_source = truth_of(&x->oracle_source, x->has_oracle_source, s, NULL);
	if (truth && (of_source || !other_file)) {
		f->oracle_asked = true;
		opinion(s->got, s->replayed, truth, s->n, s->op.n_rows, bound, &f->oracle_source,
			&f->oracle_replayer);
	}
	if (of_source)
		judge_files(f, s, of_source, bound);
	ask_about_rounding(x, f, s, bound);
	compute_over_source_file(x, f, s);
	name_file(f, x->d);
	free(truth);
	free(of_source);
}

/* ---- findings ----------------------------------------------------------------------------- */

static struct finding *known(struct diagnosis *d, const struct local_seen *s)
{
	for (int i = 0; i < d->n_findings; i++)
		if (d->findings[i].own == s->own && d->findings[i].stage == s->op.stage)
			return &d->findings[i];
	return NULL;
}

static int on_seen(void *ctx, const struct local_seen *s, struct err *e)
{
	struct explaining *x = ctx;
	struct diagnosis *d = x->d;
	struct finding *f = known(d, s);
	struct tensor_diff again;
	char tensor[96];

	(void)e;
	if (s->row->inside &&
	    !(s->row->diff.n_different &&
	      (s->own || differing_weight(d, s->op.stage, s->op.layer, tensor, sizeof(tensor)))))
		return 0;
	if (!f) {
		if (d->n_findings == DIAGNOSIS_FINDINGS_MAX)
			return 0;
		f = &d->findings[d->n_findings++];
		*f = (struct finding){.own = s->own,
				      .stage = s->op.stage,
				      .layer = s->op.layer,
				      .seq = s->row->seq,
				      .diff = s->row->diff,
				      .bound = s->row->bound};
		pattern_find(&f->pattern, s->replayed, s->got, s->n, s->op.n_rows, s->row->bound);
		ask_oracle(x, f, s);
		if (x->has_native)
			guess(&x->native, f, s);
		if (x->j->bundle && !*x->j->bundle)
			*x->j->bundle = bundle_make(d, f, s, x->has_oracle ? &x->oracle : NULL,
						    x->has_native ? &x->native : NULL);
	} else if (f->explains && guess_again(&x->native, f->variant, s, &again)) {
		f->n_explained += again.row_ulp <= f->bound;
	}
	f->n_operations++;
	f->last_layer = s->op.layer > f->last_layer ? s->op.layer : f->last_layer;
	f->n_prefill += s->row->seq == 0;
	f->n_decode += s->row->seq > 0;
	return 0;
}

/* ---- splice bisection --------------------------------------------------------------------- */

struct splicing {
	float **out;			/* [n_layer + 1] embeddings, then what leaves each layer */
	int n_layer, n_ids, n_embd;
	float *ref, *got;		/* [n_vocab] logits of the prompt's last position */
	int n_vocab;
	float *to;
};

static int keep_layer(void *ctx, const struct trace_record *r, const float *values, struct err *e)
{
	struct splicing *s = ctx;
	float **to;

	if ((r->stage != STAGE_EMBEDDINGS && r->stage != STAGE_LAYER_OUT) || r->seq != 0 ||
	    r->shape[0] != s->n_ids)
		return 0;
	if (r->layer >= s->n_layer || r->num_elements != (int64_t)s->n_ids * s->n_embd)
		return err_set(e, EXIT_WORKER,
			       "trace record %.60s has %lld values where %d positions of width %d were "
			       "expected, in %d layers",
			       r->name, (long long)r->num_elements, s->n_ids, s->n_embd,
			       s->n_layer);
	to = &s->out[r->layer + 1];
	if (*to)
		return 0;
	*to = malloc((size_t)r->num_elements * sizeof(float));
	if (!*to)
		return err_set(e, EXIT_INTERNAL, "no memory for a splice");
	memcpy(*to, values, (size_t)r->num_elements * sizeof(float));
	return 0;
}

static int keep_last(void *ctx, int pos, int step, int32_t token, const float *logits,
		     struct err *e)
{
	struct splicing *s = ctx;

	(void)step;
	(void)token;
	(void)e;
	if (pos == s->n_ids - 1)
		memcpy(s->to, logits, (size_t)s->n_vocab * sizeof(float));
	return 0;
}

/* NMSE of our logits against the reference's with its activation put in after layer k; k = −2: as
 * they are. */
static int spliced_error(struct splicing *s, struct side *ours, const struct local_job *j, int k,
			 double *nmse, struct err *e)
{
	struct side_eval q = {.ids = j->ids,
			      .n_ids = j->n_ids,
			      .no_trace = true,
			      .on_logits = keep_last,
			      .ctx = s,
			      .splice = k < -1 ? NULL : s->out[k + 1],
			      .splice_layer = k};
	struct tensor_diff d;
	int rc;

	s->to = s->got;
	rc = side_evaluate(ours, &q, e);
	tensor_diff(&d, s->got, s->ref, s->n_vocab, 1);
	*nmse = d.nmse;
	return rc;
}

static int bisect(struct diagnosis *d, struct splicing *s, struct side *ours,
		  const struct local_job *j, struct err *e)
{
	int low = -1, high = s->n_layer - 1, rc;
	double nmse;

	for (int i = 0; i < s->n_vocab; i++)
		if (!isfinite(s->ref[i]))
			return err_set(e, EXIT_INFERENCE, "the reference's logits are not finite: nothing "
				       "that is put into our run could lead to them");
	rc = spliced_error(s, ours, j, -2, &d->splice_before, e);
	if (rc < 0 || d->splice_before == 0)
		return rc;
	/* the last layer decides whether it is the head; then halves of what is left */
	rc = spliced_error(s, ours, j, high, &d->splice_after, e);
	d->splice_runs = 1;
	d->spliced = rc == 0;
	d->splice_restores = isfinite(d->splice_after) &&
			     d->splice_after <= 0.05 * d->splice_before;
	d->splice_layer = high;
	while (rc == 0 && d->splice_restores && low < high) {
		int middle = low + (high - low) / 2;

		rc = spliced_error(s, ours, j, middle, &nmse, e);
		d->splice_runs++;
		if (isfinite(nmse) && nmse <= 0.05 * d->splice_before) {
			high = middle;
			d->splice_after = nmse;
		} else {
			low = middle + 1;
		}
		d->splice_layer = high;
	}
	return rc;
}

static int splice(struct diagnosis *d, const struct explain_job *j, struct err *e)
{
	const struct local_job *l = &j->local;
	struct side ours = {0}, ref = {0};
	struct splicing s = {.n_ids = l->n_ids};
	struct side_eval q = {.ids = l->ids,
			      .n_ids = l->n_ids,
			      .on_trace = keep_layer,
			      .on_logits = keep_last,
			      .ctx = &s,
			      .stages = STAGE_BIT(STAGE_EMBEDDINGS) |
					STAGE_BIT(STAGE_LAYER_OUT)};
	int rc = side_open(&ours, l->ours, l->setup, l->swapped, l->reference, l->n_ids + 1, e);

	if (rc == 0)
		rc = side_open(&ref, l->reference, l->setup, !l->swapped, l->ours, l->n_ids + 1, e);
	if (rc == 0 && ours.splices && ref.traces && ours.n_vocab == ref.n_vocab) {
		d->n_layer = s.n_layer = ours.n_layer;
		s.n_vocab = ours.n_vocab;
		s.n_embd = ours.n_embd;
		s.out = calloc((size_t)s.n_layer + 1, sizeof(*s.out));
		s.ref = calloc((size_t)s.n_vocab, sizeof(float));
		s.to = s.ref;
		s.got = calloc((size_t)s.n_vocab, sizeof(float));
		if (!s.out || !s.ref || !s.got)
			rc = err_set(e, EXIT_INTERNAL, "no memory for a splice");
		else
			rc = side_evaluate(&ref, &q, e);
		for (int i = 0; rc == 0 && i <= s.n_layer; i++)
			if (!s.out[i])
				q.on_trace = NULL; /* a layer is not there: nothing to put in */
		if (rc == 0 && q.on_trace)
			rc = bisect(d, &s, &ours, l, e);
	}
	for (int i = 0; s.out && i <= s.n_layer; i++)
		free(s.out[i]);
	free(s.out);
	free(s.ref);
	free(s.got);
	side_close(&ours);
	side_close(&ref);
	return rc;
}

/* ---- all of it ---------------------------------------------------------------------------- */

/* What the two sides read: two files, or one that a side reads in its own way. */
static int ask_weights(struct diagnosis *d, const struct explain_job *j, struct err *e)
{
	const struct local_job *l = &j->local;
	bool equal;
	int rc;

	d->two_files = local_two_files(l->setup);
	for (int i = 0; i < 2; i++) {
		const char *known = j->file_known[l->swapped ? !i : i];

		snprintf(d->file_known[i], sizeof(d->file_known[i]), "%.79s", known ? known : "");
	}
	rc = local_weights_equal(l->setup, &equal, &d->weights_differ, e);
	for (int i = 0; i < 2 && rc == 0 && !d->readers_differ; i++) {
		d->reader = i ? l->reference : l->ours;
		if (i && l->reference_trace)
			break;
		rc = local_reader_equal(l->setup, d->reader, i ? !l->swapped : l->swapped,
					&d->readers_differ, e);
	}
	return rc;
}

/* Third parties read the files as they are, not as the reference was told to read them. */
static void open_third_parties(struct explaining *x, const struct exchange_setup *plain)
{
	const struct local_job *l = &x->j->local;
	struct err ignored = ERR_NONE;
	int n = l->n_ids + l->n_greedy[1];

	x->has_native = side_open(&x->native, "native", plain, l->swapped, l->reference, n,
				  &ignored) == 0;
	if (x->d->two_files)
		x->has_native_source = side_open(&x->native_source, "native", plain, !l->swapped,
						 l->reference, n, &ignored) == 0;
	if (x->j->no_oracle)
		return;
	x->has_oracle = side_open(&x->oracle, "oracle", plain, l->swapped, NULL, n, &ignored) == 0;
	if (x->d->two_files)
		x->has_oracle_source = side_open(&x->oracle_source, "oracle", plain, !l->swapped,
						 NULL, n, &ignored) == 0;
}

int explain_run(struct diagnosis *d, const struct explain_job *j, struct err *e)
{
	struct explaining x = {.d = d, .j = j};
	struct local_job l = j->local;
	struct exchange_setup plain = *l.setup;
	struct err no_splice = ERR_NONE;
	int rc;

	d->ours = l.swapped ? l.reference : l.ours;
	d->reference = l.swapped ? l.ours : l.reference;
	d->model = l.setup->model;
	l.on_seen = on_seen;
	l.ctx = &x;
	plain.n_overrides_ref = 0;
	rc = ask_weights(d, j, e);
	if (rc < 0)
		return rc;
	open_third_parties(&x, &plain);
	rc = local_run(&d->local, &l, e);
	if (rc == 0 && !j->no_splice && !l.reference_trace && d->n_findings &&
	    splice(d, j, &no_splice) < 0) {	/* the findings stand without it */
		d->spliced = false;
		snprintf(d->splice_failed, sizeof(d->splice_failed), "%.400s", no_splice.msg);
	}
	if (x.has_native)
		side_close(&x.native);
	if (x.has_native_source)
		side_close(&x.native_source);
	if (x.has_oracle)
		side_close(&x.oracle);
	if (x.has_oracle_source)
		side_close(&x.oracle_source);
	diagnosis_write(d);
	return rc;
}

void explain_free(struct diagnosis *d)
{
	local_free(&d->local);
	free(d->weights_differ);
	free(d->readers_differ);
}
