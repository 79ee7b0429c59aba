# How tests are built and run; the lists are in the Makefile.

UNIT_BINS = $(patsubst %,$(B)/tests/unit/%_test,$(UNIT_TESTS))
TEST_BINS = $(patsubst %,$(B)/tests/%,$(TEST_PROGRAMS))

$(B)/tests/%: $(B)/tests/%.o $(B)/libassay.a $(B)/libworker.a
	@mkdir -p $(dir $@)
	$(CC) $(SANFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)
$(B)/tests/unit/%.o: BASE += -Itests

test:
	@ci/deps.sh --test
	@$(MAKE) --no-print-directory -s test-run

.PHONY: test-run
test-run: all $(UNIT_BINS) $(TEST_BINS) $(patsubst %,$(B)/tests/corpus/%_corpus,$(FUZZERS))
	@B=$(B) tests/run.sh $(patsubst %,tests/%.sh,$(SHELL_TESTS)) \
		$(patsubst %,$(B)/tests/unit/%_test,$(UNIT_TESTS)) \
		$(patsubst %,$(B)/tests/corpus/%_corpus,$(FUZZERS))

.SECONDARY: $(patsubst %,$(B)/tests/unit/%_test.o,$(UNIT_TESTS))

# ---- fuzzing: `make fuzz` runs each FUZZERS entry for FUZZ_SECONDS on its committed corpus -----
FUZZ_SECONDS ?= 20

FUZZED = $(patsubst %,fuzz-%,$(FUZZERS))

.PHONY: fuzz-run $(FUZZED)
fuzz:
	@$(MAKE) --no-print-directory -s --output-sync=target CC=clang SAN=fuzzer-no-link,address,undefined B=build/fuzz fuzz-run
fuzz-run: $(FUZZED)
$(FUZZED): fuzz-%: $(B)/tests/fuzz/%
	@mkdir -p $(B)/corpus/$*; echo "fuzz $*, $(FUZZ_SECONDS) s"; \
	$< -max_total_time=$(FUZZ_SECONDS) -max_len=65536 -verbosity=0 -print_final_stats=1 \
		-artifact_prefix=$(B)/ $(B)/corpus/$* tests/fuzz/corpus/$* 2>&1
$(B)/tests/fuzz/%: $(B)/tests/fuzz/%.o $(B)/libassay.a $(B)/libworker.a
	@mkdir -p $(dir $@)
	$(CC) -fsanitize=fuzzer,address,undefined $(LDFLAGS) -o $@ $^ $(LIBS)

# In `make test` the same entries run once over their corpora, with any compiler.
$(B)/tests/corpus/%_corpus: $(B)/tests/fuzz/%.o $(B)/tests/fuzz/replay.o $(B)/libassay.a $(B)/libworker.a
	@mkdir -p $(dir $@)
	$(CC) $(SANFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)
