#include "blake3.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { CHUNK = 1024, BLOCK = 64, LANES = 8, WORDS = 8 };
enum { CHUNK_START = 1, CHUNK_END = 2, PARENT = 4, ROOT = 8 };

typedef uint32_t lanes __attribute__((vector_size(4 * LANES)));

static const uint32_t iv[WORDS] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
				   0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

/* Which word of the block each mix of each round takes: the permutation applied r times. */
static const uint8_t schedule[7][16] = {
	{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
	{2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8},
	{3, 4, 10, 12, 13, 2, 7, 14, 6, 5, 9, 0, 11, 15, 8, 1},
	{10, 7, 12, 9, 14, 3, 13, 15, 4, 0, 11, 2, 5, 8, 1, 6},
	{12, 13, 9, 11, 15, 10, 14, 8, 7, 2, 5, 3, 0, 1, 6, 4},
	{9, 14, 11, 5, 8, 12, 15, 1, 13, 3, 0, 10, 2, 6, 4, 7},
	{11, 15, 5, 0, 1, 9, 8, 6, 14, 10, 2, 12, 3, 4, 7, 13},
};

#define ROTATE(x, n) ((x) >> (n) | (x) << (32 - (n)))
#define MIX(a, b, c, d, x, y)                                                               \
	do {                                                                                \
		v[a] += v[b] + (x);                                                         \
		v[d] = ROTATE(v[d] ^ v[a], 16);                                             \
		v[c] += v[d];                                                               \
		v[b] = ROTATE(v[b] ^ v[c], 12);                                             \
		v[a] += v[b] + (y);                                                         \
		v[d] = ROTATE(v[d] ^ v[a], 8);                                              \
		v[c] += v[d];                                                               \
		v[b] = ROTATE(v[b] ^ v[c], 7);                                              \
	} while (0)

/* cv: [WORDS] lane by lane, in and out; m: [16]; lane i counts counter + i when counting. */
static void compress(lanes *cv, const lanes *block, uint64_t counter, bool counting,
		     uint32_t bytes, uint32_t flags)
{
	const lanes *m = block;
	lanes v[16], zero = {0};

	for (int i = 0; i < WORDS; i++)
		v[i] = cv[i];
	for (int i = 0; i < 4; i++)
		v[8 + i] = zero + iv[i];
	for (int i = 0; i < LANES; i++) {
		uint64_t c = counter + (counting ? (uint64_t)i : 0);

		v[12][i] = (uint32_t)c;
		v[13][i] = (uint32_t)(c >> 32);
	}
	v[14] = zero + bytes;
	v[15] = zero + flags;
#pragma GCC unroll 7
	for (int r = 0; r < 7; r++) {
		const uint8_t *s = schedule[r];

		MIX(0, 4, 8, 12, m[s[0]], m[s[1]]);
		MIX(1, 5, 9, 13, m[s[2]], m[s[3]]);
		MIX(2, 6, 10, 14, m[s[4]], m[s[5]]);
		MIX(3, 7, 11, 15, m[s[6]], m[s[7]]);
		MIX(0, 5, 10, 15, m[s[8]], m[s[9]]);
		MIX(1, 6, 11, 12, m[s[10]], m[s[11]]);
		MIX(2, 7, 8, 13, m[s[12]], m[s[13]]);
		MIX(3, 4, 9, 14, m[s[14]], m[s[15]]);
	}
	for (int i = 0; i < WORDS; i++)
		cv[i] = v[i] ^ v[8 + i];
}

/* Chaining values of n chunks that begin at p, each `bytes` long; only the last may be short,
 * and then it is alone. out: [n][WORDS]. */
static void chunks(const uint8_t *p, int n, size_t bytes, uint64_t counter, uint32_t root,
		   uint32_t out[][WORDS])
{
	size_t blocks = bytes ? (bytes + BLOCK - 1) / BLOCK : 1;
	lanes cv[WORDS], m[16], zero = {0};
	uint32_t words[16][LANES] = {{0}};

	for (int i = 0; i < WORDS; i++)
		cv[i] = zero + iv[i];
	for (size_t b = 0; b < blocks; b++) {
		size_t here = bytes - b * BLOCK < BLOCK ? bytes - b * BLOCK : BLOCK;
		uint32_t flags = b == 0 ? CHUNK_START : 0;

		if (b + 1 == blocks)
			flags |= CHUNK_END | root;
		for (int i = 0; i < n; i++) {
			uint32_t row[16] = {0};

			if (here)
				memcpy(row, p + (size_t)i * CHUNK + b * BLOCK, here);
			for (int k = 0; k < 16; k++)
				words[k][i] = row[k];
		}
		memcpy(m, words, sizeof(m));
		compress(cv, m, counter, true, (uint32_t)here, flags);
	}
	for (int i = 0; i < n; i++)
		for (int k = 0; k < WORDS; k++)
			out[i][k] = cv[k][i];
}

/* One level of the tree: pairs become parents, an odd last one goes up as it is. */
static int parents(uint32_t cvs[][WORDS], int n, uint32_t root)
{
	lanes cv[WORDS], m[16], zero = {0};

	for (int i = 0; i < WORDS; i++)
		cv[i] = zero + iv[i];
	memset(m, 0, sizeof(m));
	for (int i = 0; i < n / 2; i++)
		for (int k = 0; k < 16; k++)
			m[k][i] = cvs[2 * i + k / WORDS][k % WORDS];
	compress(cv, m, 0, false, BLOCK, PARENT | (n == 2 ? root : 0));
	for (int i = 0; i < n / 2; i++)
		for (int k = 0; k < WORDS; k++)
			cvs[i][k] = cv[k][i];
	if (n % 2)
		memmove(cvs[n / 2], cvs[n - 1], sizeof(cvs[0]));
	return n / 2 + n % 2;
}

/* Depth is at most log2(n / 8 KiB). */
static void subtree(const uint8_t *p, size_t n, uint64_t counter, uint32_t root,
		    uint32_t out[WORDS])
{
	uint32_t cvs[LANES + 1][WORDS];
	size_t left = (size_t)CHUNK * LANES;
	int count = 0;

	if (n > left) {
		while (left * 2 < n)
			left *= 2;
		subtree(p, left, counter, 0, cvs[0]);
		subtree(p + left, n - left, counter + left / CHUNK, 0, cvs[1]);
		parents(cvs, 2, root);
	} else {
		int whole = (int)(n / CHUNK);

		if (n <= CHUNK) {
			chunks(p, 1, n, counter, root, cvs);
			count = 1;
		} else {
			chunks(p, whole, CHUNK, counter, 0, cvs);
			count = whole;
			if (n % CHUNK)
				chunks(p + (size_t)whole * CHUNK, 1, n % CHUNK,
				       counter + (uint64_t)whole, 0, cvs + count++);
		}
		while (count > 1)
			count = parents(cvs, count, root);
	}
	memcpy(out, cvs[0], sizeof(cvs[0]));
}

void blake3(const void *bytes, size_t n, uint8_t out[BLAKE3_BYTES])
{
	uint32_t words[WORDS];

	subtree(bytes, n, 0, ROOT, words);
	for (int i = 0; i < BLAKE3_BYTES; i++)
		out[i] = (uint8_t)(words[i / 4] >> (8 * (i % 4)));
}

void blake3_hex(const void *bytes, size_t n, char out[2 * BLAKE3_BYTES + 1])
{
	uint8_t raw[BLAKE3_BYTES];

	blake3(bytes, n, raw);
	for (int i = 0; i < BLAKE3_BYTES; i++)
		snprintf(out + (ptrdiff_t)2 * i, 3, "%02x", raw[i]);
}
