/*
 * Ten gates that a receipt has to pass: each can fail on its own, with its own name and message.
 * Everything is recomputed from the receipt; what needs more (the model file, a second run) is
 * given by the caller, and a gate that lacks it says "unchecked" for that part, never "passed".
 *
 *	schema		form (docs/schema/), content hash, length of every series
 *	compute-path	counters of operations really executed fit positions, layers and heads
 *	kernels		1–10 000 ids of 1–128 characters, from the registry, no mock
 *	weights		kernels of exactly the weight types that the model has, on the right side
 *	model		SHA-256, bytes and shape equal the file's, or SHA-256 and bytes a lockfile entry's
 *	tokens		tokenizer and template identity; digests and counts of ids agree, beside it too
 *	metrics		summary and verdict recomputed from the series and the thresholds; a rerun's
 *			logits give the series
 *	determinism	threads, seed and digests are there; a rerun gives the same ids and digests
 *	reference	what each side says of itself; of a reference a self-check that passed
 *	performance	rates follow from counts and times, inside what any machine can do
 */
#ifndef ASSAY_GATE_H
#define ASSAY_GATE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum gate_id {
	GATE_SCHEMA, GATE_COMPUTE_PATH, GATE_KERNELS, GATE_WEIGHTS, GATE_MODEL, GATE_TOKENS,
	GATE_METRICS, GATE_DETERMINISM, GATE_REFERENCE, GATE_PERFORMANCE, GATE_COUNT,
};

enum { GATE_MESSAGES_MAX = 16, GATE_MESSAGE_MAX = 300 };

/* Digests of one side, evaluated once more. */
struct gate_rerun {
	const char *side;		/* "ours" or "reference" */
	char tokens_sha256[65], logits_sha256[65];
	float *rows;			/* [n_floats] logits, one position after the other; NULL: */
	size_t n_floats;		/* not kept. Who made the rerun frees them */
	bool tokenized;			/* the prompt was tokenized again too */
	json_t *greedy;			/* ids it chose, or NULL; who made the rerun frees */
};

/* Ids of one side that lie beside the receipt. */
struct gate_ids {
	const char *side;
	char sha256[65];		/* over the prompt's ids as in the receipt */
	int64_t n;
	const json_t *greedy;		/* borrowed; NULL: not told */
};

/* A model as its file says it. */
struct gate_model_facts {
	char arch[64], weights[256];	/* weights: "i2_s:210 f16:1 f32:121" */
	int64_t bytes, n_layer, n_embd, n_ff, n_head, n_vocab;	/* 0: the file does not say */
	double decode_gb, prefill_gmac;	/* as a bench counts them */
};

/* An entry of the models lockfile. */
struct gate_locked {
	const char *sha256;
	int64_t bytes;			/* −1: not known */
};

struct gate_context {
	const json_t *schema;
	bool sealed;			/* content_sha256 fits (report/canonical.h) */
	const char *thresholds;		/* text of the program's own sets, or NULL */
	const char *version, *build;	/* of the program that checks; or NULL */
	const char *model_sha256;	/* of the file as it is now, or NULL: not at hand */
	const struct gate_model_facts *model;	/* of that file, or NULL */
	const struct gate_locked *locked;	/* [n_locked] */
	int n_locked;
	const struct gate_ids *ids;	/* [n_ids] */
	int n_ids;
	const char *prompt_sha256;	/* of the formatted prompt beside the receipt, or NULL */
	int64_t prompt_bytes;
	const struct gate_rerun *reruns;	/* [n_reruns] */
	int n_reruns;
	const char *not_run;		/* why a side was not run again, a sentence; or NULL */
	const char *left_out;		/* a comparison that the run finished and the summary does not tell; or NULL */
	const char *stray;		/* a receipt beside the summary that it does not tell; or NULL */
};

struct gate_result {
	bool failed, unchecked;
	bool absent;			/* this kind of receipt claims nothing of the kind */
	int n_messages;			/* failures and, where unchecked or absent, why */
	char messages[GATE_MESSAGES_MAX][GATE_MESSAGE_MAX];
};

struct gate_report {
	struct gate_result gates[GATE_COUNT];
	bool passed;			/* no gate failed */
};

const char *gate_name(enum gate_id g);		/* "schema", … */
const char *gate_purpose(enum gate_id g);	/* one line */

void gate_run(const json_t *receipt, const struct gate_context *ctx, struct gate_report *out);

/* Whether a kernel id is one that our engines or a ggml reference can count. */
bool gate_kernel_known(const char *id);

#endif
