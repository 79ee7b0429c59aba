/*
 * A numerics profile fixes the shape of every reduction, independent of the hardware that runs it:
 * the bits that a ggml build on such a CPU, from such a compiler, gives. docs/numerics.md
 */
#ifndef ASSAY_PROFILE_H
#define ASSAY_PROFILE_H

#include "err.h"

#include <stdbool.h>

enum profile_lanes {               /* F32/F16 dot products, exponential and its sum, BF16 dot */
		     LANES_AVX2,   /* 4 × 8 f32 lanes */
		     LANES_AVX512, /* 4 × 16 f32 lanes; F16 dot in f32 */
		     LANES_AVX512_FP16, /* as AVX512, but the F16 dot in 4 × 32 half lanes, BF16 by dpbf16 */
};

struct profile {
	char name[64];		/* "ggml-avx2-gcc": lanes and compiler */
	enum profile_lanes lanes;
	bool bf16_dp;		/* BF16 dot by the dpbf16 rule (native AVX512-BF16 builds) */
	bool i8_quant_fma;	/* I2_S activation quantiser: gcc fuses, clang does not */
	bool tq_fused;		/* TQ accumulation fused (gcc) or not (clang) */
	bool f32_tail_fma;	/* F32 dot tail: clang fuses all of it */
	bool rope_norm_tail_unfused;	/* NORM RoPE: the last P mod lanes/4 pairs unfused (gcc) */
	int kv_pad;		/* KV length is padded to this: 32 bitnet.cpp, 256 llama.cpp */
	bool fast;		/* assay's own order: any split gives the same bits, no reference */
};

/*
 * Names: ggml-avx2, ggml-avx512, ggml-fp16, fast; an optional suffix -gcc or -clang, the prefix
 * ggml- may be left out. Without a suffix the compiler is the one each reference is built with:
 * bitnet.cpp clang, llama.cpp gcc. bitnet_family: the model is one that only bitnet.cpp runs
 * (I2_S, TL1, TL2 weights or architecture bitnet-b1.58 / bitnet-25); decides kv_pad and compiler.
 */
int profile_by_name(struct profile *p, const char *name, bool bitnet_family, struct err *e);

#endif
