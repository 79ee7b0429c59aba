#include "diagnosis.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- patterns ----------------------------------------------------------------------------- */

static double unit_of(const float *b, int64_t width)
{
	double most = 0;

	for (int64_t i = 0; i < width; i++)
		if (isfinite(b[i]) && fabs((double)b[i]) > most)
			most = fabs((double)b[i]);
	return most > 0x1p-126 ? most * 0x1p-23 : 0x1p-149;
}

static bool differs(float a, float b, double most)
{
	return memcmp(&a, &b, sizeof(a)) != 0 && !(fabs((double)a - (double)b) <= most);
}

void pattern_find(struct pattern *p, const float *a, const float *b, int64_t n, int64_t rows,
		  double bound)
{
	int64_t width = n / rows;

	*p = (struct pattern){.rows = rows, .width = width, .first_row = -1, .first_column = -1};
	bool *column = calloc((size_t)width, sizeof(*column));

	assert(column);
	for (int64_t r = 0; r < rows; r++) {
		double most = bound * unit_of(b + r * width, width);
		bool any = false;

		for (int64_t c = 0; c < width; c++)
			if (differs(a[r * width + c], b[r * width + c], most))
				any = column[c] = true;
		p->rows_differ += any;
		if (any && p->first_row < 0)
			p->first_row = r;
	}
	for (int64_t c = width - 1; c >= 0; c--)
		if (column[c]) {
			p->columns_differ++;
			p->first_column = c;
		}
	free(column);
}

void opinion(const float *source, const float *replayer, const float *truth, int64_t n,
	     int64_t rows, double bound, double *off_source, double *off_replayer)
{
	int64_t width = n / rows;
	double s = 0, r = 0, t = 0, most = 0;

	for (int64_t i = 0; i < n; i++) {
		double x = (double)truth[i];

		if (i % width == 0)
			most = bound * unit_of(source + i, width);
		if (!differs(replayer[i], source[i], most))
			continue;
		s += ((double)source[i] - x) * ((double)source[i] - x);
		r += ((double)replayer[i] - x) * ((double)replayer[i] - x);
		t += x * x;
	}
	t = t > 0 ? t : 0x1p-126;
	*off_source = isfinite(s) ? sqrt(s / t) : INFINITY;
	*off_replayer = isfinite(r) ? sqrt(r / t) : INFINITY;
}

static void say(char *out, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static void say(char *out, size_t size, const char *fmt, ...)
{
	size_t n = strlen(out);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(out + n, size - n, fmt, ap);
	va_end(ap);
}

/* ---- weights ------------------------------------------------------------------------------ */

bool operation_weight(enum trace_stage stage, int layer, char *out, size_t size)
{
	static const char *const names[STAGE_COUNT] = {
		[STAGE_ATTN_NORM] = "attn_norm", [STAGE_Q] = "attn_q", [STAGE_K] = "attn_k",
		[STAGE_V] = "attn_v", [STAGE_Q_NORM] = "attn_q_norm",
		[STAGE_K_NORM] = "attn_k_norm", [STAGE_ATTN_SUB_NORM] = "attn_sub_norm",
		[STAGE_ATTN_O] = "attn_output", [STAGE_FFN_NORM] = "ffn_norm",
		[STAGE_FFN_GATE] = "ffn_gate", [STAGE_FFN_UP] = "ffn_up",
		[STAGE_FFN_SUB_NORM] = "ffn_sub_norm", [STAGE_FFN_DOWN] = "ffn_down",
		[STAGE_EMBEDDINGS] = "token_embd", [STAGE_OUTPUT_NORM] = "output_norm",
		[STAGE_LOGITS] = "output",
	};

	if (!names[stage])
		return false;
	if (layer < 0)
		snprintf(out, size, "%s", names[stage]);
	else
		snprintf(out, size, "blk.%d.%s", layer, names[stage]);
	return true;
}

void tensor_names(const char *lines, char *out, size_t size)
{
	int n = 0;

	out[0] = '\0';
	for (const char *p = lines; p && *p; p += strcspn(p, "\n") + 1)
		if (n++ < 4)
			say(out, size, "%s%.*s", n > 1 ? ", " : "", (int)strcspn(p, "\n"), p);
	if (n > 4)
		say(out, size, " and %d more", n - 4);
}

bool differing_weight(const struct diagnosis *d, enum trace_stage stage, int layer, char *out,
		      size_t size)
{
	char prefix[96];
	size_t n;

	if (!operation_weight(stage, layer, prefix, sizeof(prefix)))
		return false;
	for (int tied = 0; tied < 2; tied++) {
		n = strlen(prefix);
		for (const char *p = d->weights_differ; p && *p; p += strcspn(p, "\n") + 1)
			if (strncmp(p, prefix, n) == 0 && p[n] == '.') {
				snprintf(out, size, "%.*s", (int)strcspn(p, "\n"), p);
				return true;
			}
		if (stage != STAGE_LOGITS)
			break;
		snprintf(prefix, sizeof(prefix), "token_embd");
	}
	return false;
}

/* ---- judgement ---------------------------------------------------------------------------- */

enum fault_side finding_fault(const struct finding *f)
{
	if (f->own)	/* a run that is not what its own operations give */
		return FAULT_SOURCE;
	if (f->by_file)
		return f->file_fault;
	/* which precision was asked for is no matter of truth: who departs from it is at fault */
	if (f->explains && strncmp(f->variant, "kv_", 3) == 0)
		return FAULT_SOURCE;
	if (!f->oracle_asked)
		return FAULT_OPEN;
	/* a factor of two: less may be the rounding of either */
	if (f->oracle_source > 2 * f->oracle_replayer)
		return FAULT_SOURCE;
	return f->oracle_replayer > 2 * f->oracle_source ? FAULT_REPLAYER : FAULT_OPEN;
}

const char *finding_culprit(const struct diagnosis *d, const struct finding *f)
{
	const char *source = f->own ? d->local.own.source : d->local.reference.source;

	if (f->by_file && !f->own)
		return NULL;
	switch (finding_fault(f)) {
	case FAULT_SOURCE:
		return source;
	case FAULT_REPLAYER:
		return d->local.own.replayer;
	default:
		return NULL;
	}
}

const char *finding_file(const struct diagnosis *d, const struct finding *f)
{
	if (!f->by_file || f->file_fault == FAULT_OPEN)
		return NULL;
	return f->file_fault == FAULT_SOURCE ? d->local.reference.source : d->local.own.replayer;
}

static bool earlier(const struct finding *a, const struct finding *b)
{
	int la = a->layer < 0 && a->stage != STAGE_EMBEDDINGS ? 1 << 20 : a->layer;
	int lb = b->layer < 0 && b->stage != STAGE_EMBEDDINGS ? 1 << 20 : b->layer;

	if (a->seq != b->seq)
		return a->seq < b->seq;
	return la != lb ? la < lb : a->stage < b->stage;
}

const struct finding *diagnosis_first(const struct diagnosis *d)
{
	const struct finding *first = NULL;

	for (int i = 0; i < d->n_findings; i++)
		if (!first || earlier(&d->findings[i], first))
			first = &d->findings[i];
	return first;
}

/* ---- words -------------------------------------------------------------------------------- */

static void say_pattern(char *out, size_t size, const struct finding *f)
{
	const struct pattern *p = &f->pattern;

	if (p->rows_differ && p->rows_differ < p->rows)
		say(out, size,
		    p->rows_differ == 1 ? ", only in row %lld" : ", in %lld of %lld rows",
		    (long long)(p->rows_differ == 1 ? p->first_row : p->rows_differ),
		    (long long)p->rows);
	if (p->columns_differ && p->columns_differ * 4 <= p->width)
		say(out, size, p->columns_differ == 1 ? ", only in channel %lld" :
			       ", in %lld of %lld channels, the first is %lld",
		    (long long)(p->columns_differ == 1 ? p->first_column : p->columns_differ),
		    (long long)p->width, (long long)p->first_column);
}

void finding_text(const struct diagnosis *d, const struct finding *f, char *out, size_t size)
{
	const char *source = f->own ? d->local.own.source : d->local.reference.source;
	char name[64];

	out[0] = '\0';
	local_name(f->stage, f->layer, name, sizeof(name));
	say(out, size, "%s%s in %s's run", name,
	    f->n_prefill ? "" : " (while decoding only)", source);
	if (f->n_operations > 1 && f->last_layer > f->layer)
		say(out, size, " (and %d more like it, up to layer %d)", f->n_operations - 1,
		    f->last_layer);
	else if (f->n_operations > 1)
		say(out, size, " (and %d more like it)", f->n_operations - 1);
	say(out, size, ": rel-RMS %.3g from what %s gives on the same inputs, %lld of %lld values",
	    f->diff.rel_rms, d->local.own.replayer, (long long)f->diff.n_different,
	    (long long)f->diff.n);
	say_pattern(out, size, f);
	if (f->oracle_asked)
		say(out, size, "; from float64%s%s: %s %.3g, %s %.3g",
		    d->two_files && !f->own ? " over its own file" : "",
		    f->oracle_rounded ? " (of rounded operands)" : "", source, f->oracle_source,
		    d->local.own.replayer, f->oracle_replayer);
	if (*f->variant && (f->explains || f->variant_rel_rms < 0.5 * f->diff.rel_rms))
		say(out, size,
		    f->explains ? "; %s explains %d of %d (%.3g row ulp left)"
				: "; nearest is %s, which explains %d of %d (%.3g row ulp left)",
		    f->variant, f->n_explained, f->n_operations, f->variant_row_ulp);
}

static void say_what(struct diagnosis *d, const struct finding *f, const char *culprit)
{
	const size_t size = sizeof(d->paragraph);
	bool replayer = finding_fault(f) == FAULT_REPLAYER;

	if (f->explains && replayer)
		say(d->paragraph, size,
		    "%s is right here: its output is `%s` (%s), which %s does not compute. ",
		    f->own ? d->local.own.source : d->local.reference.source, f->variant,
		    f->hypothesis->meaning, culprit);
	else if (f->explains)
		say(d->paragraph, size, "Its output is what `%s` gives, to within rounding: %s. ",
		    f->variant, f->hypothesis->meaning);
	else if (f->diff.n_nonfinite)
		say(d->paragraph, size, "Values there are not finite: an overflow, or memory that "
		    "nobody wrote. ");
	else if (f->pattern.columns_differ * 4 <= f->pattern.width &&
		 local_kind_of(f->stage) == LOCAL_PRODUCT)
		say(d->paragraph, size,
		    "Only %lld of %lld output channels are wrong (the first is %lld): "
		    "single weights or block scales of this tensor. ",
		    (long long)f->pattern.columns_differ, (long long)f->pattern.width,
		    (long long)f->pattern.first_column);
	else
		say(d->paragraph, size, "No hypothesis of the table explains it. ");
	if (f->explains)
		say(d->paragraph, size, "What to do: %s.", f->hypothesis->fix);
	else
		say(d->paragraph, size, "What to do: look at this operation%s.",
		    f->pattern.rows_differ == 1 && f->pattern.rows > 1 ? " at that one position"
								       : "");
}

/* Both engines are right about what they read; what they read is not the same. */
static void say_files(struct diagnosis *d, const struct finding *f, const char *source)
{
	const size_t size = sizeof(d->paragraph);
	const char *replayer = d->local.own.replayer, *wrong = finding_file(d, f);
	char tensor[96];

	say(d->paragraph, size, "Neither engine is at fault here: each computes what its own file "
	    "says (%.3g and %.3g from the float64 result over that file), and the files differ",
	    f->oracle_source, f->oracle_replayer);
	if (differing_weight(d, f->stage, f->layer, tensor, sizeof(tensor)))
		say(d->paragraph, size, " in %s. ", tensor);
	else
		say(d->paragraph, size, " in their metadata. ");
	if (!wrong)
		say(d->paragraph, size, "Which file is right is open: %s. ",
		    *d->file_known[0] ? "the lockfile names both" : "the lockfile names neither");
	else
		say(d->paragraph, size,
		    "%s's file is the lockfile's %s, %s's is not: %s's file is at fault. ",
		    wrong == source ? replayer : source, d->file_known[wrong != source], wrong,
		    wrong);
	if (f->explains)
		say(d->paragraph, size, "What %s's file has there is what `%s` gives: %s. ", source,
		    f->variant, f->hypothesis->meaning);
	say(d->paragraph, size, "What to do: take both files to where they came from and compare "
	    "`assay verify --weights` of each; give both sides one file to judge the engines.");
}

static void write_finding(struct diagnosis *d, const struct finding *f)
{
	const size_t size = sizeof(d->paragraph);
	const char *source = f->own ? d->local.own.source : d->local.reference.source;
	const char *culprit = finding_culprit(d, f);
	char name[64];

	local_name(f->stage, f->layer, name, sizeof(name));
	say(d->paragraph, size, "The first operation that %s by itself is %s%s%s",
	    f->by_file ? "differs" : "goes wrong", name,
	    f->n_prefill ? "" : ", while decoding",
	    f->n_operations > 1 ? ", and the same in later layers or steps" : "");
	say(d->paragraph, size,
	    ": on the very inputs that %s had there, %s gives another result (rel-RMS "
	    "%.3g); all before it agrees, what follows inherits. ",
	    source, f->own ? "a replay" : d->local.own.replayer, f->diff.rel_rms);
	if (f->by_file) {
		say_files(d, f, source);
		return;
	}
	if (culprit && f->own)
		say(d->paragraph, size,
		    "%s is at fault: its run is not what its own operations give. ", culprit);
	else if (culprit && strncmp(f->variant, "kv_", 3) == 0 && f->explains)
		say(d->paragraph, size,
		    "%s is at fault: it does not compute with the precision that was "
		    "asked for. ",
		    culprit);
	else if (culprit)
		say(d->paragraph, size,
		    "%s is at fault: it is %.3g from the float64 result, the other "
		    "%.3g. ",
		    culprit, fmax(f->oracle_source, f->oracle_replayer),
		    fmin(f->oracle_source, f->oracle_replayer));
	else
		say(d->paragraph, size, "Which side is wrong is open%s. ",
		    f->oracle_asked ? ": both are as near to the float64 result" : "");
	say_what(d, f, culprit);
}

/* Each was judged on its own inputs: none of them inherits from the first. */
static void write_others(struct diagnosis *d, const struct finding *first)
{
	const size_t size = sizeof(d->paragraph);
	char name[64];
	int n = 0;

	for (int i = 0; i < d->n_findings; i++) {
		const struct finding *f = &d->findings[i];

		if (f == first || f->by_file || first->by_file)
			continue;
		local_name(f->stage, f->layer, name, sizeof(name));
		if (n++ < 3)
			say(d->paragraph, size, "%s%s", n == 1 ? " Wrong by themselves, too, not by what "
			    "they inherit: " : ", ", name);
	}
	if (n > 3)
		say(d->paragraph, size, " and %d more", n - 3);
	if (n)
		say(d->paragraph, size, ".");
}

void diagnosis_write(struct diagnosis *d)
{
	const struct finding *f = diagnosis_first(d);
	const size_t size = sizeof(d->paragraph);

	char names[400];

	d->paragraph[0] = '\0';
	tensor_names(d->weights_differ, names, sizeof(names));
	if (*names)
		say(d->paragraph, size, "The two files hold different weights: %s. ", names);
	tensor_names(d->readers_differ, names, sizeof(names));
	if (*names)
		say(d->paragraph, size,
		    "%s reads other values than this program from its file: %s. ", d->reader,
		    names);
	if (!d->local.ran) {
		say(d->paragraph, size, "Operations could not be judged one by one: %s.",
		    d->local.reason);
		return;
	}
	if (d->local.reference.n_missing)
		say(d->paragraph, size, "%s has no %s: the graph that it runs is another one. ",
		    d->local.reference.source, d->local.reference.missing);
	if (f) {
		write_finding(d, f);
		write_others(d, f);
	} else if (d->local.equivalent && d->local.reference.n_bits_equal == d->local.reference.n) {
		say(d->paragraph, size, "Nothing is wrong and no operation differs: %s.",
		    d->local.reason);
	} else if (d->local.equivalent) {
		say(d->paragraph, size,
		    "No operation is wrong: %s. What differs at the end is rounding that "
		    "later operations amplified; there is nothing to repair.",
		    d->local.reason);
	} else if (!d->local.reference.n_missing) {
		say(d->paragraph, size, "No operation is wrong by itself, yet: %s.",
		    d->local.reason);
	}
}
