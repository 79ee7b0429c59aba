/*
 * What this machine can give: the two limits that inference meets. Decoding is bounded by reading
 * every weight once per token, prefill by int8 multiply-adds.
 */
#ifndef ASSAY_ROOFLINE_H
#define ASSAY_ROOFLINE_H

#include "err.h"
#include "kernels.h"

#include <stdint.h>

enum { ROOFLINE_BUFFER_MIB = 512, ROOFLINE_MS = 250 };

struct roofline {
	int n_threads;
	/* The best of many windows of a few milliseconds: what others take away is not the machine's. */
	double read_gb_s;	/* 1e9 bytes per second, all threads together */
	/* What whole passes gave, the middle one: what decoding a token can have. */
	double read_sustained_gb_s;
	double int8_gmac_s;	/* 1e9 int8 multiply-adds per second, all threads; 0 when unknown */
	bool huge_pages;	/* the buffer lay on huge pages */
};

/*
 * Takes about a second. Reads a buffer of 512 MiB as products do: each thread in the runs of runs.h.
 * With a file: nothing but reading, of that file as it lies in the page cache. Where in memory that is
 * makes a difference of a fifth on some machines.
 */
int roofline_measure(const struct cpu_flags *cpu, int n_threads, const char *file,
		     struct roofline *out, struct err *e);

/* One pass over n bytes (multiple of 1024): a checksum, so that nothing is optimised away. */
typedef uint64_t roofline_read_fn(const uint8_t *p, size_t n);
/* rounds of multiply-adds on registers; *macs: how many it did. */
typedef int32_t roofline_int8_fn(int64_t rounds, int64_t *macs);

uint64_t roofline_read_c(const uint8_t *p, size_t n);
#if defined(__x86_64__)
uint64_t roofline_read_avx2(const uint8_t *p, size_t n);
int32_t roofline_int8_avx2(int64_t rounds, int64_t *macs);
uint64_t roofline_read_avx512vnni(const uint8_t *p, size_t n);
int32_t roofline_int8_avx512vnni(int64_t rounds, int64_t *macs);
#endif

#endif
