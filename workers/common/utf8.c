#include "utf8.h"

#include <string.h>

size_t utf8_length(const void *text, size_t n)
{
	const unsigned char *s = text;
	size_t len;

	if (s[0] < 0x80)
		return 1;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	len = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
	if (len > n)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return len;
}

static int is_control(const unsigned char *s)
{
	return (s[0] < 32 && s[0] != '\n' && s[0] != '\t') || s[0] == 127 ||
	       (s[0] == 0xc2 && s[1] < 0xa0);
}

void utf8_plain(char *text)
{
	size_t n = strlen(text);

	for (size_t i = 0; i < n;) {
		size_t len = utf8_length(text + i, n - i);

		if (len == 0)
			len = 1, text[i] = '?';
		else if (is_control((unsigned char *)text + i))
			memset(text + i, '?', len);
		i += len;
	}
}
