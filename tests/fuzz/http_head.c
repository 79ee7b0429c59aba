/*
 * Any head of an answer; and any URL: an origin that may see the token is the one that libcurl
 * would connect to.
 */
#include "provision/fetch_http.h"
#include "provision/hub.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_url(const char *url)
{
	struct hub h = {.endpoint = "https://huggingface.co", .token = "t"};
	char resolved[HTTP_URL_MAX], a[300], b[300];

	if (!http_resolve("https://example.org/x/y", url, resolved) || !hub_may_see_token(&h, url))
		return;
	assert(hub_origin(url, a, sizeof(a)) && hub_origin(resolved, b, sizeof(b)));
	assert(strcmp(a, b) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	struct http_head h = {0};

	assert(text);
	memcpy(text, data, size);
	text[size] = '\0';
	for (const char *p = text; *p;) {
		size_t n = strcspn(p, "\n");

		http_head_line(&h, p, n + (p[n] == '\n'), 1700000000);
		p += n + (p[n] == '\n');
	}
	assert(h.length >= -1 && h.linked_size >= -1 && h.retry_after_s >= -1);
	assert(!h.has_range ||
	       (h.range_from >= -1 && h.range_to >= h.range_from && h.range_total >= -1));
	check_url(h.location);
	check_url(text);
	free(text);
	return 0;
}
