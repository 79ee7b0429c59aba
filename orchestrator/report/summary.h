/*
 * A run's receipts as one table: summary.json, summary.md and what the terminal shows. Rows are
 * read back from receipts alone, so a resumed run and a merge of shards give the same summary.
 */
#ifndef ASSAY_SUMMARY_H
#define ASSAY_SUMMARY_H

#include "err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SUMMARY_ID_MAX = 160, SUMMARY_TEXT_MAX = 1024 };

struct summary_row {
	char id[SUMMARY_ID_MAX];
	char ours[512], reference[512];		/* reference "" when one side ran alone */
	char verdict[24];
	char tokens[32];			/* "match", "differ at N", "–" */
	char greedy[48];			/* "4/4", "tie at 3", "flip at 2", "–" */
	char explanation[SUMMARY_TEXT_MAX];
	char *explain;				/* a command, or NULL; freed by summary_free */
	char sha256[65];			/* content_sha256 of the receipt */
	char scenario[SUMMARY_ID_MAX];
	/* of ours and the reference: numerics profile, digest of all logits, DONE came */
	char profile[2][64], logits[2][65];
	bool finished[2];
	int exit_code, n_positions, n_traces;
	double min_cosine, max_nmse, max_kl, top1;	/* NaN where nothing was compared */
	int64_t wall_us;
	double *nmse;			/* [n_nmse] per compared position; freed by summary_free */
	int n_nmse;
	bool has_operations;		/* operations.html lies beside the receipt */
	int first_beyond;		/* position of the first one beyond the limit; −1 none */
};

struct summary {
	struct summary_row *rows;	/* [n] sorted by plan order as added */
	int n, cap;
	char model[512], model_sha256[65], tokenizer[512];
	char generated[32];		/* RFC 3339, UTC; set by the caller */
	int64_t peak_rss;			/* of this program, bytes; 0 unknown */
	bool interrupted;
	int n_planned;
};

/* Adds a receipt's row. EXIT_RECEIPT_INVALID names path and reason; a changed receipt is refused. */
int summary_add(struct summary *s, const char *receipt, size_t bytes, const char *path,
		struct err *e);

/* Sorts by id: for merges, where no plan gives the order. */
void summary_sort(struct summary *s);

/* The worst exit code, differences between two references not counted (matrix.h);
 * EXIT_NOTHING_RAN when there is no row. */
int summary_exit_code(const struct summary *s);

char *summary_json(const struct summary *s);	 /* caller frees, as below */
char *summary_markdown(const struct summary *s); /* for summary.md */
char *summary_table(const struct summary *s);	 /* for standard output */

void summary_free(struct summary *s);		 /* accepts zeroed */

#endif
