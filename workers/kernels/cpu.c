#include "kernels.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/* XCR0: which register files the system saves */
static uint64_t saved_state(void)
{
	uint32_t lo, hi;

	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return (uint64_t)hi << 32 | lo;
}

/* Linux gives a process the tile registers only when it asks. Threads started later have them, too. */
static bool tiles_granted(void)
{
#if defined(__linux__)
	enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };

	return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
	return false;
#endif
}

static bool is_amd(void)
{
	uint32_t a, b, c, d;

	return __get_cpuid(0, &a, &b, &c, &d) && b == signature_AMD_ebx && c == signature_AMD_ecx &&
	       d == signature_AMD_edx;
}

struct cpu_flags cpu_flags_detect(void)
{
	enum { YMM = 6, ZMM = 0xe6, TILES = 0x60000 };
	struct cpu_flags f = {0};
	uint32_t a, b, c, d;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
		return f;
	uint64_t saved = saved_state();

	if ((saved & YMM) != YMM)
		return f;
	f.prefetches_far = is_amd();
	f.fma = c & bit_FMA;
	f.f16c = c & bit_F16C;
	if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
		return f;
	f.avx2 = b & bit_AVX2;
	f.bmi2 = b & bit_BMI2;
	if ((saved & ZMM) == ZMM) {
		f.amx_int8 = d & (1u << 24) && d & (1u << 25) && (saved & TILES) == TILES &&
			     tiles_granted();
		f.avx512f = b & bit_AVX512F;
		f.avx512bw = b & bit_AVX512BW;
		f.avx512dq = b & bit_AVX512DQ;
		f.avx512vl = b & bit_AVX512VL;
		f.avx512_vbmi = c & (1u << 1);
		f.avx512_vnni = c & (1u << 11);
		f.avx512_fp16 = d & (1u << 23);
	}
	if (__get_cpuid_count(7, 1, &a, &b, &c, &d)) {
		f.avx_vnni = a & (1u << 4);
		f.avx512_bf16 = f.avx512f && (a & (1u << 5));
	}
	return f;
}

#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>

struct cpu_flags cpu_flags_detect(void)
{
	unsigned long caps = getauxval(AT_HWCAP), caps2 = getauxval(AT_HWCAP2);

	return (struct cpu_flags){
		.neon = true,
		.dotprod = caps & (1ul << 20),
		.i8mm = caps2 & (1ul << 13),
	};
}

#else

struct cpu_flags cpu_flags_detect(void)
{
	return (struct cpu_flags){0};
}

#endif

static const char *const names[ISA_COUNT] = {
	[ISA_C] = "c",
	[ISA_AVX2] = "avx2",
	[ISA_AVX2_VNNI] = "avx2-vnni",
	[ISA_AVX512] = "avx512",
	[ISA_AVX512_VNNI] = "avx512-vnni",
	[ISA_AVX512_AMX] = "avx512-amx",
	[ISA_NEON] = "neon",
};

const char *isa_name(enum isa isa)
{
	return isa < ISA_COUNT ? names[isa] : "unknown";
}

int isa_by_name(const char *name)
{
	for (int i = 0; i < ISA_COUNT; i++)
		if (strcmp(names[i], name) == 0)
			return i;
	return -1;
}
