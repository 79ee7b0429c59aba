/*
 * The smallest test harness: each check prints one line that tests/run.sh counts.
 * A failing check prints where and what; the program goes on and exits 1 at the end.
 */
#ifndef ASSAY_TEST_H
#define ASSAY_TEST_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int test_failures;

#define CHECK(cond, ...)                                                                    \
	do {                                                                                \
		int holds_ = !!(cond);	/* evaluated once */                               \
											\
		printf(holds_ ? "ok - " : "not ok - ");                                     \
		test_failures += !holds_;                                                   \
		printf(__VA_ARGS__);                                                        \
		if (!holds_)                                                                \
			printf(" # %s:%d: %s", __FILE__, __LINE__, #cond);                  \
		putchar('\n');                                                              \
		fflush(stdout);                                                             \
	} while (0)

#define CHECK_STR(got, want, ...)                                                           \
	do {                                                                                \
		const char *got_ = (got), *want_ = (want);                                  \
		int same_ = got_ && strcmp(got_, want_) == 0;                               \
		CHECK(same_, __VA_ARGS__);                                                  \
		if (!same_)                                                                 \
			printf("# got  \"%s\"\n# want \"%s\"\n", got_ ? got_ : "(null)", want_); \
	} while (0)

#define SKIP(name, why) printf("skip - %s # %s\n", name, why)

#define TEST_END() (test_failures ? 1 : 0)

#endif
