#include "http_head.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

static int64_t number(const char *s, const char **end)
{
	int64_t v = 0;

	if (!isdigit((unsigned char)*s))
		return -1;
	for (; isdigit((unsigned char)*s); s++) {
		if (v > INT64_MAX / 10 - 1)
			return -1;
		v = v * 10 + (*s - '0');
	}
	if (end)
		*end = s;
	else if (*s && !isspace((unsigned char)*s))
		return -1;
	return v;
}

/* RFC 9110 14.4: first-last/total; a star may stand for the range or for the total. */
static void content_range(struct http_head *h, const char *s)
{
	int64_t from = -1, last = -1, total = -1;

	if (strncasecmp(s, "bytes", 5) != 0)
		return;
	s += 5 + strspn(s + 5, " ");
	if (*s == '*') {
		s++;
	} else {
		from = number(s, &s);
		if (from < 0 || *s != '-')
			return;
		last = number(s + 1, &s);
		if (last < from)
			return;
	}
	if (*s != '/')
		return;
	if (s[1] != '*' && (total = number(s + 1, NULL)) < 0)
		return;
	h->has_range = true;
	h->range_from = from;
	h->range_to = last < 0 ? -1 : last + 1;
	h->range_total = total;
}

/* RFC 9110 10.2.3: seconds or a date; dates in the preferred form and the two obsolete ones. */
static int64_t retry_after(const char *s, int64_t now_s)
{
	static const char *const forms[] = {"%a, %d %b %Y %H:%M:%S GMT",
					    "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y"};
	int64_t seconds = number(s, NULL);

	if (seconds < 0 && *s && strspn(s, "0123456789") == strlen(s))
		return INT64_MAX; /* more than fits */
	for (int i = 0; seconds < 0 && i < 3; i++) {
		struct tm tm = {0};
		const char *end = strptime(s, forms[i], &tm);

		if (end && !*end) {
			seconds = (int64_t)timegm(&tm) - now_s;
			return seconds < 0 ? 0 : seconds;
		}
	}
	return seconds;
}

static void text(char *out, size_t bytes, const char *s)
{
	size_t n = strlen(s);

	out[0] = '\0';
	if (n < bytes)
		memcpy(out, s, n + 1);
}

static void unquote(char *out, size_t bytes, const char *s)
{
	if (strncmp(s, "W/", 2) == 0)
		s += 2;
	s += *s == '"';
	text(out, bytes, s);
	out[strcspn(out, "\"")] = '\0';
}

static void field(struct http_head *h, const char *name, const char *value, int64_t now_s)
{
	if (strcasecmp(name, "content-length") == 0) {
		h->length = number(value, NULL);
	} else if (strcasecmp(name, "content-range") == 0) {
		content_range(h, value);
	} else if (strcasecmp(name, "retry-after") == 0) {
		h->retry_after_s = retry_after(value, now_s);
	} else if (strcasecmp(name, "x-linked-size") == 0) {
		h->linked_size = number(value, NULL);
	} else if (strcasecmp(name, "etag") == 0) {
		text(h->etag, sizeof(h->etag), *value == '"' ? value : "");
	} else if (strcasecmp(name, "x-linked-etag") == 0) {
		unquote(h->linked_etag, sizeof(h->linked_etag), value);
	} else if (strcasecmp(name, "x-repo-commit") == 0) {
		text(h->commit, sizeof(h->commit), value);
	} else if (strcasecmp(name, "x-error-message") == 0) {
		text(h->error, sizeof(h->error), value);
	} else if (strcasecmp(name, "content-encoding") == 0) {
		text(h->encoding, sizeof(h->encoding), strcasecmp(value, "identity") ? value : "");
	} else if (strcasecmp(name, "content-type") == 0) {
		text(h->type, sizeof(h->type), value);
		h->type[strcspn(h->type, "; ")] = '\0';
		for (char *p = h->type; *p; p++)
			*p = (char)tolower((unsigned char)*p);
	} else if (strcasecmp(name, "location") == 0) {
		text(h->location, sizeof(h->location),
		     strlen(value) < sizeof(h->location) ? value : "\x01");
	}
}

void http_head_line(struct http_head *h, const char *line, size_t bytes, int64_t now_s)
{
	char copy[HTTP_URL_MAX + 200], *colon, *value;
	size_t n = bytes < sizeof(copy) - 1 ? bytes : sizeof(copy) - 1;

	memcpy(copy, line, n);
	while (n > 0 && isspace((unsigned char)copy[n - 1]))
		n--;
	copy[n] = '\0';
	if (strncmp(copy, "HTTP/", 5) == 0) {
		const char *space = strchr(copy, ' ');

		*h = (struct http_head){.length = -1,
					.retry_after_s = -1,
					.linked_size = -1,
					.range_from = -1,
					.range_to = -1,
					.range_total = -1};
		h->status = space ? atoi(space + 1) : 0;
		return;
	}
	colon = strchr(copy, ':');
	if (!colon)
		return;
	*colon = '\0';
	value = colon + 1 + strspn(colon + 1, " \t");
	field(h, copy, value, now_s);
}
