/* A set of bytes as sorted, disjoint, non-touching half-open ranges. */
#ifndef ASSAY_RANGES_H
#define ASSAY_RANGES_H

#include <stdbool.h>
#include <stdint.h>

struct range {
	int64_t from, to; /* [from, to) */
};

struct ranges {
	int n, capacity;
	struct range *v; /* [n] */
};

void ranges_free(struct ranges *s); /* empties it; accepts an empty one */
void ranges_add(struct ranges *s, int64_t from, int64_t to);
void ranges_remove(struct ranges *s, int64_t from, int64_t to);
void ranges_copy(struct ranges *to, const struct ranges *from);
bool ranges_has(const struct ranges *s, int64_t from, int64_t to);
int64_t ranges_bytes(const struct ranges *s);
/* The end of the range that holds `at`; `at` itself when none does. */
int64_t ranges_end_of(const struct ranges *s, int64_t at);
/* The first gap in [from, limit); false when there is none. */
bool ranges_gap(const struct ranges *s, int64_t from, int64_t limit, struct range *gap);

#endif
