#include "json_line.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct scan {
	const char *at;
	int line;
};

static void skip_space(struct scan *s)
{
	for (; *s->at && strchr(" \t\r\n,:", *s->at); s->at++)
		s->line += *s->at == '\n';
}

/* The raw text between the quotes: keys of a lockfile need no escapes. */
static const char *skip_string(struct scan *s, size_t *bytes)
{
	const char *start = ++s->at;

	while (*s->at && *s->at != '"')
		s->at += s->at[0] == '\\' && s->at[1] ? 2 : 1;
	*bytes = (size_t)(s->at - start);
	s->at += *s->at == '"';
	return start;
}

static void skip_value(struct scan *s)
{
	int depth = 0;
	size_t n;

	do {
		skip_space(s);
		if (*s->at == '"') {
			skip_string(s, &n);
		} else if (*s->at && strchr("{[", *s->at)) {
			depth++;
			s->at++;
		} else if (*s->at && strchr("}]", *s->at)) {
			depth--;
			s->at++;
		} else {
			s->at += strcspn(s->at, ",:]} \t\r\n");
		}
	} while (depth > 0 && *s->at);
}

static int find(struct scan s, const char *path)
{
	size_t part = strcspn(path, "/");
	const char *rest = path + part + (path[part] == '/');
	int found = 0, index = 0;
	bool object;

	skip_space(&s);
	if (!*path)
		return s.line;
	if (*s.at != '{' && *s.at != '[')
		return 0;
	object = *s.at++ == '{';
	for (skip_space(&s); *s.at && !strchr("]}", *s.at); skip_space(&s), index++) {
		bool here;

		if (object) {
			size_t n = 0;
			const char *key = skip_string(&s, &n);

			here = n == part && memcmp(key, path, n) == 0;
			skip_space(&s);
		} else {
			here = index == atoi(path);
		}
		if (here)
			found = find(s, rest);
		skip_value(&s);
	}
	return found;
}

int json_line_of(const char *text, const char *path)
{
	return find((struct scan){text, 1}, path);
}
