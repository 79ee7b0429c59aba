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
test-run: all $(UNIT_BINS) $(TEST_BINS)
	@B=$(B) tests/run.sh $(patsubst %,$(B)/tests/unit/%_test,$(UNIT_TESTS)) \
		$(patsubst %,tests/%.sh,$(SHELL_TESTS))

.SECONDARY: $(patsubst %,$(B)/tests/unit/%_test.o,$(UNIT_TESTS))
