#include "profile.h"

#include <stdio.h>
#include <string.h>

static const struct lanes_name {
	const char *name;
	enum profile_lanes lanes;
	bool fast;
} lanes_names[] = {
	{"ggml-avx2", LANES_AVX2, false},
	{"ggml-avx512", LANES_AVX512, false},
	{"ggml-fp16", LANES_AVX512_FP16, false},
	{"fast", LANES_AVX2, true},
};

static const struct lanes_name *find_lanes(const char *name, size_t n)
{
	for (size_t i = 0; i < sizeof(lanes_names) / sizeof(lanes_names[0]); i++) {
		const char *full = lanes_names[i].name;
		const char *brief = strncmp(full, "ggml-", 5) == 0 ? full + 5 : full;

		if ((strlen(full) == n && strncmp(full, name, n) == 0) ||
		    (strlen(brief) == n && strncmp(brief, name, n) == 0))
			return &lanes_names[i];
	}
	return NULL;
}

static bool ends_with(const char *s, size_t n, const char *end)
{
	size_t m = strlen(end);

	return n > m && memcmp(s + n - m, end, m) == 0;
}

int profile_by_name(struct profile *p, const char *name, bool bitnet_family, struct err *e)
{
	size_t n = strlen(name);
	bool clang = bitnet_family;

	if (ends_with(name, n, "-clang")) {
		clang = true;
		n -= strlen("-clang");
	} else if (ends_with(name, n, "-gcc")) {
		clang = false;
		n -= strlen("-gcc");
	}
	const struct lanes_name *l = find_lanes(name, n);

	if (!l || (l->fast && n != strlen(name)))
		return err_set(e, EXIT_USAGE,
			       "unknown numerics profile \"%s\"; known are ggml-avx2, ggml-avx512, "
			       "ggml-fp16, each also with -gcc or -clang, and fast", name);
	*p = (struct profile){
		.lanes = l->lanes,
		.bf16_dp = l->lanes == LANES_AVX512_FP16,
		.i8_quant_fma = !clang,
		.tq_fused = !clang,
		.f32_tail_fma = clang,
		.rope_norm_tail_unfused = !clang,
		.kv_pad = bitnet_family ? 32 : 256,
		.fast = l->fast,
	};
	snprintf(p->name, sizeof(p->name), "%s%s", l->name,
		 l->fast ? ""
		 : clang ? "-clang"
			 : "-gcc");
	return 0;
}
