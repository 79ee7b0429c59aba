#include "kernels.h"

#include <math.h>
#include <string.h>

/* Each written fma() below rounds once; nothing else is fused. */
#define FMA(a, b, c) __builtin_fma(a, b, c)

static uint32_t bits32(float x)
{
	uint32_t u;

	memcpy(&u, &x, sizeof(u));
	return u;
}

static float float_of(uint32_t u)
{
	float x;

	memcpy(&x, &u, sizeof(x));
	return x;
}

static uint64_t bits64(double x)
{
	uint64_t u;

	memcpy(&u, &x, sizeof(u));
	return u;
}

static double double_of(uint64_t u)
{
	double x;

	memcpy(&x, &u, sizeof(x));
	return x;
}

/* ---- sine and cosine ---------------------------------------------------------------------- */

/* bytes of 2/pi; T[k] = the low 32 bits of the first k+1 of them */
static const uint32_t two_over_pi[24] = {
	0xa2,	    0xa2f9,	0xa2f983,   0xa2f9836e, 0xf9836e4e, 0x836e4e44,
	0x6e4e4415, 0x4e441529, 0x441529fc, 0x1529fc27, 0x29fc2757, 0xfc2757d1,
	0x2757d1f5, 0x57d1f534, 0xd1f534dd, 0xf534ddc0, 0x34ddc0db, 0xddc0db62,
	0xc0db6295, 0xdb629599, 0x6295993c, 0x95993c43, 0x993c4390, 0x3c439041,
};

/* |x| >= 120: the remainder by pi/2 from a 96-bit product; *n counts the quarter turns */
static double reduce_large(uint32_t bits, int *n)
{
	const uint32_t *t = &two_over_pi[(bits >> 26) & 15];
	uint32_t m = ((bits & 0x7fffff) | 0x800000) << ((bits >> 23) & 7);
	uint64_t high = (uint64_t)(m * t[0]) << 32;
	uint64_t r = (high | (uint64_t)m * t[8] >> 32) + (uint64_t)m * t[4];
	uint64_t quarters = (r + (1ull << 61)) >> 62;

	*n = (int)quarters;
	return (double)(int64_t)(r - (quarters << 62)) * 0x1.921FB54442D18p-62;
}

static double reduce_small(float x, int *n)
{
	int32_t k = (int32_t)((double)x * 0x1.45F306DC9C883p+23);

	*n = (k + 0x800000) >> 24;
	return FMA(-(double)*n, 0x1.921FB54442D18p0, (double)x);
}

static float sin_poly(double r)
{
	double q = r * r, r3 = r * q;
	double u = FMA(q, -0x1.994eb3774cf24p-13, 0x1.1107605230bc4p-7);

	return (float)FMA(r3 * q, u, FMA(r3, -0x1.555545995a603p-3, r));
}

static float cos_poly(double r)
{
	double q = r * r, q4 = q * q;
	double hi = FMA(q, 0x1.99343027bf8c3p-16, -0x1.6c087e89a359dp-10);
	double lo = FMA(q, -0x1.ffffffd0c621cp-2, 1.0);

	return (float)FMA(q4 * q, hi, FMA(q4, 0x1.55553e1068f19p-5, lo));
}

float m_sinf(float x)
{
	uint32_t bits = bits32(x), a = bits & 0x7fffffff;
	int n;
	float y;

	if (a < 0x39800000)		/* 2^-12 */
		return x;
	if (a >= 0x7f800000)
		return x - x;
	double r = a < 0x42f00000 ? reduce_small(x, &n) : reduce_large(a, &n);
	y = n & 1 ? cos_poly(r) : sin_poly(r);
	if (n & 2)
		y = -y;
	return a >= 0x42f00000 && bits >> 31 ? -y : y;
}

float m_cosf(float x)
{
	uint32_t a = bits32(x) & 0x7fffffff;
	int n;
	float y;

	if (a < 0x39800000)
		return 1.0f;
	if (a >= 0x7f800000)
		return x - x;
	double r = a < 0x42f00000 ? reduce_small(x, &n) : reduce_large(a, &n);
	y = n & 1 ? -sin_poly(r) : cos_poly(r);
	return n & 2 ? -y : y;
}

/* ---- exponential, logarithm, power -------------------------------------------------------- */

/* bits of 2^(i/32), less i << 47, so that adding k << 47 yields 2^(k/32) */
static const uint64_t exp2_table[32] = {
	0x3ff0000000000000, 0x3fefd9b0d3158574, 0x3fefb5586cf9890f, 0x3fef9301d0125b51,
	0x3fef72b83c7d517b, 0x3fef54873168b9aa, 0x3fef387a6e756238, 0x3fef1e9df51fdee1,
	0x3fef06fe0a31b715, 0x3feef1a7373aa9cb, 0x3feedea64c123422, 0x3feece086061892d,
	0x3feebfdad5362a27, 0x3feeb42b569d4f82, 0x3feeab07dd485429, 0x3feea47eb03a5585,
	0x3feea09e667f3bcd, 0x3fee9f75e8ec5f74, 0x3feea11473eb0187, 0x3feea589994cce13,
	0x3feeace5422aa0db, 0x3feeb737b0cdc5e5, 0x3feec49182a3f090, 0x3feed503b23e255d,
	0x3feee89f995ad3ad, 0x3feeff76f2fb5e47, 0x3fef199bdd85529c, 0x3fef3720dcef9069,
	0x3fef5818dcfba487, 0x3fef7c97337b9b5f, 0x3fefa4afa2a490da, 0x3fefd0765b6e4540,
};

#define EXP2_C0 0x1.c6af84b912394p-5
#define EXP2_C1 0x1.ebfce50fac4f3p-3
#define EXP2_C2 0x1.62e42ff0c52d6p-1

/* 2^(k/32) · the polynomial in r; c0..c2 scaled to r's unit */
static double exp2_tail(uint64_t k, double r, double c0, double c1, double c2)
{
	double s = double_of(exp2_table[k % 32] + (k << 47));
	double z = FMA(c0, r, c1), y = FMA(c2, r, 1.0);

	return FMA(z, r * r, y) * s;
}

float m_expf(float x)
{
	const double inv_ln2_32 = 0x1.71547652b82fep+5, shift = 0x1.8p52;

	if (x != x)
		return x + x;
	if (x > 0x1.62e42ep6f)
		return INFINITY;
	if (x < -0x1.9fe368p6f)
		return 0.0f;
	if (x < -0x1.9d1d9ep6f)
		return 0x1p-149f;
	double kd = FMA(inv_ln2_32, (double)x, shift);
	uint64_t k = bits64(kd);

	kd -= shift;
	return (float)exp2_tail(k, FMA(inv_ln2_32, (double)x, -kd), EXP2_C0 * 0x1p-15,
				EXP2_C1 * 0x1p-10, EXP2_C2 * 0x1p-5);
}

/* 1/c, -log(c) and -log2(c) … of the sixteen subintervals of [0.7, 1.4) */
static const struct log_entry {
	double inv_c, ln_c, log2_c;
} log_table[16] = {
	{0x1.661ec79f8f3bep+0, -0x1.57bf7808caadep-2, -0x1.efec65b963019p-2},
	{0x1.571ed4aaf883dp+0, -0x1.2bef0a7c06ddbp-2, -0x1.b0b6832d4fca4p-2},
	{0x1.49539f0f010b0p+0, -0x1.01eae7f513a67p-2, -0x1.7418b0a1fb77bp-2},
	{0x1.3c995b0b80385p+0, -0x1.b31d8a68224e9p-3, -0x1.39de91a6dcf7bp-2},
	{0x1.30d190c8864a5p+0, -0x1.6574f0ac07758p-3, -0x1.01d9bf3f2b631p-2},
	{0x1.25e227b0b8ea0p+0, -0x1.1aa2bc79c8100p-3, -0x1.97c1d1b3b7af0p-3},
	{0x1.1bb4a4a1a343fp+0, -0x1.a4e76ce8c0e5ep-4, -0x1.2f9e393af3c9fp-3},
	{0x1.12358f08ae5bap+0, -0x1.1973c5a611cccp-4, -0x1.960cbbf788d5cp-4},
	{0x1.0953f419900a7p+0, -0x1.252f438e10c1ep-5, -0x1.a6f9db6475fcep-5},
	{0x1.0000000000000p+0, 0x0.0p+0, 0x0.0p+0},
	{0x1.e608cfd9a47acp-1, 0x1.aa5aa5df25984p-5, 0x1.338ca9f24f53dp-4},
	{0x1.ca4b31f026aa0p-1, 0x1.c5e53aa362eb4p-4, 0x1.476a9543891bap-3},
	{0x1.b2036576afce6p-1, 0x1.526e57720db08p-3, 0x1.e840b4ac4e4d2p-3},
	{0x1.9c2d163a1aa2dp-1, 0x1.bc2860d224770p-3, 0x1.40645f0c6651cp-2},
	{0x1.886e6037841edp-1, 0x1.1058bc8a07ee1p-2, 0x1.88e9c2c1b9ff8p-2},
	{0x1.767dcf5534862p-1, 0x1.4043057b6ee09p-2, 0x1.ce0a44eb17bccp-2},
};

/* bits of a positive normal number -> table entry, exponent, and r = z/c - 1 */
static const struct log_entry *log_reduce(uint32_t bits, double *k, double *r)
{
	uint32_t t = bits - 0x3f330000;
	const struct log_entry *e = &log_table[(t >> 19) % 16];

	*k = (double)((int32_t)t >> 23);
	*r = FMA((double)float_of(bits - (t & 0xff800000)), e->inv_c, -1.0);
	return e;
}

float m_logf(float x)
{
	uint32_t bits = bits32(x);
	double k, r;

	if (bits == 0x3f800000)
		return 0.0f;
	if (bits - 0x00800000 >= 0x7f800000 - 0x00800000) {
		if (bits * 2 == 0)
			return -INFINITY;
		if (bits == 0x7f800000)
			return x;
		if (bits >> 31 || bits * 2 >= 0xff000000)
			return NAN;
		bits = bits32(x * 0x1p23f) - (23u << 23);
	}
	const struct log_entry *e = log_reduce(bits, &k, &r);
	double y0 = FMA(k, 0x1.62e42fefa39efp-1, e->ln_c), r2 = r * r;
	double y = FMA(0x1.5575b0be00b6ap-2, r, -0x1.ffffef20a4123p-2);

	y = FMA(-0x1.00ea348b88334p-2, r2, y);
	return (float)FMA(y, r2, y0 + r);
}

static double log2_of(uint32_t bits)
{
	double k, r;
	const struct log_entry *e = log_reduce(bits, &k, &r);
	double y0 = e->log2_c + k, r2 = r * r;
	double y = FMA(0x1.27616c9496e0bp-2, r, -0x1.71969a075c67ap-2);
	double p = FMA(0x1.ec70a6ca7baddp-2, r, -0x1.7154748bef6c8p-1);
	double q = FMA(0x1.71547652ab82bp0, r, y0);

	q = FMA(p, r2, q);
	return FMA(y, r2 * r2, q);
}

/* 0: y is no integer, 1: odd, 2: even */
static int integer_kind(uint32_t bits)
{
	int e = bits >> 23 & 0xff;

	if (e < 0x7f)
		return 0;
	if (e > 0x7f + 23)
		return 2;
	if (bits & ((1u << (0x7f + 23 - e)) - 1))
		return 0;
	return bits & (1u << (0x7f + 23 - e)) ? 1 : 2;
}

static bool zero_inf_nan(uint32_t bits)
{
	return bits * 2 - 1 >= 2u * 0x7f800000 - 1;
}

static bool signalling(uint32_t bits)
{
	return (bits ^ 0x400000) * 2 > 2u * 0x7fc00000;
}

/* x or y is 0, infinite or NaN */
static float pow_special(float x, float y)
{
	uint32_t bx = bits32(x), by = bits32(y);

	if (signalling(bx) || signalling(by))
		return x + y;
	if (by * 2 == 0 || bx == 0x3f800000)
		return 1.0f;
	if (x != x || y != y)
		return x + y;
	if (zero_inf_nan(by)) {
		if (bx * 2 == 2u * 0x3f800000)
			return 1.0f;
		return (bx * 2 < 2u * 0x3f800000) == !(by >> 31) ? 0.0f : y * y;
	}
	float x2 = x * x;

	if (bx >> 31 && integer_kind(by) == 1)
		x2 = -x2;
	return by >> 31 ? 1.0f / x2 : x2;
}

float m_powf(float x, float y)
{
	const double shift = 0x1.8p47;
	uint32_t bits = bits32(x);
	uint64_t negative = 0;

	if (zero_inf_nan(bits) || zero_inf_nan(bits32(y)))
		return pow_special(x, y);
	if (bits >> 31) {
		int kind = integer_kind(bits32(y));

		if (kind == 0)
			return NAN;
		negative = kind == 1 ? 1u << 16 : 0;
		bits &= 0x7fffffff;
	}
	if (bits < 0x00800000)
		bits = (bits32(float_of(bits) * 0x1p23f) & 0x7fffffff) - (23u << 23);
	double t = (double)y * log2_of(bits);

	if (t > 0x1.fffffffd1d571p+6)
		return negative ? -INFINITY : INFINITY;
	if (t <= -150.0)
		return negative ? -0.0f : 0.0f;
	double kd = t + shift;
	uint64_t k = bits64(kd);

	kd -= shift;
	/* the sign rides in bit 16 of k: shifted by 47 it is the sign of the scale */
	double s = double_of(exp2_table[k % 32] + ((k + negative) << 47)), r = t - kd;
	double z = FMA(EXP2_C0, r, EXP2_C1), p = FMA(EXP2_C2, r, 1.0);

	return (float)(FMA(z, r * r, p) * s);
}

/* ---- RoPE angles -------------------------------------------------------------------------- */

static float yarn_angle(const struct rope_params *p, float theta, float interpolated, int i)
{
	float width = p->corr_high - p->corr_low;
	float ramp = ((float)i - p->corr_low) / (width > 0.001f ? width : 0.001f);

	ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
	ramp = (1 - ramp) * p->ext_factor;
	return __builtin_fmaf(interpolated, 1 - ramp, theta * ramp);
}

void kernels_rope_angles(const struct rope_params *p, int64_t pos, float *cs)
{
	float step = m_powf(p->base, -2.0f / (float)p->n_dims), theta = (float)pos;
	float mscale = p->attn_factor;

	if (p->ext_factor != 0.0f)
		mscale *= __builtin_fmaf(0.1f, m_logf(1.0f / p->freq_scale), 1.0f);
	for (int i = 0; i < p->n_dims / 2; i++) {
		float extrapolated = theta / (p->freq_factors ? p->freq_factors[i] : 1.0f);
		float a = p->freq_scale * extrapolated;

		if (p->ext_factor != 0.0f)
			a = yarn_angle(p, extrapolated, a, i);
		cs[2 * i] = m_cosf(a) * mscale;
		cs[2 * i + 1] = m_sinf(a) * mscale;
		theta *= step;
	}
}
