#include "machine.h"

#include <sched.h>
#include <stdio.h>
#include <time.h>

enum { PACE_STEPS = 16000, PACE_TRIES = 3 };

int machine_threads(void)
{
	cpu_set_t set;
	int n = 0;

	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		n = CPU_COUNT(&set);
	return n > 0 ? n : 1;
}

void machine_isa(char *out, size_t size)
{
	size_t n = 0;

	out[0] = 0;
#define ADD(name)                                                                           \
	do {                                                                                \
		if (n < size)                                                               \
			n += (size_t)snprintf(out + n, size - n, "%s%s", n ? "," : "", name); \
	} while (0)
#if defined(__x86_64__)
#define ADD_IF(name)                                                                        \
	do {                                                                                \
		if (__builtin_cpu_supports(name))                                           \
			ADD(name);                                                          \
	} while (0)
	__builtin_cpu_init();
	ADD_IF("avx2");
	ADD_IF("fma");
	ADD_IF("bmi2");
	ADD_IF("avx512f");
	ADD_IF("avx512bw");
	ADD_IF("avx512dq");
	ADD_IF("avx512vl");
	ADD_IF("avx512vnni");
	ADD_IF("avx512vbmi");
#elif defined(__aarch64__)
	ADD("neon");
#endif
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t machine_pace_ns(void)
{
	int64_t best = INT64_MAX;

	for (int k = 0; k < PACE_TRIES; k++) {
		int64_t start = now_ns(), took;
		uint64_t x = 1;

		for (int i = 0; i < PACE_STEPS; i++) {
			x *= 0x9e3779b97f4a7c15u;
			__asm__ volatile("" : "+r"(x)); /* no compiler may fold the chain */
		}
		took = now_ns() - start;
		best = took < best ? took : best;
	}
	return best > 0 ? best : 1;
}
