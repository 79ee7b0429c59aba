#include "test.h"
#include "unicode.h"
#include "unicode_table.h"

static void test_classes(void)
{
	static const struct { uint32_t cp; unsigned cls;
	} want[] = {
		{'a', UC_L},
		{'7', UC_N},
		{' ', UC_Z | UC_WHITE},
		{'\n', UC_C | UC_WHITE},
		{0x85, UC_C | UC_WHITE},
		{0x1C, UC_C},
		{'$', UC_S},
		{'!', UC_P},
		{0x301, UC_M},
		{0x660, UC_N},
		{0xBD, UC_N},
		{0x4E2D, UC_L},
		{0x3000, UC_Z | UC_WHITE},
		{0x200B, UC_C},
		{0x1F600, UC_S},
		{0xD800, UC_C},
		{0x378, UC_U},
		{0x2FFC, UC_S},
		{0x2EBF0, UC_L},
		{0x2EE5D, UC_L},
		{0x2EE5E, UC_U},
		{0x10FFFF, UC_U},
		{0x110000, 0},
	};
	int wrong = 0;

	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++)
		if (unicode_class(want[i].cp) != want[i].cls) {
			printf("# U+%04X: class %u, want %u\n", want[i].cp,
			       unicode_class(want[i].cp), want[i].cls);
			wrong++;
		}
	CHECK(wrong == 0, "classes of Unicode %s", unicode_version);
	CHECK(unicode_to_lower(0x130) == 'i' && unicode_to_lower(0x10400) == 0x10428 &&
		      unicode_to_upper(0xFF) == 0x178 && unicode_to_upper('1') == '1' &&
		      unicode_to_lower(0x101) == 0x101 && unicode_to_upper(0x101) == 0x100,
	      "simple case mapping");
}

static void test_coding(void)
{
	int wrong = 0, len;
	char s[4];

	for (uint32_t cp = 0; cp < UNICODE_END; cp++) {
		int n = unicode_encode(cp, s);

		wrong += unicode_decode(s, (size_t)n, &len) != cp || len != n ||
			 unicode_length(s[0]) != n;
	}
	CHECK(wrong == 0, "every code point is encoded and decoded");
	CHECK(unicode_decode("\xC1\x81", 2, &len) == 'A' && len == 2, "overlong forms pass");
	CHECK(unicode_decode("\xE2\x96", 2, &len) == UNICODE_REPLACEMENT && len == 1,
	      "a cut one does not");
	CHECK(unicode_decode("\xF4\x90\x80\x80", 4, &len) == UNICODE_REPLACEMENT && len == 1,
	      "nor one beyond the end");
	CHECK(unicode_valid("a\xC3\xA4", 3) && !unicode_valid("\xC0\x80", 2) &&
		      !unicode_valid("\xED\xA0\x80", 3),
	      "the strict check refuses overlong forms and surrogates");
	for (int b = wrong = 0; b < 256; b++)
		wrong += unicode_to_byte(unicode_from_byte((uint8_t)b)) != b;
	CHECK(wrong == 0 && unicode_from_byte(' ') == 0x120 && unicode_to_byte(0x144) == -1,
	      "the byte alphabet");
}

int main(void)
{
	test_classes();
	test_coding();
	return TEST_END();
}
