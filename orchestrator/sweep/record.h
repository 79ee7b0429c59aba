/*
 * Recording an engine: every scenario put to one worker, its answers into one archive. What the
 * manifest says (docs/recordings.md): engine, model, tokenizer and options by name and hash, and
 * of every scenario the text that was tokenized, how, and what came of it.
 */
#ifndef ASSAY_RECORD_H
#define ASSAY_RECORD_H

#include "exchange.h"
#include "scenario.h"

#include <stdbool.h>
#include <stdint.h>

#define RECORD_SCHEMA_VERSION "1.0.0"

struct record_options {
	const char *engine;
	const struct exchange_setup *setup;	/* model, tokenizer, threads, …, template_name */
	const struct scenario_set *scenarios;
	const char *out;			/* FILE.tar.zst */
	bool compact;
	const char *trace;			/* "none", "all" or stages with commas */
	const char *version, *build;		/* of this program */
	void (*on_scenario)(void *ctx, const char *id, int n_ids, int n_positions, int n_traces);
	void *ctx;
};

struct record_result {
	int n_scenarios, n_positions, n_traces;
	int64_t bytes, logits_bytes;	/* of the archive; of all logits as float32 */
	double max_error;		/* of the compact form, 0 with f32 */
	char sha256[65];		/* of the archive */
	char content_sha256[65];	/* the manifest's own */
	char engine_build[128];		/* as the engine said it */
	char profile[64];		/* numerics profile, "" unknown */
};

int record_run(const struct record_options *o, struct record_result *out, struct err *e);

#endif
