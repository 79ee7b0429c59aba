#include "unicode.h"

#include "unicode_table.h"

#include <string.h>

int unicode_length(char c)
{
	uint8_t high = (uint8_t)c >> 4;

	return high < 12 ? 1 : high < 14 ? 2 : high < 15 ? 3 : 4;
}

uint32_t unicode_decode(const char *s, size_t n, int *bytes)
{
	uint8_t lead = (uint8_t)s[0];
	uint32_t cp;
	int len;

	*bytes = 1;
	if (lead < 0x80)
		return lead;
	if (lead < 0xC0 || lead >= 0xF8)
		return UNICODE_REPLACEMENT;
	len = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
	cp = lead & (0x7Fu >> len);
	if ((size_t)len > n)
		return UNICODE_REPLACEMENT;
	for (int i = 1; i < len; i++) {
		if (((uint8_t)s[i] & 0xC0) != 0x80)
			return UNICODE_REPLACEMENT;
		cp = cp << 6 | ((uint8_t)s[i] & 0x3Fu);
	}
	if (cp >= UNICODE_END)
		return UNICODE_REPLACEMENT;
	*bytes = len;
	return cp;
}

int unicode_encode(uint32_t cp, char *out)
{
	if (cp < 0x80) {
		out[0] = (char)cp;
		return 1;
	}
	if (cp < 0x800) {
		out[0] = (char)(0xC0 | cp >> 6);
		out[1] = (char)(0x80 | (cp & 0x3F));
		return 2;
	}
	if (cp < 0x10000) {
		out[0] = (char)(0xE0 | cp >> 12);
		out[1] = (char)(0x80 | (cp >> 6 & 0x3F));
		out[2] = (char)(0x80 | (cp & 0x3F));
		return 3;
	}
	out[0] = (char)(0xF0 | (cp >> 18 & 7));
	out[1] = (char)(0x80 | (cp >> 12 & 0x3F));
	out[2] = (char)(0x80 | (cp >> 6 & 0x3F));
	out[3] = (char)(0x80 | (cp & 0x3F));
	return 4;
}

bool unicode_valid(const char *s, size_t n)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};

	for (size_t i = 0; i < n;) {
		int len;
		uint32_t cp = unicode_decode(s + i, n - i, &len);

		if (len == 1 && (uint8_t)s[i] >= 0x80)
			return false;
		if (cp < least[len] || (cp >= 0xD800 && cp < 0xE000))
			return false;
		i += (size_t)len;
	}
	return true;
}

static bool is_white(uint32_t cp)
{
	for (int i = 0; i < unicode_n_white; i++)
		if (unicode_white[i] == cp)
			return true;
	return false;
}

unsigned unicode_class(uint32_t cp)
{
	int lo = 0, hi = unicode_n_ranges;
	unsigned c;

	if (cp >= UNICODE_END)
		return 0;
	while (hi - lo > 1) {
		int mid = (lo + hi) / 2;

		if (unicode_ranges[mid].first <= cp)
			lo = mid;
		else
			hi = mid;
	}
	c = unicode_ranges[lo].class;
	/* white space is a separator or one of five controls */
	if (c & (UC_Z | UC_C) && is_white(cp))
		c |= UC_WHITE;
	return c;
}

static uint32_t map_case(uint32_t cp, const struct unicode_case *runs, int n)
{
	int lo = 0, hi = n;

	while (hi - lo > 1) {
		int mid = (lo + hi) / 2;

		if (runs[mid].first <= cp)
			lo = mid;
		else
			hi = mid;
	}
	if (cp < runs[lo].first || cp > runs[lo].last || (cp - runs[lo].first) % runs[lo].step)
		return cp;
	return (uint32_t)((int64_t)cp + runs[lo].delta);
}

uint32_t unicode_to_lower(uint32_t cp)
{
	return map_case(cp, unicode_lower, unicode_n_lower);
}

uint32_t unicode_to_upper(uint32_t cp)
{
	return map_case(cp, unicode_upper, unicode_n_upper);
}

static bool byte_is_itself(uint32_t b)
{
	return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF);
}

/* The 68 others follow at U+0100 in order: 00–20, 7F–A0, AD. */
uint32_t unicode_from_byte(uint8_t b)
{
	if (byte_is_itself(b))
		return b;
	return b <= 0x20 ? 0x100u + b : b <= 0xA0 ? 0x121u + (b - 0x7Fu) : 0x143u;
}

int unicode_to_byte(uint32_t cp)
{
	if (cp < 0x100)
		return byte_is_itself(cp) ? (int)cp : -1;
	if (cp <= 0x120)
		return (int)(cp - 0x100);
	if (cp <= 0x142)
		return (int)(cp - 0x121 + 0x7F);
	return cp == 0x143 ? 0xAD : -1;
}
