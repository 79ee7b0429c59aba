/* UTF-8 against Python's decoder's verdicts: the borders of each length, and what is refused. */
#include "test.h"
#include "utf8.h"

struct sample {
	const char *bytes;
	size_t n, length;
};

static const struct sample samples[] = {
	{"", 1, 1},
	{"\x7f", 1, 1},
	{"\x80", 1, 0},
	{"\xc1\xbf", 2, 0},		/* overlong */
	{"\xc2\x80", 2, 2},
	{"\xdf\xbf", 2, 2},
	{"\xdf", 1, 0},			/* cut */
	{"\xe0\x9f\xbf", 3, 0},		/* overlong */
	{"\xe0\xa0\x80", 3, 3},
	{"\xed\x9f\xbf", 3, 3},
	{"\xed\xa0\x80", 3, 0},		/* surrogate */
	{"\xef\xbf\xbf", 3, 3},
	{"\xef\xbf", 2, 0},
	{"\xf0\x8f\xbf\xbf", 4, 0},	/* overlong */
	{"\xf0\x90\x80\x80", 4, 4},
	{"\xf4\x8f\xbf\xbf", 4, 4},
	{"\xf4\x90\x80\x80", 4, 0},	/* beyond U+10FFFF */
	{"\xf5\x80\x80\x80", 4, 0},
	{"a\x80", 2, 1},
	{"\xc3(", 2, 0},
};

int main(void)
{
	char text[] = "a\tb\n\x1b[2J\x7f \xc2\x9b\xc2\xa0\xc3\xa4\xe2\x82 \xff\xe2\x82";
	int wrong = 0;

	for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++)
		if (utf8_length(samples[i].bytes, samples[i].n) != samples[i].length) {
			printf("# sample %zu: %zu\n", i, utf8_length(samples[i].bytes, samples[i].n));
			wrong++;
		}
	CHECK(wrong == 0, "utf8_length: borders of every length, overlong, surrogates, cut");
	utf8_plain(text);
	CHECK_STR(text, "a\tb\n?[2J? ??\xc2\xa0\xc3\xa4?? ???",
		  "utf8_plain: controls and what is no UTF-8 become '?', the rest stays");
	return TEST_END();
}
