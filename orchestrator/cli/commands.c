#include "cli.h"

#include <stddef.h>

extern const struct command cmd_bench;
extern const struct command cmd_bench_compare;
extern const struct command cmd_cache;
extern const struct command cmd_check_perf;
extern const struct command cmd_calibrate;
extern const struct command cmd_completion;
extern const struct command cmd_crossval;
extern const struct command cmd_per_token;
extern const struct command cmd_doctor;
extern const struct command cmd_engine_check;
extern const struct command cmd_env;
extern const struct command cmd_explain;
extern const struct command cmd_fetch_cpp;
extern const struct command cmd_fetch_models;
extern const struct command cmd_full_crossval;
extern const struct command cmd_gate;
extern const struct command cmd_gen_baselines;
extern const struct command cmd_gen_fixtures;
extern const struct command cmd_gen_mini_gguf;
extern const struct command cmd_infer;
extern const struct command cmd_kl;
extern const struct command cmd_logits;
extern const struct command cmd_merge;
extern const struct command cmd_nightly;
extern const struct command cmd_receipt;
extern const struct command cmd_record;
extern const struct command cmd_report;
extern const struct command cmd_setup;
extern const struct command cmd_sweep;
extern const struct command cmd_tokenize;
extern const struct command cmd_trace;
extern const struct command cmd_trace_diff;
extern const struct command cmd_verify;

const struct command *const commands[] = {
	&cmd_bench,
	&cmd_bench_compare,
	&cmd_cache,
	&cmd_check_perf,
	&cmd_calibrate,
	&cmd_completion,
	&cmd_crossval,
	&cmd_per_token,
	&cmd_doctor,
	&cmd_engine_check,
	&cmd_env,
	&cmd_explain,
	&cmd_fetch_cpp,
	&cmd_fetch_models,
	&cmd_full_crossval,
	&cmd_gate,
	&cmd_gen_baselines,
	&cmd_gen_fixtures,
	&cmd_gen_mini_gguf,
	&cmd_infer,
	&cmd_kl,
	&cmd_logits,
	&cmd_merge,
	&cmd_nightly,
	&cmd_receipt,
	&cmd_record,
	&cmd_report,
	&cmd_setup,
	&cmd_sweep,
	&cmd_tokenize,
	&cmd_trace,
	&cmd_trace_diff,
	&cmd_verify,
	NULL,
};
