/* Two streams hashed beside their comparison: what comes out is the digest of each stream. */
#include "sweep/hasher.h"
#include "test.h"

#include <stdlib.h>

enum { POSITIONS = 40 };

static uint8_t byte_of(int side, int pos, int differ_from)
{
	return (uint8_t)(pos * 7 + (side && pos >= differ_from ? 1 : 0));
}

/* The plain digest of one side. */
static void expected(int side, size_t n, int differ_from, uint8_t out[DIGEST_BYTES])
{
	uint8_t *x = malloc(n);
	struct digest d;

	digest_init(&d);
	for (int pos = 0; pos < POSITIONS; pos++) {
		memset(x, byte_of(side, pos, differ_from), n);
		digest_update(&d, x, n);
	}
	digest_final(&d, out);
	free(x);
}

static void try(size_t n, int differ_from)
{
	struct hasher *h = hasher_new();
	uint8_t *x = malloc(n), want[DIGEST_BYTES], got[DIGEST_BYTES];
	int fine = 0;

	for (int pos = 0; pos < POSITIONS; pos++) {
		memset(x, byte_of(0, pos, differ_from), n);
		if (pos < differ_from) {
			hasher_add_both(h, x, n);
			continue;
		}
		hasher_add(h, 0, x, n);
		memset(x, byte_of(1, pos, differ_from), n);	/* the caller's buffer is free again */
		hasher_add(h, 1, x, n);
	}
	for (int side = 0; side < HASHER_SIDES; side++) {
		expected(side, n, differ_from, want);
		hasher_final(h, side, got);
		fine += memcmp(want, got, sizeof(got)) == 0;
	}
	CHECK(fine == 2, "%zu bytes a time, different from %d on", n, differ_from);
	memset(x, 9, n);
	hasher_add(h, 1, x, n);
	hasher_final(h, 0, got);
	expected(0, n, differ_from, want);
	CHECK(memcmp(want, got, sizeof(got)) == 0, "… one side more leaves the other as it was");
	hasher_free(h);
	free(x);
}

int main(void)
{
	static const size_t sizes[] = {1, 64, 1000, HASHER_INLINE_BYTES, HASHER_INLINE_BYTES + 4,
				       513024};
	static const int from[] = {0, 1, 7, POSITIONS};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (size_t k = 0; k < sizeof(from) / sizeof(from[0]); k++)
			try(sizes[i], from[k]);
	hasher_free(hasher_new());
	hasher_free(NULL);
	return TEST_END();
}
