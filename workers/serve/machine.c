#include "machine.h"

#include <sched.h>
#include <stdio.h>

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
