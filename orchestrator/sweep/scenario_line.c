#include "scenario_line.h"

#include <stdbool.h>
#include <string.h>

struct cursor {
	const char *at, *end;
	int line;
	int depth;	/* open brackets */
};

/* at stands behind the opening quote; moves behind the closing one. Returns the text's length. */
static size_t skip_string(struct cursor *c)
{
	const char *start = c->at;

	while (c->at < c->end && *c->at != '"')
		c->at += *c->at == '\\' ? 2 : 1;
	if (c->at < c->end)
		c->at++;
	else
		c->at = c->end;
	return (size_t)(c->at - start) - 1;
}

int scenario_line(const char *text, size_t bytes, int index, const char *key)
{
	struct cursor c = {.at = text, .end = text + bytes, .line = 1};
	int list_depth = 0, object = -1, found = 1;

	while (c.at < c.end) {
		char ch = *c.at++;

		if (ch == '\n')
			c.line++;
		if (ch == '[' && !list_depth)
			list_depth = c.depth + 1;
		if (ch == '{' && list_depth && c.depth == list_depth && ++object == index)
			found = c.line;
		if (ch == '[' || ch == '{')
			c.depth++;
		if (ch == ']' || ch == '}')
			c.depth--;
		if (ch == '"') {
			const char *start = c.at;
			size_t n = skip_string(&c);

			if (key && object == index && c.depth == list_depth + 1 &&
			    n == strlen(key) && memcmp(start, key, n) == 0)
				return c.line;
		}
		if (object > index)
			break;
	}
	return found;
}
