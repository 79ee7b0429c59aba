/*
 * Why something failed: one code and one whole sentence.
 *
 * The one who detects a failure writes the sentence (what, which thing, expected and got, what
 * to do); callers may prefix what they were doing; the command prints it once. A struct err lives
 * on the caller's stack and is never allocated. Functions return 0 or a negative code, which is
 * the negated exit code of the table below.
 */
#ifndef ASSAY_ERR_H
#define ASSAY_ERR_H

/* The one table of exit codes, the same for text and JSON output. */
enum exit_code {
	EXIT_AGREE = 0,		      /* agree, done */
	EXIT_DIVERGED = 1,	      /* the two sides differ */
	EXIT_TOKENS_DIFFER = 2,	      /* token mismatch */
	EXIT_NO_REFERENCE = 3,	      /* reference needed but not available */
	EXIT_TEMPLATE = 4,	      /* template unknown or failing */
	EXIT_REFERENCE_BUILD = 5,     /* reference failed to build or its self-check */
	EXIT_WORKER = 6,	      /* a worker crashed or timed out */
	EXIT_NOTHING_RAN = 7,	      /* zero comparisons */
	EXIT_MODEL_LOAD = 10,	      /* model load error */
	EXIT_AUTH = 11,		      /* authentication or gated */
	EXIT_RATE_LIMITED = 12,	      /* rate limited */
	EXIT_HASH_MISMATCH = 13,      /* hash mismatch */
	EXIT_NETWORK = 14,	      /* network */
	EXIT_MODEL_INVALID = 15,      /* model invalid */
	EXIT_INFERENCE = 16,	      /* inference failed */
	EXIT_REGRESSION = 17,	      /* performance regression */
	EXIT_NO_SPACE = 18,	      /* no disk space */
	EXIT_RECEIPT_INVALID = 20,    /* receipt invalid */
	EXIT_USAGE = 64,	      /* usage */
	EXIT_INTERNAL = 70,	      /* internal */
	EXIT_INTERRUPTED = 130,	      /* interrupted */
};

enum { ERR_MSG_MAX = 2048 };

struct err {
	int code;		/* enum exit_code; 0 while nothing failed */
	char msg[ERR_MSG_MAX];	/* one sentence, no trailing newline; cut, never overrun; as
				 * utf8_plain leaves it */
};

#define ERR_NONE ((struct err){0})

/* Writes the sentence and returns -code. e may be NULL. */
int err_set(struct err *e, enum exit_code code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Puts "prefix: " in front of the sentence; the code stays. Returns -e->code. */
int err_prefix(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* "DIVERGED", "USAGE", … for JSON output; "UNKNOWN" for a code outside the table. */
const char *err_code_name(int code);

#endif
