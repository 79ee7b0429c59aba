#include "blake3.h"
#include "test.h"
#include "trace.h"

#include <math.h>
#include <stdint.h>

/* The official input: byte i is i % 251. First 32 bytes of the "hash" outputs of BLAKE3's own
 * test_vectors.json. */
static const struct {
	size_t n;
	const char *hash;
} vectors[] = {
#include "../vectors/blake3.inc"
};

static void test_blake3(void)
{
	static uint8_t input[200000];
	char hex[65];

	for (size_t i = 0; i < sizeof(input); i++)
		input[i] = (uint8_t)(i % 251);
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		blake3_hex(input, vectors[i].n, hex);
		CHECK_STR(hex, vectors[i].hash, "blake3 of %zu bytes", vectors[i].n);
	}
}

static void test_names(void)
{
	int bad = 0;

	for (int i = 0; i < STAGE_COUNT; i++)
		bad += trace_stage_by_name(trace_stage_name((enum trace_stage)i)) != i;
	CHECK(bad == 0, "every stage is found by its name");
	CHECK(trace_stage_by_name("ffn") == -1, "an unknown stage");
}

static void test_describe(void)
{
	static const float x[6] = {3, 4, 0, 0, 0, 0};
	static const int64_t shape[2] = {2, 3};
	struct trace_record r;

	trace_describe(&r, STAGE_FFN_ACT, 3, 1, "f32", 2, shape, x);
	CHECK_STR(r.name, "blk.3.ffn_act", "name with layer");
	CHECK(r.num_elements == 6 && r.shape[0] == 2 && r.shape[1] == 3 && r.seq == 1, "shape");
	CHECK(fabs(r.rms - sqrt(25.0 / 6)) < 1e-15, "rms");
	trace_describe(&r, STAGE_LOGITS, -1, 0, "f32", 2, shape, x);
	CHECK_STR(r.name, "logits", "name without layer");
}

int main(void)
{
	test_blake3();
	test_names();
	test_describe();
	return TEST_END();
}
