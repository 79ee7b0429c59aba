#include "ranges.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void ranges_free(struct ranges *s)
{
	free(s->v);
	*s = (struct ranges){0};
}

static void reserve(struct ranges *s, int n)
{
	if (n <= s->capacity)
		return;
	s->capacity = n + 16;
	s->v = realloc(s->v, (size_t)s->capacity * sizeof(*s->v));
	assert(s->v);
}

/* Replaces v[at … at + old) by n new ones. */
static void splice(struct ranges *s, int at, int old, const struct range *with, int n)
{
	reserve(s, s->n - old + n);
	memmove(s->v + at + n, s->v + at + old, (size_t)(s->n - at - old) * sizeof(*s->v));
	for (int i = 0; i < n; i++)
		s->v[at + i] = with[i];
	s->n += n - old;
}

void ranges_add(struct ranges *s, int64_t from, int64_t to)
{
	int first = 0, last;

	if (from >= to)
		return;
	while (first < s->n && s->v[first].to < from)
		first++;
	for (last = first; last < s->n && s->v[last].from <= to; last++) {
		from = s->v[last].from < from ? s->v[last].from : from;
		to = s->v[last].to > to ? s->v[last].to : to;
	}
	splice(s, first, last - first, &(struct range){from, to}, 1);
}

void ranges_remove(struct ranges *s, int64_t from, int64_t to)
{
	struct range rest[2];
	int first = 0, last, n = 0;

	if (from >= to)
		return;
	while (first < s->n && s->v[first].to <= from)
		first++;
	for (last = first; last < s->n && s->v[last].from < to; last++)
		;
	if (first == last)
		return;
	if (s->v[first].from < from)
		rest[n++] = (struct range){s->v[first].from, from};
	if (s->v[last - 1].to > to)
		rest[n++] = (struct range){to, s->v[last - 1].to};
	splice(s, first, last - first, rest, n);
}

void ranges_copy(struct ranges *to, const struct ranges *from)
{
	reserve(to, from->n);
	to->n = from->n;
	if (from->n)
		memcpy(to->v, from->v, (size_t)from->n * sizeof(*from->v));
}

bool ranges_has(const struct ranges *s, int64_t from, int64_t to)
{
	return from >= to || ranges_end_of(s, from) >= to;
}

int64_t ranges_bytes(const struct ranges *s)
{
	int64_t bytes = 0;

	for (int i = 0; i < s->n; i++)
		bytes += s->v[i].to - s->v[i].from;
	return bytes;
}

int64_t ranges_end_of(const struct ranges *s, int64_t at)
{
	for (int i = 0; i < s->n && s->v[i].from <= at; i++)
		if (at < s->v[i].to)
			return s->v[i].to;
	return at;
}

bool ranges_gap(const struct ranges *s, int64_t from, int64_t limit, struct range *gap)
{
	for (int i = 0; i < s->n && from < limit; i++) {
		if (s->v[i].to <= from)
			continue;
		if (s->v[i].from > from) {
			*gap = (struct range){from, s->v[i].from < limit ? s->v[i].from : limit};
			return true;
		}
		from = s->v[i].to;
	}
	*gap = (struct range){from, limit};
	return from < limit;
}
