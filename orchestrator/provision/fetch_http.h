/*
 * HTTP on a libuv loop: libcurl's multi-socket interface, one GET at a time per request object,
 * redirects not followed (the caller judges each hop), HTTP/1.1 so that ranges get connections of
 * their own. Proxies come from the environment, as libcurl reads it.
 */
#ifndef ASSAY_FETCH_HTTP_H
#define ASSAY_FETCH_HTTP_H

#include "err.h"
#include "http_head.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct http;         /* the client */
struct http_request; /* one GET under way */

enum http_end {
	HTTP_DONE,          /* the whole answer came */
	HTTP_CUT,           /* the connection ended before the answer did */
	HTTP_STOPPED,       /* a callback said so */
	HTTP_NO_CONNECTION, /* name, route, refused, timed out */
	HTTP_BAD_TLS,       /* the certificate does not stand */
	HTTP_BROKEN,        /* not HTTP, or not what libcurl can read */
};

enum http_take { HTTP_TAKE, HTTP_STOP, HTTP_PAUSE };

struct http_handler {
	/* The head of the final answer is there: take its body or stop. */
	enum http_take (*head)(void *ctx, const struct http_head *head);
	/* Borrowed until it returns. PAUSE: the same bytes come again after http_resume. */
	enum http_take (*body)(void *ctx, const uint8_t *data, size_t bytes);
	/* Exactly once, never from inside http_get; the request is gone then. why is one clause. */
	void (*done)(void *ctx, enum http_end end, const struct http_head *head, const char *why);
};

struct http_get {
	const char *url;      /* borrowed until http_get returns, like all strings here */
	int64_t from, to;     /* Range: [from, to); to < 0 open; from < 0 no Range header */
	const char *if_range; /* strong ETag or NULL */
	const char *bearer;   /* token for this hop, or NULL */
	bool direct;          /* past any proxy */
};

int http_open(struct http **out, uv_loop_t *loop, struct err *e);
int http_get(struct http *h, struct http_request **out, const struct http_get *get,
	     const struct http_handler *handler, void *ctx, struct err *e);
void http_resume(struct http_request *r);
/* Ends it without done; not from inside its own callbacks. */
void http_cancel(struct http_request *r);

/* location against base; false when it is no http(s) URL or does not fit. */
bool http_resolve(const char *base, const char *location, char out[HTTP_URL_MAX]);

/* Starts closing; every request must be over. The loop runs until all handles are closed; then
 * http_free. */
void http_close(struct http *h);
void http_free(struct http *h);

#endif
