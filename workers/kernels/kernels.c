#include "kernels.h"

#include "tl.h"
#include "variants.h"

/* Beside the hardware's own prefetching, further ahead costs more than it brings. */
enum { AHEAD_NEAR = 512, AHEAD_FAR = 16384 };

static bool cpu_has(const struct cpu_flags *cpu, enum isa isa)
{
	bool avx2 = cpu->avx2 && cpu->fma && cpu->f16c && cpu->bmi2;
	bool avx512 = avx2 && cpu->avx512f && cpu->avx512bw && cpu->avx512dq && cpu->avx512vl;
	bool vnni = avx512 && cpu->avx512_vnni && cpu->avx512_vbmi;

	switch (isa) {
	case ISA_C: return true;
	case ISA_AVX2: return avx2;
	case ISA_AVX2_VNNI: return avx2 && cpu->avx_vnni;
	case ISA_AVX512: return avx512;
	case ISA_AVX512_VNNI: return vnni;
	case ISA_AVX512_AMX: return vnni && cpu->amx_int8;
	case ISA_NEON: return cpu->neon && cpu->dotprod;
	case ISA_COUNT: break;
	}
	return false;
}

static enum isa widest(const struct cpu_flags *cpu)
{
	enum isa best = ISA_C;

	for (int i = 0; i < ISA_COUNT; i++)
		if (cpu_has(cpu, (enum isa)i))
			best = (enum isa)i;
	return best;
}

#if defined(__x86_64__)
static void fill_quantised(struct kernels *k, matmul_variant *variant)
{
	for (const struct weight_type *t = weight_types; t->name; t++)
		if (t->act == ACT_Q8_0 || t->act == ACT_Q8_1 || t->act == ACT_Q8_K)
			k->by_type[t->id] = variant;
}
#endif

static void fill(struct kernels *k)
{
	kernels_fill_base_c(k);
	k->quantize[ACT_TL] = tl_quantize;
	k->by_type[TYPE_TL1] = k->by_type[TYPE_TL2] = tl_matmul;
#if defined(__x86_64__)
	if (k->isa == ISA_AVX2 || k->isa == ISA_AVX2_VNNI) {
		kernels_fill_base_avx2(k);
		kernels_fill_float_avx2(k);
	}
	if (k->isa == ISA_AVX512 || k->isa == ISA_AVX512_VNNI || k->isa == ISA_AVX512_AMX) {
		kernels_fill_base_avx512(k);
		kernels_fill_float_avx512(k);
	}
	if (k->isa != ISA_C) {
		fill_quantised(k, quant_matmul_avx2);
		k->by_type[TYPE_I2_S] = i2s_matmul_avx2;
	}
	if (k->isa == ISA_AVX2_VNNI)
		k->by_type[TYPE_I2_S] = i2s_matmul_avxvnni;
	if (k->isa == ISA_AVX512_VNNI || k->isa == ISA_AVX512_AMX) {
		fill_quantised(k, quant_matmul_avx512vnni);
		k->by_type[TYPE_I2_S] = i2s_matmul_avx512vnni;
	}
	if (k->isa == ISA_AVX512_AMX)
		k->by_type[TYPE_I2_S] = i2s_matmul_avx512amx;
#endif
#if defined(__aarch64__)
	if (k->isa == ISA_NEON)
		k->by_type[TYPE_I2_S] = i2s_matmul_neon;
#endif
}

int kernels_init(struct kernels *k, const struct cpu_flags *cpu, const char *force,
		 const struct profile *p, struct err *e)
{
	enum isa isa = widest(cpu);

	if (force) {
		int wanted = isa_by_name(force);

		if (wanted < 0)
			return err_set(
				e, EXIT_USAGE,
				"unknown instruction set \"%s\"; known are c, avx2, avx2-vnni, "
				"avx512, avx512-vnni, avx512-amx and neon",
				force);
		if (!cpu_has(cpu, (enum isa)wanted))
			return err_set(
				e, EXIT_USAGE,
				"this CPU has no %s; the widest instruction set it has is %s",
				force, isa_name(isa));
		isa = (enum isa)wanted;
	}
	*k = (struct kernels){
		.isa = isa, .profile = *p,
		.ahead_bytes = cpu->prefetches_far ? AHEAD_NEAR : AHEAD_FAR,
	};
	fill(k);
	return 0;
}

void weight_row(const struct weight *w, int64_t row, float *dst)
{
	if (w->type->dequantize_row)
		w->type->dequantize_row(w->data, w->n_in, w->n_out, row, dst);
	else
		w->type->dequantize(w->data + (size_t)row * w->row_bytes, w->tail, dst, w->n_in);
}

int64_t kernels_kv_length(const struct profile *p, int64_t n_used, int64_t n_ctx)
{
	int64_t n = (n_used + p->kv_pad - 1) / p->kv_pad * p->kv_pad;

	if (n < p->kv_pad)
		n = p->kv_pad;
	return n < n_ctx ? n : n_ctx;
}

bool attend_in_blocks(const struct kernels *k, int head_dim)
{
	return k->attend_parts && k->attend_parts->takes_blocks(k, head_dim);
}

int64_t attend_block_cells(int64_t n_cells)
{
	return (n_cells + ATTEND_BLOCK - 1) / ATTEND_BLOCK * ATTEND_BLOCK;
}

int64_t attend_block_at(int64_t cell, int64_t place, int64_t head_dim)
{
	return (cell / ATTEND_BLOCK * head_dim + place) * ATTEND_BLOCK + cell % ATTEND_BLOCK;
}

/* Accumulators 0 and 2 are added first, then 1 and 3; lanes by halves, the last four as the tree of
 * vec.h goes. */
void attend_places(const struct kernels *k, int head_dim, uint8_t *place)
{
	static const uint8_t accumulators[] = {0, 2, 1, 3}, lanes8[] = {0, 4, 1, 5, 2, 6, 3, 7},
			     lanes16[] = {0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15};
	const int lanes = k->profile.lanes == LANES_AVX2 ? 8 : 16;
	const uint8_t *of = lanes == 8 ? lanes8 : lanes16;
	int at = 0;

	for (int l = 0; l < lanes; l++)
		for (int a = 0; a < 4; a++)
			for (int i = of[l] + accumulators[a] * lanes; i < head_dim; i += 4 * lanes)
				place[i] = (uint8_t)at++;
}

int64_t attend_cells(const struct attend *a)
{
	return (a->n_kv + 128 + 63) / 64 * 64;
}

/* Scores of a group may take an eighth of a large second-level cache. */
enum { GROUP_SCORES = ATTEND_GROUP * 2176, GROUP_LEAST = 16 };

int attend_group(const struct attend *a)
{
	int64_t fit = GROUP_SCORES / attend_cells(a) / 4 * 4;

	return fit > ATTEND_GROUP ? ATTEND_GROUP : fit < GROUP_LEAST ? GROUP_LEAST : (int)fit;
}

/* Never less for fewer cells: what the longest cache needs serves every shorter one. */
size_t attend_scratch_bytes(const struct attend *a)
{
	enum { ROOM = 64 };
	size_t cells = (size_t)attend_cells(a), scores = cells * ATTEND_GROUP;

	if (scores > GROUP_SCORES)
		scores = cells * GROUP_LEAST > GROUP_SCORES ? cells * GROUP_LEAST : GROUP_SCORES;
	return (scores + cells * ATTEND_WIDE_ROWS + (size_t)(ATTEND_GROUP * a->head_dim) + ROOM) *
	       sizeof(float);
}

size_t attend_shared_bytes(const struct attend *a)
{
	size_t floats = (size_t)(attend_cells(a) + a->head_dim) * ATTEND_QUERIES;

	return (floats * sizeof(float) + 63) / 64 * 64;
}
