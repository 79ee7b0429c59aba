#include "fetch_http.h"

#include <assert.h>
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum {
	RECEIVE_BYTES = 256 << 10,
	CONNECT_TIMEOUT_S = 20,
	HEAD_BYTES_MAX = 128 << 10,
	SOCKET_ERRORS_MAX = 200
};

struct http {
	CURLM *multi;
	uv_loop_t *loop;
	uv_timer_t timer;
	struct http_request *ended; /* by http_resume: libcurl has no message for these */
};

struct http_request {
	struct http *http;
	CURL *easy;
	struct curl_slist *headers;
	const struct http_handler *handler;
	void *ctx;
	struct http_head head;
	size_t head_bytes;
	bool head_done, stopped, paused;
	CURLcode code;              /* of an ended one */
	struct http_request *after; /* in the list of ended ones */
	char why[CURL_ERROR_SIZE];
};

struct socket {
	uv_poll_t poll;
	struct http *http;
	curl_socket_t fd;
	int events; /* that libcurl waits for */
	int errors; /* reported in a row */
};

static enum http_end end_of(const struct http_request *r, CURLcode code)
{
	if (r->stopped)
		return HTTP_STOPPED;
	switch (code) {
	case CURLE_OK:
		return HTTP_DONE;
	case CURLE_PARTIAL_FILE:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
	case CURLE_GOT_NOTHING:
		return HTTP_CUT;
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_COULDNT_CONNECT:
	case CURLE_OPERATION_TIMEDOUT:
	case CURLE_SSL_CONNECT_ERROR:
		return HTTP_NO_CONNECTION;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_SSL_INVALIDCERTSTATUS:
		return HTTP_BAD_TLS;
	default:
		return HTTP_BROKEN;
	}
}

static void forget(struct http_request *r)
{
	for (struct http_request **p = &r->http->ended; *p; p = &(*p)->after) {
		if (*p == r) {
			*p = r->after;
			break;
		}
	}
	curl_multi_remove_handle(r->http->multi, r->easy);
	curl_easy_cleanup(r->easy);
	curl_slist_free_all(r->headers);
	free(r);
}

static void conclude(struct http_request *r, CURLcode code)
{
	const struct http_handler *handler = r->handler;
	enum http_end end = end_of(r, code);
	struct http_head head = r->head;
	char why[CURL_ERROR_SIZE];
	void *ctx = r->ctx;

	/* what libcurl says of a malformed proxy contains its password */
	snprintf(why, sizeof(why), "%.200s",
		 r->why[0] && !strchr(r->why, '@') ? r->why : curl_easy_strerror(code));
	forget(r);
	handler->done(ctx, end, &head, why);
}

static void deliver(struct http *h)
{
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(h->multi, &left))) {
		struct http_request *r = NULL;

		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&r);
		conclude(r, m->data.result);
	}
	while (h->ended)
		conclude(h->ended, h->ended->code);
}

/* ---- libuv underneath libcurl ------------------------------------------------------------ */

static int mask_of(int events)
{
	int mask = (events & UV_READABLE ? CURL_CSELECT_IN : 0) |
		   (events & UV_WRITABLE ? CURL_CSELECT_OUT : 0);

	return mask ? mask : CURL_CSELECT_ERR;
}

static void on_poll(uv_poll_t *p, int status, int events)
{
	struct socket *s = p->data;
	struct http *h = s->http;
	int running;

	/* what came before a reset can still be read; libcurl then meets the error itself */
	s->errors = status < 0 ? s->errors + 1 : 0;
	if (status < 0)
		events = s->errors < SOCKET_ERRORS_MAX ? s->events : 0;
	curl_multi_socket_action(h->multi, s->fd, mask_of(events), &running);
	if (status < 0 && s->events && !uv_is_closing((uv_handle_t *)p))
		uv_poll_start(p, s->events, on_poll); /* libuv has stopped it */
	deliver(h);
}

static void on_timer(uv_timer_t *t)
{
	struct http *h = t->data;
	int running;

	curl_multi_socket_action(h->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	deliver(h);
}

static int set_timer(CURLM *multi, long timeout_ms, void *ctx)
{
	struct http *h = ctx;

	(void)multi;
	if (timeout_ms < 0)
		uv_timer_stop(&h->timer);
	else
		uv_timer_start(&h->timer, on_timer, (uint64_t)timeout_ms, 0);
	return 0;
}

static void free_socket(uv_handle_t *handle)
{
	free(handle->data);
}

static int set_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *attached)
{
	struct socket *s = attached;
	struct http *h = ctx;
	int events =
	    (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (s) {
			uv_poll_stop(&s->poll);
			uv_close((uv_handle_t *)&s->poll, free_socket);
			curl_multi_assign(h->multi, fd, NULL);
		}
		return 0;
	}
	if (!s) {
		s = calloc(1, sizeof(*s));
		assert(s);
		s->http = h;
		s->fd = fd;
		if (uv_poll_init_socket(h->loop, &s->poll, fd) != 0) {
			free(s);
			return -1;
		}
		s->poll.data = s;
		curl_multi_assign(h->multi, fd, s);
	}
	s->events = events;
	uv_poll_start(&s->poll, events, on_poll);
	return 0;
}

int http_open(struct http **out, uv_loop_t *loop, struct err *e)
{
	struct http *h;

	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return err_set(e, EXIT_INTERNAL, "libcurl does not start");
	h = calloc(1, sizeof(*h));
	assert(h);
	h->loop = loop;
	h->multi = curl_multi_init();
	assert(h->multi);
	uv_timer_init(loop, &h->timer);
	h->timer.data = h;
	curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, set_socket);
	curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h);
	curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, set_timer);
	curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h);
	curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, 64L);
	*out = h;
	return 0;
}

void http_close(struct http *h)
{
	curl_multi_cleanup(h->multi);
	h->multi = NULL;
	uv_close((uv_handle_t *)&h->timer, NULL);
}

void http_free(struct http *h)
{
	free(h);
}

/* ---- one request ------------------------------------------------------------------------- */

static size_t on_header(char *line, size_t one, size_t bytes, void *ctx)
{
	struct http_request *r = ctx;

	(void)one;
	r->head_bytes += bytes;
	if (r->head_bytes > HEAD_BYTES_MAX)
		return 0;
	if (r->head_done) /* trailers */
		return bytes;
	if (bytes > 2 || (bytes && line[0] != '\r' && line[0] != '\n')) {
		http_head_line(&r->head, line, bytes, (int64_t)time(NULL));
		return bytes;
	}
	if (r->head.status < 200)
		return bytes;
	r->head_done = true;
	r->stopped = r->handler->head(r->ctx, &r->head) == HTTP_STOP;
	return r->stopped ? 0 : bytes;
}

static size_t on_body(char *data, size_t one, size_t bytes, void *ctx)
{
	struct http_request *r = ctx;
	enum http_take take;

	(void)one;
	take = r->handler->body(r->ctx, (const uint8_t *)data, bytes);
	if (take == HTTP_TAKE)
		return bytes;
	if (take == HTTP_PAUSE) {
		r->paused = true;
		return CURL_WRITEFUNC_PAUSE;
	}
	r->stopped = true;
	return 0;
}

static void add_header(struct http_request *r, const char *name, const char *value)
{
	char line[HTTP_ETAG_MAX + 600];
	struct curl_slist *all;

	snprintf(line, sizeof(line), "%s: %s", name, value);
	all = curl_slist_append(r->headers, line);
	assert(all);
	r->headers = all;
}

static void set_authorities(CURL *easy)
{
	const char *bundle = getenv("CURL_CA_BUNDLE");

	if (!bundle || !*bundle)
		bundle = getenv("SSL_CERT_FILE");
	if (bundle && *bundle)
		curl_easy_setopt(easy, CURLOPT_CAINFO, bundle);
}

static void set_options(struct http_request *r, const struct http_get *get)
{
	CURL *easy = r->easy;

	curl_easy_setopt(easy, CURLOPT_URL, get->url);
	curl_easy_setopt(easy, CURLOPT_PRIVATE, r);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, r->headers);
	curl_easy_setopt(easy, CURLOPT_HEADEROPT, (long)CURLHEADER_SEPARATE);
	curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, r);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, r);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, r->why);
	curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)RECEIVE_BYTES);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_TIMEOUT_S);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "assay/0.1");
	if (get->direct)
		curl_easy_setopt(easy, CURLOPT_PROXY, "");
	set_authorities(easy);
}

int http_get(struct http *h, struct http_request **out, const struct http_get *get,
	     const struct http_handler *handler, void *ctx, struct err *e)
{
	struct http_request *r = calloc(1, sizeof(*r));
	char value[600];

	assert(r);
	r->http = h;
	r->handler = handler;
	r->ctx = ctx;
	http_head_line(&r->head, "HTTP/", 5, 0);
	r->easy = curl_easy_init();
	assert(r->easy);
	add_header(r, "Accept-Encoding", "identity");
	if (get->from >= 0) {
		snprintf(value, sizeof(value), get->to < 0 ? "bytes=%lld-" : "bytes=%lld-%lld",
			 (long long)get->from, (long long)get->to - 1);
		add_header(r, "Range", value);
	}
	if (get->if_range)
		add_header(r, "If-Range", get->if_range);
	if (get->bearer) {
		snprintf(value, sizeof(value), "Bearer %s", get->bearer);
		add_header(r, "Authorization", value);
	}
	set_options(r, get);
	if (curl_multi_add_handle(h->multi, r->easy) != CURLM_OK) {
		curl_easy_cleanup(r->easy);
		curl_slist_free_all(r->headers);
		free(r);
		return err_set(e, EXIT_INTERNAL, "libcurl takes no further transfer");
	}
	*out = r;
	return 0;
}

void http_resume(struct http_request *r)
{
	if (!r->paused)
		return;
	r->paused = false;
	r->code = curl_easy_pause(r->easy, CURLPAUSE_CONT);
	if (r->code == CURLE_OK)
		return;
	/* A handler that stopped at what libcurl had kept: only this call is told, no message comes. */
	r->after = r->http->ended;
	r->http->ended = r;
	uv_timer_start(&r->http->timer, on_timer, 0, 0);
}

void http_cancel(struct http_request *r)
{
	forget(r);
}

bool http_resolve(const char *base, const char *location, char out[HTTP_URL_MAX])
{
	CURLU *u = curl_url();
	char *url = NULL;
	bool fits = false;

	assert(u);
	if (curl_url_set(u, CURLUPART_URL, base, 0) == CURLUE_OK &&
	    curl_url_set(u, CURLUPART_URL, location, 0) == CURLUE_OK &&
	    curl_url_get(u, CURLUPART_URL, &url, CURLU_NO_DEFAULT_PORT) == CURLUE_OK &&
	    strlen(url) < HTTP_URL_MAX &&
	    (strncasecmp(url, "http://", 7) == 0 || strncasecmp(url, "https://", 8) == 0)) {
		memcpy(out, url, strlen(url) + 1);
		fits = true;
	}
	curl_free(url);
	curl_url_cleanup(u);
	return fits;
}
