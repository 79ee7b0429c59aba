/*
 * What is known about a divergence, and the words for it. Pure: the findings are put together by
 * sweep/explain.h from local checks, the oracle and hypotheses.
 */
#ifndef ASSAY_DIAGNOSIS_H
#define ASSAY_DIAGNOSIS_H

#include "local.h"

enum { DIAGNOSIS_FINDINGS_MAX = 2 * STAGE_COUNT, DIAGNOSIS_TEXT_MAX = 4096 };

/* A known way to go wrong: a variant that native can compute (workers/model/replay.h). */
struct hypothesis {
	const char *variant;	/* "silu", "eps=1e-6"; with a trailing '=' the value is searched */
	uint64_t stages;	/* bits of the stages it is tried on */
	const char *meaning;	/* "SiLU as the gate's activation" */
	const char *fix;	/* what to look at */
};

/* How the value behind a hypothesis' '=' is found. */
enum hypothesis_search {
	FIT_SCALE,	/* by least squares */
	FIT_LAYER,	/* each layer */
	FIT_STAGE,	/* each operation that has weights */
	/* the following only where nothing before them explains what is there */
	FIT_INTEGER,	/* each from low to high */
	FIT_REAL,	/* from low to high in steps of a factor, then narrowed */
};
struct hypothesis_value {
	const char *variant;	/* as in hypotheses, with its '=' */
	enum hypothesis_search how;
	double low, high;
};
extern const struct hypothesis_value hypothesis_values[];	/* variant NULL at the end */
extern const struct hypothesis hypotheses[];	/* variant NULL at the end */

/* Where in an operation's result the values lie that differ beyond the bound. */
struct pattern {
	int64_t rows, rows_differ, first_row;
	int64_t width, columns_differ, first_column;
};

void pattern_find(struct pattern *p, const float *a, const float *b, int64_t n, int64_t rows,
		  double bound);

/*
 * How far both are from the float64 result, relative RMS over the values where they differ by more
 * than the bound: what rounding does to the others says nothing about who is right.
 */
void opinion(const float *source, const float *replayer, const float *truth, int64_t n,
	     int64_t rows, double bound, double *off_source, double *off_replayer);

/* "blk.3.attn_q" for q of layer 3, "token_embd" for embeddings; false where no weight is read. */
bool operation_weight(enum trace_stage stage, int layer, char *out, size_t size);

enum fault_side { FAULT_OPEN, FAULT_SOURCE, FAULT_REPLAYER };

/* One kind of operation that is locally wrong in one run. */
struct finding {
	bool own;			/* in our own run; else in the reference's */
	enum trace_stage stage;
	int layer, seq;			/* the first such operation */
	struct tensor_diff diff;
	double bound;
	struct pattern pattern;
	int n_operations, last_layer, n_prefill, n_decode;
	bool oracle_asked;
	double oracle_source, oracle_replayer;	/* opinion of both, each over its own file */
	bool oracle_rounded;	/* of operands as they are stored, for a side that is nearer to that */
	/*
	 * Two files, and each side computes what its own file says: the files are at fault, not the
	 * engines. Which file is known only where the lockfile names one of the two.
	 */
	bool by_file;
	enum fault_side file_fault;
	char variant[64];		/* that comes nearest; "" = none tried */
	const struct hypothesis *hypothesis;
	double variant_row_ulp, variant_rel_rms;
	bool explains;			/* variant_row_ulp ≤ bound */
	int n_explained;		/* operations that it explains */
};

struct diagnosis {
	const char *ours, *reference, *model;	/* borrowed */
	struct local_result local;
	char *weights_differ;		/* names of tensors, a line each; NULL; owned */
	char *readers_differ;		/* the same: one file, but an engine reads other values */
	const char *reader;		/* that engine; borrowed */
	bool two_files;
	char file_known[2][80];		/* what the lockfile calls the replayer's and the source's file */
	struct finding findings[DIAGNOSIS_FINDINGS_MAX];
	int n_findings;
	bool spliced, splice_restores;
	char splice_failed[420];	/* why it could not be tried; "" */
	int splice_runs, splice_layer,
		n_layer; /* layer whose output restores parity; −1 embeddings */
	double splice_before, splice_after;	/* NMSE of the prompt's last logits */
	char end_to_end[LOCAL_TEXT_MAX];
	char verdict[32];
	char paragraph[DIAGNOSIS_TEXT_MAX];
};

/* The operation's own tensor, where it is among those that differ between the two files. */
bool differing_weight(const struct diagnosis *d, enum trace_stage stage, int layer, char *out,
		      size_t size);

enum fault_side finding_fault(const struct finding *f);

/* The engine that computes this operation wrong; NULL while it is open. */
const char *finding_culprit(const struct diagnosis *d, const struct finding *f);

/* The engine whose file is at fault; NULL while that is open, or no matter of files. */
const char *finding_file(const struct diagnosis *d, const struct finding *f);

/* The first in execution order; NULL when there is none. */
const struct finding *diagnosis_first(const struct diagnosis *d);

/* Fills paragraph: stage, layer, hypothesis, side at fault, what to do. */
void diagnosis_write(struct diagnosis *d);

/* "blk.0.attn_q.weight, … and 12 more"; at most four are named. */
void tensor_names(const char *lines, char *out, size_t size);

/* One line each about findings. */
void finding_text(const struct diagnosis *d, const struct finding *f, char *out, size_t size);

#endif
