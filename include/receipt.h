/*
 * What is answered: the facts of one comparison, bound together so that nothing that did not run
 * can be claimed. docs/receipts.md documents the JSON form field by field.
 *
 * A receipt is canonical JSON: keys sorted, float64 with 17 significant digits, numbers that are
 * not finite as the strings "NaN", "Infinity", "-Infinity". content_sha256 is the SHA-256 of the
 * compact form without that field.
 */
#ifndef ASSAY_RECEIPT_H
#define ASSAY_RECEIPT_H

#include "err.h"
#include "scenario.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RECEIPT_SCHEMA_VERSION "1.0.0"
#define RECEIPT_METRICS_FORMULA "assay-metrics-1"	/* verdict/metrics.h */

enum { RECEIPT_HASH_HEX = 65 };

struct comparison;
struct local_result;

struct receipt_side {
	const char *engine;		/* as it was asked for */
	const char *hello, *opened, *done;	/* header lines of the worker's frames, or NULL */
	const int32_t *ids;		/* [n_ids] of the prompt */
	int n_ids;
	bool tokenized;			/* false: took the other side's ids */
	const char *pieces;		/* around the first difference, or NULL */
	const char *identity;		/* of a reference: lines of engines.h, or NULL */
	const char *text;		/* of greedy, as this side reads it, or NULL */
	const int32_t *greedy;		/* [n_greedy] */
	int n_greedy;
	int n_positions;		/* logits vectors received */
	char tokens_sha256[RECEIPT_HASH_HEX];	/* over the ids, little-endian int32 */
	char logits_sha256[RECEIPT_HASH_HEX];	/* over all logits, little-endian float32 */
	int64_t eval_us;
	int64_t peak_rss;		/* bytes, −1 unknown */
};

struct receipt_run {			/* the same for all receipts of a run */
	const char *version, *build;	/* of this program */
	const char *model_path, *tokenizer_path;	/* tokenizer NULL = the model's own */
	const char *model_ref_path;	/* the reference's model where it is another one, or NULL */
	char model_sha256[RECEIPT_HASH_HEX];
	char model_ref_sha256[RECEIPT_HASH_HEX];
	int64_t model_bytes;
	bool model_sha256_cached;	/* from a stamp of inode, size and mtime */
	char tokenizer_sha256[RECEIPT_HASH_HEX];	/* of the file that holds it */
	char cpu[128];
	int n_cpus;
	const char *asked; /* lines: kv, ctx, ubatch, batch, override … as asked; or NULL */
	int threads;			/* per worker, 0 = the engine's choice */
};

struct receipt {
	const struct receipt_run *run;
	const struct scenario *scenario;
	const char *id;			/* of the planned comparison: the directory's name */
	char started[32], finished[32];	/* RFC 3339, UTC */
	int64_t wall_us, compare_us;
	const char *template_name, *template_why;
	char prompt_sha256[RECEIPT_HASH_HEX];	/* formatted; "" when ids were given */
	const char *prompt;		/* the formatted one itself, for prompt.txt; or NULL */
	size_t prompt_bytes;
	bool add_bos, parse_special;
	struct receipt_side sides[2];	/* ours, the reference */
	int n_sides;
	int first_difference;		/* of the ids, −1 */
	const char *cause;		/* likely cause of differing ids, or "" */
	const struct comparison *comparison;
	const struct local_result *local;	/* NULL: not tried */
	const char *verdict, *explanation;
	const char *explain;		/* command that tells where and whose; NULL: none to tell */
	int exit_code;
};

/* Indented text with a newline at the end; caller frees. */
char *receipt_json(const struct receipt *r);

/* "local" of a receipt alone, with a row per operation where rows is set; caller frees. */
char *receipt_local_json(const struct local_result *l, bool rows);

/* The numbers of the comparison alone (logits-comparison.json); caller frees. */
char *receipt_comparison_json(const struct receipt *r);

/* What a person reads about it (report.txt); caller frees. */
char *receipt_text(const struct receipt *r);

/*
 * Recomputes content_sha256 of a receipt's text. 0, or EXIT_RECEIPT_INVALID and what is wrong.
 */
int receipt_check(const char *text, size_t bytes, const char *path, struct err *e);

#endif
