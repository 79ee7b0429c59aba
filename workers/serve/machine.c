#include "machine.h"

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

enum { PACE_STEPS = 16000 };

int machine_threads(void)
{
	cpu_set_t set;
	int n = 0;

	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		n = CPU_COUNT(&set);
	return n > 0 ? n : 1;
}

#if defined(__x86_64__)
/* Not every compiler that builds a reference's worker knows the name. */
static bool has_amx_int8(void)
{
	enum { LEAF = 7, AMX_INT8 = 1 << 25 };
	unsigned a, b, c, d;

	return __get_cpuid_count(LEAF, 0, &a, &b, &c, &d) && d & AMX_INT8;
}
#endif

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
	if (has_amx_int8())
		ADD("amxint8");
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

/*
 * Eight chains that wait for nobody: as many instructions at once as the core can issue, so that a
 * neighbour on the same core (hyper-threading) slows this as it slows a kernel.
 */
int64_t machine_pace_ns(void)
{
	uint64_t a = 1, b = 2, c = 3, d = 4, f = 5, g = 6, h = 7, k = 8;
	int64_t start = now_ns(), took;

	for (int i = 0; i < PACE_STEPS; i++) {
		a += 0x9e37, b ^= a, c += 0x79b9, d ^= c, f += 0x7f4a, g ^= f, h += 0x7c15, k ^= h;
		/* no compiler may fold a step into the next */
		__asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(f), "+r"(g), "+r"(h), "+r"(k));
	}
	took = now_ns() - start;
	return took > 0 ? took : 1;
}
