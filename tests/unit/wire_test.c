#include "test.h"
#include "wire.h"

#include <stdint.h>

static void build(struct wire_builder *b)
{
	struct err e = ERR_NONE;
	static const int32_t ids[] = {1, 2, 3};

	wire_begin(b, WIRE_EVALUATE);
	wire_put(b, "tokens", "%d", 3);
	wire_put(b, "stop", "%d", 7);
	wire_put(b, "stop", "%d", -8);
	wire_put(b, "note", "%s", "two\nlines");
	wire_body(b, ids, sizeof(ids));
	if (wire_finish(b, &e) < 0)
		abort();
}

static void check_frame(const struct wire_frame *f, const char *how)
{
	static const int32_t ids[] = {1, 2, 3};
	char text[64];

	CHECK(f->type == WIRE_EVALUATE && f->body_bytes == sizeof(ids) &&
		      memcmp(f->body, ids, sizeof(ids)) == 0 && ((uintptr_t)f->body & 7) == 0,
	      "%s: type and aligned body", how);
	CHECK(wire_get_int(f, "tokens", -1) == 3 && wire_get_int(f, "absent", -5) == -5,
	      "%s: integers", how);
	CHECK(wire_get(f, "stop", 1, text, sizeof(text)) && strcmp(text, "-8") == 0 &&
		      !wire_get(f, "stop", 2, text, sizeof(text)),
	      "%s: a repeated key", how);
	CHECK(wire_get(f, "note", 0, text, sizeof(text)) && strcmp(text, "two lines") == 0,
	      "%s: a newline in a value becomes a space", how);
	CHECK(wire_get(f, "note", 0, text, 4) && strcmp(text, "two") == 0, "%s: cut to size", how);
}

static void test_round_trip(void)
{
	struct wire_builder b = {0};
	struct wire_decoder d = {0};
	struct wire_frame f;
	struct err e = ERR_NONE;

	build(&b);
	CHECK(wire_feed(&d, b.buf, b.n, &e) == 0 && wire_next(&d, &f, &e) == 1, "whole frame");
	check_frame(&f, "whole");
	CHECK(wire_next(&d, &f, &e) == 0 && wire_pending(&d) == 0, "nothing is left");
	for (size_t i = 0; i + 1 < b.n; i++)
		if (wire_feed(&d, b.buf + i, 1, &e) < 0 || wire_next(&d, &f, &e) != 0)
			abort();
	CHECK(wire_pending(&d) == b.n - 1, "a cut frame shows as pending");
	wire_feed(&d, b.buf + b.n - 1, 1, &e);
	CHECK(wire_next(&d, &f, &e) == 1, "byte by byte");
	check_frame(&f, "byte by byte");
	wire_feed(&d, b.buf, b.n, &e);
	wire_feed(&d, b.buf, b.n, &e);
	CHECK(wire_next(&d, &f, &e) == 1 && wire_next(&d, &f, &e) == 1 &&
		      wire_next(&d, &f, &e) == 0,
	      "two frames in one read");
	check_frame(&f, "second");
	wire_begin(&b, WIRE_BYE);
	CHECK(wire_finish(&b, &e) == 0 && b.n == WIRE_HEAD_BYTES, "an empty frame is its head");
	wire_decoder_free(&d);
	wire_builder_free(&b);
}

static void expect_refused(const void *bytes, size_t n, const char *sentence, const char *name)
{
	struct wire_decoder d = {0};
	struct wire_frame f;
	struct err e = ERR_NONE;

	wire_feed(&d, bytes, n, &e);
	CHECK(wire_next(&d, &f, &e) == -EXIT_WORKER, "%s is refused", name);
	CHECK_STR(e.msg, sentence, "%s: the sentence", name);
	e = ERR_NONE;
	CHECK(wire_feed(&d, "x", 1, &e) < 0 && wire_next(&d, &f, &e) < 0 && e.code == EXIT_WORKER,
	      "%s: stays broken", name);
	wire_decoder_free(&d);
}

static void test_refused(void)
{
	expect_refused(
		"\1\0\0\4\0\0\1\0", 8,
		"a frame of type HELLO announces 67108865 bytes, at most 67108864 are allowed",
		"oversize");
	expect_refused("\1\0\0\0\2\0\1\0", 8,
		       "a frame of type HELLO announces a header of 2 bytes in a payload of 1",
		       "header beyond payload");
	expect_refused("Starting", 8,
		       "what arrived is not a frame: it begins 53 74 61 72 74 69 6e 67", "text");
	expect_refused("\0\0\0\0\0\0\0\0", 8,
		       "what arrived is not a frame: it begins 00 00 00 00 00 00 00 00", "type 0");
	expect_refused("\3\0\0\0\3\0\1\0a=b", 11,
		       "a frame of type HELLO has a header line without an end", "unfinished line");
	expect_refused("\3\0\0\0\3\0\1\0ab\n", 11,
		       "a frame of type HELLO has a header line that is not key=value",
		       "no equals");
	expect_refused("\3\0\0\0\3\0\1\0=b\n", 11,
		       "a frame of type HELLO has a header line without a key", "no key");
	expect_refused("\4\0\0\0\4\0\1\0a=\0\n", 12,
		       "a frame of type HELLO has a header value that is not UTF-8 text", "NUL");
	expect_refused("\5\0\0\0\5\0\1\0a=\xc0\x80\n", 13,
		       "a frame of type HELLO has a header value that is not UTF-8 text",
		       "overlong");
}

static void test_unknown_type(void)
{
	struct wire_decoder d = {0};
	struct wire_frame f;
	struct err e = ERR_NONE;

	wire_feed(&d, "\0\0\0\0\0\0\xc8\0", 8, &e);
	CHECK(wire_next(&d, &f, &e) == 1 && (int)f.type == 200, "an unknown type is passed on");
	CHECK_STR(wire_type_name(f.type), "unknown", "its name");
	CHECK_STR(wire_type_name(WIRE_BYE), "BYE", "the last name");
	CHECK(wire_terminal(WIRE_FAIL) && wire_terminal(WIRE_OPENED) && !wire_terminal(WIRE_LOGITS),
	      "terminal answers");
	wire_decoder_free(&d);
}

static void test_builder_limits(void)
{
	struct wire_builder b = {0};
	struct err e = ERR_NONE;
	char *big = calloc(1, WIRE_PAYLOAD_MAX);

	wire_begin(&b, WIRE_NOTE);
	wire_put(&b, "k", "%s", "\xff\xc3");
	wire_body(&b, big, WIRE_PAYLOAD_MAX - 5);
	CHECK(wire_finish(&b, &e) == 0 && memcmp(b.buf + 8, "k=\?\?\n", 5) == 0,
	      "a full payload; bytes that are not UTF-8 become ?");
	wire_body(&b, big, 1);
	CHECK(wire_finish(&b, &e) == -EXIT_INTERNAL, "one byte more fails");
	wire_begin(&b, WIRE_NOTE);
	memset(big, 'x', 65533);
	big[65533] = 0;
	wire_put(&b, "k", "%s", big);
	CHECK(wire_finish(&b, &e) == -EXIT_INTERNAL, "a header beyond its limit fails");
	wire_begin(&b, WIRE_NOTE);
	big[65532] = 0;
	wire_put(&b, "k", "%s", big);
	CHECK(wire_finish(&b, &e) == 0, "a header at its limit; begin clears the error");
	free(big);
	wire_builder_free(&b);
}

static void test_numbers(void)
{
	struct wire_builder b = {0};
	struct wire_decoder d = {0};
	struct wire_frame f;
	struct err e = ERR_NONE;

	wire_begin(&b, WIRE_DONE);
	wire_put(&b, "big", "99999999999999999999");
	wire_put(&b, "tail", "12x");
	wire_put(&b, "empty", "%s", "");
	wire_put(&b, "real", "%.17g", 0.1);
	wire_put(&b, "kernel.f16_dot-avx2", "7");
	wire_finish(&b, &e);
	wire_feed(&d, b.buf, b.n, &e);
	wire_next(&d, &f, &e);
	CHECK(wire_get_int(&f, "big", -1) == -1 && wire_get_int(&f, "tail", -1) == -1 &&
		      wire_get_int(&f, "empty", -1) == -1,
	      "what is not a number counts as absent");
	CHECK(wire_get_real(&f, "real", 0) == 0.1 && wire_get_real(&f, "tail", 2.5) == 2.5,
	      "reals");
	CHECK(wire_get_int(&f, "kernel.f16_dot-avx2", 0) == 7, "counter keys");
	wire_decoder_free(&d);
	wire_builder_free(&b);
}

int main(void)
{
	test_round_trip();
	test_refused();
	test_unknown_type();
	test_builder_limits();
	test_numbers();
	return TEST_END();
}
