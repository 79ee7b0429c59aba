# assay: make run · make test · make bench · make fuzz · make lint · make install · make clean
#
# Lists end in an empty line, every name in a backslash, so that two additions merge.
#
# SAN=address,undefined or SAN=thread builds into a folder of its own.
# WERROR=1 makes a warning an error, as CI and make lint do: a compiler of tomorrow warns of more.
# CC=clang works as well. Object lists are explicit: a file that is not named here is not built.

.DEFAULT_GOAL := all
# one job per processor unless another number is asked for
ifeq ($(MAKELEVEL)$(filter -j%,$(MAKEFLAGS)),0)
MAKEFLAGS += -j$(shell nproc)
endif
CC      ?= cc
SAN     ?=
PREFIX  ?= /usr/local
DESTDIR ?=
comma   := ,
B       := build/$(notdir $(CC))$(if $(SAN),-$(subst $(comma),-,$(SAN)))

PKGS     = libuv libcurl libarchive libgit2 jansson libcrypto libssl
WARN     = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla \
	   $(if $(WERROR),-Werror)
CFLAGS  ?= -O2 -g
BASE     = -std=c11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -ffp-contract=off -fno-math-errno \
	   -Iinclude -Iworkers -Iworkers/common -Iworkers/kernels -Iworkers/model -Iorchestrator $(WARN)
# gcc 12 with -fsanitize=thread takes a pointer to one uv_buf_t for an array of none
SANFLAGS = $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all) \
	   $(if $(filter thread,$(SAN)),-Wno-stringop-overread)
ALL      = $(BASE) $(CFLAGS) $(SANFLAGS) $(DEFS) -I$(B)/gen
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS   := $(shell pkg-config --libs $(PKGS) 2>/dev/null)
LIBS     = $(PKG_LIBS) -lpthread -lm
WORKER_LIBS := $(shell pkg-config --libs jansson libcrypto 2>/dev/null)

# ---- what both programs share -------------------------------------------------------------
COMMON_OBJS = \
	workers/common/blake3.o \
	workers/common/digest.o \
	workers/common/err.o \
	workers/common/output.o \
	workers/common/threads.o \
	workers/common/trace.o \
	workers/common/utf8.o \
	workers/common/wire.o
# ---- the worker program -------------------------------------------------------------------
KERNEL_OBJS = \
	workers/kernels/base_c.o \
	workers/kernels/cpu.o \
	workers/kernels/dequantize.o \
	workers/kernels/half.o \
	workers/kernels/kernels.o \
	workers/kernels/roofline.o \
	workers/kernels/math.o \
	workers/kernels/profile.o \
	workers/kernels/tl.o \
	workers/kernels/tl_config.o \
	workers/kernels/weight_type.o

MACHINE := $(firstword $(subst -, ,$(shell $(CC) -dumpmachine)))
ifeq ($(MACHINE),x86_64)
KERNEL_OBJS += \
	workers/kernels/base_avx2.o \
	workers/kernels/base_avx512.o \
	workers/kernels/float_avx2.o \
	workers/kernels/float_avx512.o \
	workers/kernels/gemv_avx512vnni.o \
	workers/kernels/i2s_avx2.o \
	workers/kernels/i2s_avx512amx.o \
	workers/kernels/i2s_avx512vnni.o \
	workers/kernels/i2s_avxvnni.o \
	workers/kernels/roofline_avx2.o \
	workers/kernels/roofline_avx512vnni.o \
	workers/kernels/quant_avx2.o \
	workers/kernels/quant_avx512vnni.o
endif
ifeq ($(MACHINE),aarch64)
KERNEL_OBJS += \
	workers/kernels/i2s_neon.o
endif

MODEL_OBJS = \
	workers/model/evaluate.o \
	workers/model/fixture_values.o \
	workers/model/fixture_vocab.o \
	workers/model/fixtures.o \
	workers/model/forward.o \
	workers/model/gguf.o \
	workers/model/gguf_keys.o \
	workers/model/gguf_parse.o \
	workers/model/gguf_write.o \
	workers/model/hparams.o \
	workers/model/inspect.o \
	workers/model/jinja.o \
	workers/model/jinja_builtin.o \
	workers/model/jinja_expr.o \
	workers/model/jinja_strings.o \
	workers/model/jinja_lex.o \
	workers/model/jinja_parse.o \
	workers/model/jinja_value.o \
	workers/model/model.o \
	workers/model/ops.o \
	workers/model/ops_attend.o \
	workers/model/pretok.o \
	workers/model/pretok_words.o \
	workers/model/quantize.o \
	workers/model/replay.o \
	workers/model/replay_forms.o \
	workers/model/replay_ties.o \
	workers/model/replay_variant.o \
	workers/model/rope.o \
	workers/model/sample.o \
	workers/model/session.o \
	workers/model/template.o \
	workers/model/tokenizer.o \
	workers/model/tokenizer_gguf.o \
	workers/model/tokenizer_json.o \
	workers/model/tokenizer_merge.o \
	workers/model/tokenizer_special.o \
	workers/model/tokenizer_unigram.o \
	workers/model/tokenizer_vocab.o \
	workers/model/unicode.o \
	workers/model/unicode_table.o \
	workers/model/weights.o
ENGINE_OBJS = \
	workers/engines/llama_stages.o \
	workers/engines/native.o \
	workers/engines/oracle.o \
	workers/engines/oracle_evaluate.o \
	workers/engines/oracle_ops.o \
	workers/engines/oracle_replay.o \
	workers/engines/oracle_round.o \
	workers/serve/channel.o \
	workers/serve/machine.o \
	workers/serve/serve.o \
	workers/serve/serve_evaluate.o \
	workers/serve/serve_template.o

WORKER_MAIN = \
	workers/engines/measure.o \
	workers/engines/table.o \
	workers/main.o \

# ---- the orchestrator ---------------------------------------------------------------------
CLI_OBJS = \
	orchestrator/cli/bench_common.o \
	orchestrator/cli/check_perf.o \
	orchestrator/cli/gate.o \
	orchestrator/cli/gate_beside.o \
	orchestrator/cli/gate_rerun.o \
	orchestrator/cli/bench.o \
	orchestrator/cli/cache.o \
	orchestrator/cli/calibrate.o \
	orchestrator/cli/cli.o \
	orchestrator/cli/commands.o \
	orchestrator/cli/compare_opts.o \
	orchestrator/cli/completion.o \
	orchestrator/cli/crossval.o \
	orchestrator/cli/crossval_report.o \
	orchestrator/cli/doctor.o \
	orchestrator/cli/engine_call.o \
	orchestrator/cli/engine_check.o \
	orchestrator/cli/engine_check_basic.o \
	orchestrator/cli/engine_check_evaluate.o \
	orchestrator/cli/engine_check_trace.o \
	orchestrator/cli/env.o \
	orchestrator/cli/explain.o \
	orchestrator/cli/fetch_cpp.o \
	orchestrator/cli/fetch_models.o \
	orchestrator/cli/gen_fixtures.o \
	orchestrator/cli/gen_mini_gguf.o \
	orchestrator/cli/help.o \
	orchestrator/cli/hidden.o \
	orchestrator/cli/infer.o \
	orchestrator/cli/kl.o \
	orchestrator/cli/logits.o \
	orchestrator/cli/merge.o \
	orchestrator/cli/model_events.o \
	orchestrator/cli/nightly.o \
	orchestrator/cli/nightly_model.o \
	orchestrator/cli/nightly_provision.o \
	orchestrator/cli/nightly_publish.o \
	orchestrator/cli/nightly_steps.o \
	orchestrator/cli/one_scenario.o \
	orchestrator/cli/per_token.o \
	orchestrator/cli/receipt.o \
	orchestrator/cli/record.o \
	orchestrator/cli/receipts_in.o \
	orchestrator/cli/reference_show.o \
	orchestrator/cli/report.o \
	orchestrator/cli/setup.o \
	orchestrator/cli/suggest.o \
	orchestrator/cli/sweep.o \
	orchestrator/cli/term.o \
	orchestrator/cli/tokenize.o \
	orchestrator/cli/trace.o \
	orchestrator/cli/trace_diff.o \
	orchestrator/cli/verify.o \
	orchestrator/cli/version.o

PROVISION_OBJS = \
	gen/embedded.o \
	orchestrator/provision/adopt.o \
	orchestrator/provision/build.o \
	orchestrator/provision/build_files.o \
	orchestrator/provision/build_log.o \
	orchestrator/provision/build_signatures.o \
	orchestrator/provision/build_worker.o \
	orchestrator/provision/check_worker.o \
	orchestrator/provision/clone.o \
	orchestrator/provision/clone_child.o \
	orchestrator/provision/clone_modules.o \
	orchestrator/provision/clone_rights.o \
	orchestrator/provision/clone_url.o \
	orchestrator/provision/digest_git.o \
	orchestrator/provision/doctor.o \
	orchestrator/provision/embed.o \
	orchestrator/provision/environment.o \
	orchestrator/provision/fetch.o \
	orchestrator/provision/fetch_conn.o \
	orchestrator/provision/fetch_disk.o \
	orchestrator/provision/fetch_hash.o \
	orchestrator/provision/fetch_http.o \
	orchestrator/provision/fetch_job.o \
	orchestrator/provision/fetch_open.o \
	orchestrator/provision/http_head.o \
	orchestrator/provision/hub.o \
	orchestrator/provision/json_line.o \
	orchestrator/provision/lock_file.o \
	orchestrator/provision/models.o \
	orchestrator/provision/models_lock.o \
	orchestrator/provision/partlog.o \
	orchestrator/provision/paths.o \
	orchestrator/provision/place.o \
	orchestrator/provision/process.o \
	orchestrator/provision/ranges.o \
	orchestrator/provision/reference.o \
	orchestrator/provision/reference_build.o \
	orchestrator/provision/reference_locked.o \
	orchestrator/provision/reference_store.o \
	orchestrator/provision/references_lock.o \
	orchestrator/provision/sandbox.o \
	orchestrator/provision/self_check.o \
	orchestrator/provision/setup.o \
	orchestrator/provision/source.o \
	orchestrator/provision/source_archive.o \
	orchestrator/provision/store.o \
	orchestrator/provision/toolchain.o \
	orchestrator/provision/unpack.o \
	orchestrator/provision/unpack_source.o \

# files of this tree that the program carries with it; read with orchestrator/provision/embed.h
EMBED = \
	docs/schema/receipt-1.0.0.schema.json \
	include/engine.h \
	include/err.h \
	include/trace.h \
	include/wire.h \
	lockfiles/crossval-models.lock.json \
	lockfiles/crossval-references.lock.json \
	lockfiles/thresholds.json \
	workers/common/blake3.c \
	workers/common/blake3.h \
	workers/common/err.c \
	workers/common/trace.c \
	workers/common/utf8.c \
	workers/common/utf8.h \
	workers/common/wire.c \
	workers/engines/llama.c \
	workers/engines/llama_api.h \
	workers/engines/llama_engine.h \
	workers/engines/llama_replay.c \
	workers/engines/llama_stages.c \
	workers/engines/llama_stages.h \
	workers/engines/llama_trace.c \
	workers/engines/table_llama.c \
	workers/main.c \
	workers/serve/channel.c \
	workers/serve/channel.h \
	workers/serve/machine.c \
	workers/serve/machine.h \
	workers/serve/serve.c \
	workers/serve/serve.h \
	workers/serve/serve_evaluate.c \

SWEEP_OBJS = \
	orchestrator/sweep/bench_receipt.o \
	orchestrator/sweep/bench.o \
	orchestrator/sweep/bundle.o \
	orchestrator/sweep/calibrate.o \
	orchestrator/sweep/child.o \
	orchestrator/sweep/client.o \
	orchestrator/sweep/engines.o \
	orchestrator/sweep/exchange.o \
	orchestrator/sweep/exchange_logits.o \
	orchestrator/sweep/explain.o \
	orchestrator/sweep/explain_command.o \
	orchestrator/sweep/guess.o \
	orchestrator/sweep/facts.o \
	orchestrator/sweep/hasher.o \
	orchestrator/sweep/journal.o \
	orchestrator/sweep/local.o \
	orchestrator/sweep/local_again.o \
	orchestrator/sweep/masks.o \
	orchestrator/sweep/pool.o \
	orchestrator/sweep/probe.o \
	orchestrator/sweep/record.o \
	orchestrator/sweep/recorded.o \
	orchestrator/sweep/scenario.o \
	orchestrator/sweep/scenario_line.o \
	orchestrator/sweep/side.o \
	orchestrator/sweep/sweep.o \
	orchestrator/sweep/sweep_plan.o \
	orchestrator/sweep/sweep_results.o \
	orchestrator/sweep/text_chunks.o \
	orchestrator/sweep/token_gate.o \
	orchestrator/sweep/trace_dir.o \
	orchestrator/sweep/trace_frame.o \


VERDICT_OBJS = \
	orchestrator/verdict/baseline.o \
	orchestrator/verdict/gate_bench.o \
	orchestrator/verdict/diagnosis.o \
	orchestrator/verdict/hypotheses.o \
	orchestrator/verdict/gate.o \
	orchestrator/verdict/gate_counters.o \
	orchestrator/verdict/gate_local.o \
	orchestrator/verdict/gate_metrics.o \
	orchestrator/verdict/gate_sides.o \
	orchestrator/verdict/gate_sweep.o \
	orchestrator/verdict/local.o \
	orchestrator/verdict/matched.o \
	orchestrator/verdict/schema.o \
	orchestrator/verdict/tensor_diff.o \
	orchestrator/verdict/ties.o \
	orchestrator/verdict/trace_diff.o \
	orchestrator/verdict/compare.o \
	orchestrator/verdict/kl.o \
	orchestrator/verdict/metrics.o \
	orchestrator/verdict/metrics_base.o \
	orchestrator/verdict/stats.o \
	orchestrator/verdict/thresholds.o \

ifeq ($(MACHINE),x86_64)
VERDICT_OBJS += \
	orchestrator/verdict/metrics_avx2.o \
	orchestrator/verdict/metrics_avx512.o \

endif

REPORT_OBJS = \
	orchestrator/report/canonical.o \
	orchestrator/report/input.o \
	orchestrator/report/history.o \
	orchestrator/report/local_json.o \
	orchestrator/report/matrix.o \
	orchestrator/report/page.o \
	orchestrator/report/receipt.o \
	orchestrator/report/picture.o \
	orchestrator/report/receipt_text.o \
	orchestrator/report/recording.o \
	orchestrator/report/recording_logits.o \
	orchestrator/report/sign.o \
	orchestrator/report/summary.o \
	orchestrator/report/summary_forms.o \

ASSAY_MAIN = orchestrator/main.o

# ---- tests --------------------------------------------------------------------------------
# tests/unit/NAME_test.c, each a program of its own; prints lines "ok - …", "not ok - …", "skip - …"
UNIT_TESTS = \
	baseline \
	build_log \
	cli \
	canonical \
	client \
	compare \
	embed \
	fetch_parts \
	fixtures \
	forward \
	memory \
	gguf \
	golden \
	golden_ops \
	hasher \
	kernels \
	kl \
	llama_stages \
	local \
	math \
	metrics \
	model \
	models_lock \
	oracle \
	oracle_golden \
	process \
	recording \
	replay \
	scenario \
	self_check \
	serve \
	sign \
	source_archive \
	stats \
	template \
	tl \
	threads \
	ties \
	tokenizer \
	tokenizer_json \
	trace \
	trace_diff \
	unicode \
	utf8 \
	vocab_only \
	wire \
	worker

# programs that tests start
TEST_PROGRAMS = \
	digest_bench \
	fake_worker \
	faulty_worker \
	seal \
	silu_reference \
	slow_worker

# shell tests: tests/NAME.sh, same output lines
SHELL_TESTS = \
	calibrate \
	cli \
	engine_check \
	explain \
	faults \
	fetch_models \
	gate \
	hostile \
	infer \
	kl \
	ladder \
	logits \
	models \
	neon \
	nightly \
	nightly_kill \
	numbers \
	odd_models \
	perf \
	reference_worker \
	record \
	references \
	sweep \
	tokenize

# tests/fuzz/NAME.c
FUZZERS = \
	build_log \
	gguf \
	gitmodules \
	http_head \
	models_lock \
	partlog \
	recording \
	references_lock \
	template \
	tokenizer \
	tokenizer_json \
	wire
include tests/rules.mk

# ---- rules --------------------------------------------------------------------------------
WORKER_LIB = $(addprefix $(B)/,$(COMMON_OBJS) $(KERNEL_OBJS) $(MODEL_OBJS) $(ENGINE_OBJS))
ASSAY_LIB  = $(addprefix $(B)/,$(CLI_OBJS) $(PROVISION_OBJS) $(SWEEP_OBJS) $(VERDICT_OBJS) \
	     $(REPORT_OBJS))
PROGRAMS   = $(B)/assay $(if $(WORKER_MAIN),$(B)/assay-worker)

.PHONY: all run test bench fuzz lint install clean deps deb dist compile_commands.json
.DELETE_ON_ERROR:
all: $(PROGRAMS)

$(B)/libworker.a: $(WORKER_LIB)
	@rm -f $@; $(AR) rcs $@ $^
$(B)/libassay.a: $(ASSAY_LIB)
	@rm -f $@; $(AR) rcs $@ $^

$(B)/assay: $(addprefix $(B)/,$(ASSAY_MAIN)) $(B)/libassay.a $(B)/libworker.a
	$(CC) $(SANFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)
$(B)/assay-worker: $(addprefix $(B)/,$(WORKER_MAIN)) $(B)/libworker.a
	$(CC) $(SANFLAGS) $(LDFLAGS) -o $@ $^ $(WORKER_LIBS) -lpthread -lm

# per-file instruction sets: the suffix of the file's name says which
$(B)/%_avx2.o: ISA = -mavx2 -mfma -mf16c -mbmi2
$(B)/%_neon.o: ISA = -march=armv8.2-a+dotprod
$(B)/%_avxvnni.o: ISA = -mavx2 -mfma -mf16c -mbmi2 -mavxvnni
$(B)/%_avx512.o: ISA = -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mf16c -mbmi2
$(B)/%_avx512vnni.o: ISA = -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mavx512vbmi \
	-mavx2 -mfma -mf16c -mbmi2
$(B)/%_avx512amx.o: ISA = -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mavx512vbmi \
	-mamx-tile -mamx-int8 -mavx2 -mfma -mf16c -mbmi2
# kernels are worth the compiler's best; nobody looks at floating-point exception flags
$(B)/workers/kernels/%.o: OPT = -O3 -fno-trapping-math
$(B)/orchestrator/verdict/metrics_%.o: OPT = -O3 -Wno-psabi

$(B)/%.o: %.c $(B)/gen/flags | $(B)/gen/build_id.h
	@mkdir -p $(dir $@)
	$(CC) $(ALL) $(PKG_CFLAGS) $(OPT) $(ISA) -MMD -MP -c -o $@ $<

$(B)/embed: orchestrator/embed.c
	@mkdir -p $(dir $@)
	$(CC) -std=c11 -D_GNU_SOURCE -O1 $(WARN) -o $@ $<
$(B)/gen/embedded.c: $(B)/embed $(EMBED) Makefile
	@mkdir -p $(dir $@)
	$(B)/embed $@ $(EMBED)
$(B)/gen/embedded.o: $(B)/gen/embedded.c
	$(CC) $(ALL) -MMD -MP -c -o $@ $<

# what is compiled with other flags is compiled again
FLAGS := $(CC) $(ALL) $(PKG_CFLAGS)
$(B)/gen/flags: FORCE
	@mkdir -p $(dir $@)
	@printf '%s\n' '$(FLAGS)' > $@.tmp; \
	cmp -s $@.tmp $@ && rm $@.tmp || mv $@.tmp $@

# the build id: a digest over all sources
$(B)/gen/build_id.h: FORCE
	@mkdir -p $(dir $@)
	@id=$$(cat $$(find Makefile include orchestrator workers lockfiles -type f 2>/dev/null | LC_ALL=C sort) | \
		sha256sum | cut -c1-16); \
	printf '#define ASSAY_BUILD_ID "%s"\n' $$id > $@.tmp; \
	cmp -s $@.tmp $@ && rm $@.tmp || mv $@.tmp $@
.PHONY: FORCE
FORCE:
$(B)/orchestrator/cli/version.o: $(B)/gen/build_id.h

-include $(shell find $(B) -name '*.d' 2>/dev/null)

deps:
	@ci/deps.sh

# The main job on the embedded default: a generated tiny BitNet model, native against oracle.
# The recursion lets pkg-config be asked again once the packages are there.
run: deps
	@$(MAKE) --no-print-directory -s all
	@mkdir -p out
	$(B)/assay gen-fixtures --preset tiny-bitnet --out out/tiny-bitnet.gguf
	$(B)/assay sweep --model out/tiny-bitnet.gguf --engine native --reference oracle --out out/run

bench:
	@$(MAKE) --no-print-directory -s all
	@mkdir -p out
	$(B)/assay gen-fixtures --preset tiny-bitnet --out out/tiny-bitnet.gguf
	$(B)/assay bench --model out/tiny-bitnet.gguf --out out/bench

# both compilers, the arrows, the format of what changed
lint:
	@$(MAKE) --no-print-directory -s CC=gcc WERROR=1 all
	@$(MAKE) --no-print-directory -s CC=clang WERROR=1 all
	@ci/layers.sh $(B)
	@clang-format --version >/dev/null && ci/format.sh

compile_commands.json:
	@ci/compile_commands.sh > $@

# ---- install ------------------------------------------------------------------------------
BINDIR = $(DESTDIR)$(PREFIX)/bin
LIBEXECDIR = $(DESTDIR)$(PREFIX)/libexec/assay
MANDIR = $(DESTDIR)$(PREFIX)/share/man/man1
DOCDIR = $(DESTDIR)$(PREFIX)/share/doc/assay
COMPLETIONS = $(DESTDIR)$(PREFIX)/share

install: all
	install -d $(BINDIR) $(LIBEXECDIR) $(MANDIR) $(DOCDIR) $(COMPLETIONS)/bash-completion/completions \
		$(COMPLETIONS)/zsh/vendor-completions $(COMPLETIONS)/fish/vendor_completions.d
	install -m 755 $(B)/assay $(BINDIR)/assay
	install -m 755 $(B)/assay-worker $(LIBEXECDIR)/assay-worker
	$(B)/assay completion bash > $(COMPLETIONS)/bash-completion/completions/assay
	$(B)/assay completion zsh > $(COMPLETIONS)/zsh/vendor-completions/_assay
	$(B)/assay completion fish > $(COMPLETIONS)/fish/vendor_completions.d/assay.fish
	$(B)/assay completion man > $(MANDIR)/assay.1
	for c in $$($(B)/assay completion names); do \
		$(B)/assay completion man $$c > $(MANDIR)/assay-$$c.1; done
	install -m 644 README.md LICENSE $(wildcard docs/*.md) $(DOCDIR)

VERSION := $(shell sed -n 's/^.define ASSAY_VERSION "\(.*\)"/\1/p' orchestrator/cli/version.h)
dist:
	@mkdir -p build/dist
	git archive --format=tar.gz --prefix=assay-$(VERSION)/ -o build/dist/assay-$(VERSION).tar.gz HEAD
	@echo build/dist/assay-$(VERSION).tar.gz

deb: all
	@ci/deb.sh $(VERSION) build/dist

clean:
	rm -rf build
