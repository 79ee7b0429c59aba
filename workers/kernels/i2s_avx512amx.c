#include "i2s_512.h"
#include "variants.h"

/*
 * Many tokens with tile registers: sixteen tokens by 64 columns times 64 columns by sixteen rows, as
 * one instruction. Tokens are tiles as they lie; rows are unpacked to panels, whose sixteen registers
 * of four columns are the other operand as it wants to be. Two tiles of tokens and two of rows share
 * their loads. The sums are integers, so any order gives the same.
 */
enum {
	TILE_COLUMNS = 64,
	TILE_TOKENS = 16,
	GROUPS = 2,		/* of sixteen rows in a panel */
	PANEL_ROWS = LANES * GROUPS,
	PANEL_N = 1024,		/* columns unpacked at once: 32 KiB, most of the first-level cache */
	GROUP_LINES = PANEL_N / 4,
	TOKENS_MAX = 512,	/* whose sums are kept: 64 KiB */
	STEP_TOKENS = 2 * TILE_TOKENS,
	FEW_TOKENS = 3,		/* up to here unpacking does not pay */
	SUM_BYTES = PANEL_ROWS * 4,
};

/* gcc's intrinsics do not tell the compiler what they read: this does, before they do. */
static inline void tiles_read(const void *p)
{
	__asm__ volatile("" : : "r"(p) : "memory");
}

/* Registers 0 to 3: sums; 4, 5: tokens; 6, 7: rows. */
struct tile_shapes {
	uint8_t palette, start, zero[14];
	uint16_t column_bytes[16];
	uint8_t rows[16];
};

/* For blocks of `first` and `second` tokens; second may be 0, then its registers are not used. */
static void set_shapes(int first, int second)
{
	struct tile_shapes s = {.palette = 1};
	const int rows[8] = {first, first, second, second, first, second, LANES, LANES};

	for (int i = 0; i < 8; i++) {
		s.rows[i] = (uint8_t)rows[i];
		s.column_bytes[i] = rows[i] > 0 ? TILE_COLUMNS : 0;
	}
	tiles_read(&s);
	_tile_loadconfig(&s);
}

/* sums [tokens, PANEL_ROWS] += a block of tokens · the panel, n columns, a multiple of 64. */
static inline __attribute__((always_inline)) void
block(const __m512i *panel, const int8_t *q, size_t act_bytes, int64_t n, bool both, int32_t *sums)
{
	const int8_t *r = q + TILE_TOKENS * act_bytes;
	int32_t *t = sums + TILE_TOKENS * PANEL_ROWS;

	tiles_read(panel);
	tiles_read(sums);
	_tile_loadd(0, sums, SUM_BYTES);
	_tile_loadd(1, sums + LANES, SUM_BYTES);
	if (both) {
		_tile_loadd(2, t, SUM_BYTES);
		_tile_loadd(3, t + LANES, SUM_BYTES);
	}
	for (int64_t i = 0; i < n; i += TILE_COLUMNS, panel += LANES) {
		_tile_loadd(6, panel, 64);
		_tile_loadd(4, q + i, act_bytes);
		_tile_loadd(7, panel + GROUP_LINES, 64);
		_tile_dpbsud(0, 4, 6);
		_tile_dpbsud(1, 4, 7);
		if (both) {
			_tile_loadd(5, r + i, act_bytes);
			_tile_dpbsud(2, 5, 6);
			_tile_dpbsud(3, 5, 7);
		}
	}
	_tile_stored(0, sums, SUM_BYTES);
	_tile_stored(1, sums + LANES, SUM_BYTES);
	if (both) {
		_tile_stored(2, t, SUM_BYTES);
		_tile_stored(3, t + LANES, SUM_BYTES);
	}
}

static void blocks(const __m512i *panel, const int8_t *q, size_t act_bytes, int64_t n,
		   int64_t n_tok, int32_t *sums)
{
	int64_t t = 0;

	set_shapes(TILE_TOKENS, TILE_TOKENS);
	for (; t + STEP_TOKENS <= n_tok; t += STEP_TOKENS)
		block(panel, q + (size_t)t * act_bytes, act_bytes, n, true, sums + t * PANEL_ROWS);
	if (t + TILE_TOKENS < n_tok) {
		set_shapes(TILE_TOKENS, (int)(n_tok - t - TILE_TOKENS));
		block(panel, q + (size_t)t * act_bytes, act_bytes, n, true, sums + t * PANEL_ROWS);
	} else if (t < n_tok) {
		set_shapes((int)(n_tok - t), 0);
		block(panel, q + (size_t)t * act_bytes, act_bytes, n, false, sums + t * PANEL_ROWS);
	}
}

static void finish(const int32_t *sums, const uint8_t *act, size_t act_bytes, int64_t n_tok,
		   int64_t rows, float scale, float *out, int64_t out_stride)
{
	for (int64_t t = 0; t < n_tok; t++, act += act_bytes, sums += PANEL_ROWS)
		for (int64_t r = 0; r < rows; r += LANES) {
			int64_t left = rows - r;

			_mm512_mask_storeu_ps(out + t * out_stride + r,
					      left >= LANES ? 0xffff : (__mmask16)((1 << left) - 1),
					      i2s_finish16(_mm512_load_si512(sums + r),
							   (const void *)act, scale));
		}
}

/* Rows r… of at most a panel, at most TOKENS_MAX tokens. */
static void gemm_panel(const struct weight *w, int64_t r, int64_t rows, const uint8_t *act,
		       size_t act_bytes, int64_t n_tok, float *out, int64_t out_stride)
{
	_Alignas(64) int32_t sums[TOKENS_MAX * PANEL_ROWS];
	const int8_t *q = (const int8_t *)act + sizeof(struct act_i8_head);
	__m512i panel[GROUPS * GROUP_LINES];
	float scale;

	memcpy(&scale, w->tail, sizeof(scale));
	memset(sums, 0, (size_t)n_tok * SUM_BYTES);
	for (int64_t c = 0; c < w->n_in; c += PANEL_N) {
		int64_t n = w->n_in - c < PANEL_N ? w->n_in - c : PANEL_N;

		for (int g = 0; g < GROUPS; g++)
			unpack_group(w->data + (size_t)(r + g * LANES) * w->row_bytes, w->row_bytes,
				     rows - g * LANES, c, n, panel + g * GROUP_LINES, 1);
		blocks(panel, q + c, act_bytes, n, n_tok, sums);
	}
	finish(sums, act, act_bytes, n_tok, rows, scale, out + r, out_stride);
}

bool i2s_matmul_avx512amx(const struct kernels *k, const struct weight *w, int64_t r0, int64_t r1,
			  const void *act, size_t act_bytes, int64_t n_tok, float *out,
			  int64_t out_stride)
{
	if (n_tok <= FEW_TOKENS)
		return i2s_matmul_avx512vnni(k, w, r0, r1, act, act_bytes, n_tok, out, out_stride);
	for (int64_t t = 0; t < n_tok; t += TOKENS_MAX) {
		int64_t nt = n_tok - t < TOKENS_MAX ? n_tok - t : TOKENS_MAX;

		for (int64_t r = r0; r < r1; r += PANEL_ROWS)
			gemm_panel(w, r, r1 - r < PANEL_ROWS ? r1 - r : PANEL_ROWS,
				   (const uint8_t *)act + (size_t)t * act_bytes, act_bytes, nt,
				   out + t * out_stride, out_stride);
	}
	_tile_release();
	return true;
}
