#include "suggest.h"

#include <string.h>

enum { NAME_MAX_LEN = 63, PREFIX_MIN = 3 };

static int min3(int a, int b, int c)
{
	int m = a < b ? a : b;

	return m < c ? m : c;
}

/* Levenshtein distance of two short strings. */
static int distance(const char *a, const char *b)
{
	int row[NAME_MAX_LEN + 1];
	int na = (int)strlen(a), nb = (int)strlen(b);

	if (na > NAME_MAX_LEN || nb > NAME_MAX_LEN)
		return NAME_MAX_LEN;
	for (int j = 0; j <= nb; j++)
		row[j] = j;
	for (int i = 1; i <= na; i++) {
		int diagonal = row[0];

		row[0] = i;
		for (int j = 1; j <= nb; j++) {
			int above = row[j];

			row[j] = min3(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
			diagonal = above;
		}
	}
	return row[nb];
}

/* The first name that begins like this. */
static const char *longer(const char *typed, const char *const *names, int n)
{
	size_t len = strlen(typed);

	for (int i = 0; i < n && len >= PREFIX_MIN; i++)
		if (strncmp(typed, names[i], len) == 0)
			return names[i];
	return NULL;
}

const char *suggest(const char *typed, const char *const *names, int n)
{
	const char *best = longer(typed, names, n);
	int limit = (int)strlen(typed) / 3;
	int best_distance = limit > 2 ? limit : 2;

	if (best)
		return best;
	for (int i = 0; i < n; i++) {
		int d = distance(typed, names[i]);

		if (d <= best_distance && d < (int)strlen(names[i])) {
			best_distance = d - 1;
			best = names[i];
		}
	}
	return best;
}
