/* The head of an HTTP answer, as far as a download needs it. Pure: fed line by line. */
#ifndef ASSAY_HTTP_HEAD_H
#define ASSAY_HTTP_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HTTP_URL_MAX = 8192, HTTP_ETAG_MAX = 200 };

struct http_head {
	int status;                      /* 0 before the status line */
	int64_t length;                  /* Content-Length; -1 none */
	bool has_range;                  /* a well-formed Content-Range was there: */
	int64_t range_from, range_to;    /* [from, to), -1 for "*" */
	int64_t range_total;             /* -1 for "*" */
	int64_t retry_after_s;           /* from either form, against now_s; -1 none */
	int64_t linked_size;             /* X-Linked-Size; -1 none */
	char etag[HTTP_ETAG_MAX];        /* strong ones only, with their quotes; "" none */
	char linked_etag[HTTP_ETAG_MAX]; /* without W/ and quotes */
	char commit[HTTP_ETAG_MAX];      /* X-Repo-Commit */
	char type[100];                  /* Content-Type up to ";", lower case */
	char encoding[40];               /* Content-Encoding, "" for identity */
	char error[200];                 /* X-Error-Message */
	char location[HTTP_URL_MAX];     /* as sent; "" none, "\x01" when it was too long */
};

/* One header line with or without its line end. A status line starts afresh. */
void http_head_line(struct http_head *h, const char *line, size_t bytes, int64_t now_s);

#endif
