#include "fetch_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { DRAIN_BYTES_MAX = 64 << 10, RE_RESOLVE_MAX = 3, RETRY_AFTER_MAX_S = 1 << 30 };

static struct source *source_of(struct conn *c)
{
	return &c->job->sources[c->source];
}

/* The verdict is written once: the first thing wrong is the cause. */
static enum http_take verdict(struct conn *c, enum verdict_kind kind, enum exit_code code,
			      const char *fmt, ...) __attribute__((format(printf, 4, 5)));

static enum http_take verdict(struct conn *c, enum verdict_kind kind, enum exit_code code,
			      const char *fmt, ...)
{
	char why[ERR_MSG_MAX / 2], url[700];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	hub_public_url(c->url, url, sizeof(url));
	c->verdict_kind = kind;
	if (code != EXIT_AGREE)
		err_set(&c->verdict, code, "%s: %s %s", c->job->request->id, url, why);
	return HTTP_STOP;
}

/* ---- bytes ------------------------------------------------------------------------------- */

static void append(struct conn *c, int64_t at, const uint8_t *data, size_t bytes)
{
	struct job *j = c->job;
	struct block *b = &c->block;

	c->uncommitted += (int64_t)bytes;
	while (bytes > 0) {
		size_t n;

		if (b->bytes && (b->bytes == b->capacity || b->at + (int64_t)b->bytes != at))
			disk_write(j, c);
		if (!b->data)
			disk_take(j->fetch, b, at);
		n = b->capacity - b->bytes < bytes ? b->capacity - b->bytes : bytes;
		memcpy(b->data + b->bytes, data, n);
		b->bytes += n;
		at += (int64_t)n;
		data += n;
		bytes -= n;
	}
	if (b->bytes == b->capacity)
		disk_write(j, c);
}

static void gain(struct conn *c, int64_t bytes)
{
	struct source *s = source_of(c);

	c->gained += bytes;
	s->limited = s->re_resolved = 0;
	s->served = true;
}

/* Of a body that is the whole file, what nobody has. */
static enum http_take take_stream(struct conn *c, const uint8_t *data, size_t bytes)
{
	struct job *j = c->job;
	int64_t at = c->body_at, end = at + (int64_t)bytes;
	struct range gap;

	if (j->size >= 0 && end > j->size)
		return verdict(c, VERDICT_DEAD, EXIT_HASH_MISMATCH,
			       "sends more than the %lld bytes expected", (long long)j->size);
	if (j->size < 0 && end > FETCH_UNKNOWN_BYTES_MAX)
		return verdict(c, VERDICT_DEAD, EXIT_HASH_MISMATCH,
			       "sends more than %d MiB and does not say how much: not taken "
			       "without a size in the lockfile",
			       FETCH_UNKNOWN_BYTES_MAX >> 20);
	while (ranges_gap(&j->assigned, at, end, &gap)) {
		append(c, gap.from, data + (gap.from - c->body_at), (size_t)(gap.to - gap.from));
		ranges_add(&j->assigned, gap.from, gap.to);
		gain(c, gap.to - gap.from);
		at = gap.to;
	}
	c->body_at = end;
	return HTTP_TAKE;
}

static enum http_take on_body(void *ctx, const uint8_t *data, size_t bytes)
{
	struct conn *c = ctx;
	struct job *j = c->job;
	int64_t room = c->to - c->pos;
	size_t n = (int64_t)bytes < room ? bytes : (size_t)room;

	c->heard_bytes += (int64_t)bytes;
	if (c->heard_bytes >= FETCH_HEARD_BYTES) {
		c->heard_ms = fetch_now(j->fetch);
		c->heard_bytes = 0;
	}
	if (c->verdict_kind != VERDICT_NONE) {
		c->drained += bytes;
		return c->drained > DRAIN_BYTES_MAX ? HTTP_STOP : HTTP_TAKE;
	}
	c->wants_sync = j->planned && c->uncommitted > 0 &&
			c->uncommitted + (int64_t)bytes > j->fetch->o->commit_bytes;
	if (c->wants_sync || j->writes > 128 || (j->planned && hash_is_behind(j))) {
		if (c->wants_sync && (c->uncommitted == (int64_t)c->block.bytes ||
				      (int64_t)c->block.bytes > j->fetch->o->commit_bytes / 2))
			disk_write(j, c); /* nothing else will be synced */
		c->paused = true;
		return HTTP_PAUSE;
	}
	j->result->transferred += (int64_t)bytes;
	if (c->streaming)
		return take_stream(c, data, bytes);
	gain(c, (int64_t)bytes);
	append(c, c->pos, data, n);
	c->pos += (int64_t)n;
	if (n < bytes || (c->pos == c->to && c->asked_to > c->to))
		return verdict(c, VERDICT_ENOUGH, EXIT_AGREE, "-");
	return HTTP_TAKE;
}

/* ---- the head ---------------------------------------------------------------------------- */

static int64_t expected_size(const struct job *j)
{
	return j->request->size >= 0 ? j->request->size : j->planned ? j->size : -1;
}

/* What the hub says of the file, on the answer or on a redirect to it. */
static bool contradicts(struct conn *c, const struct http_head *h)
{
	const struct fetch_request *q = c->job->request;
	uint8_t sha256[DIGEST_BYTES];
	bool has_hash = digest_parse(h->linked_etag, sha256);

	if (has_hash && q->sha256 && memcmp(sha256, q->sha256, DIGEST_BYTES) != 0)
		verdict(c, VERDICT_DEAD, EXIT_HASH_MISMATCH,
			"announces a file with SHA-256 %s, expected %s: nothing was downloaded",
			h->linked_etag, q->blob.sha256_hex);
	else if (h->linked_size >= 0 && expected_size(c->job) >= 0 &&
		 h->linked_size != expected_size(c->job))
		verdict(c, VERDICT_DEAD, EXIT_HASH_MISMATCH,
			"announces a file of %lld bytes, expected %lld: nothing was downloaded",
			(long long)h->linked_size, (long long)expected_size(c->job));
	else if (q->revision && h->commit[0] && strcmp(h->commit, q->revision) != 0)
		verdict(c, VERDICT_DEAD, EXIT_HASH_MISMATCH,
			"answers from commit %.60s, expected %s: nothing was downloaded", h->commit,
			q->revision);
	if (has_hash && !q->sha256) {
		memcpy(c->job->announced, sha256, DIGEST_BYTES);
		c->job->has_announced = true;
	}
	if (h->commit[0])
		snprintf(c->job->result->commit, sizeof(c->job->result->commit), "%.40s",
			 h->commit);
	return c->verdict_kind != VERDICT_NONE;
}

static enum http_take redirect(struct conn *c, const struct http_head *h)
{
	char next[HTTP_URL_MAX];

	if (!h->location[0] || !http_resolve(c->url, h->location, next))
		return verdict(c, VERDICT_DEAD, EXIT_NETWORK, "redirects (%d) to no usable address",
			       h->status);
	if (c->hop >= FETCH_HOPS_MAX)
		return verdict(c, VERDICT_DEAD, EXIT_NETWORK,
			       "redirects more than %d times, in a circle?", FETCH_HOPS_MAX);
	if (strncasecmp(c->url, "https:", 6) == 0 && strncasecmp(next, "https:", 6) != 0 &&
	    !hub_is_loopback(next))
		return verdict(c, VERDICT_DEAD, EXIT_NETWORK,
			       "redirects from https to plain http, which is not followed");
	c->hop++;
	memcpy(c->url, next, strlen(next) + 1);
	c->verdict_kind = VERDICT_REDIRECT;
	return h->length >= 0 && h->length <= DRAIN_BYTES_MAX ? HTTP_TAKE : HTTP_STOP;
}

static enum http_take refused(struct conn *c, const struct http_head *h)
{
	struct source *s = source_of(c);
	const struct fetch_request *q = c->job->request;
	const char *detail = h->error[0] ? h->error : "";
	bool hub = hub_is_origin(c->job->fetch->hub, c->url);

	if ((c->resolving ? c->hop > 0 : strcmp(s->resolved, s->url) != 0) &&
	    s->re_resolved < RE_RESOLVE_MAX)
		return verdict(c, VERDICT_EXPIRED, EXIT_AUTH,
			       "answers %d: the signed address has expired", h->status);
	if (h->status == 400)
		return verdict(c, VERDICT_DEAD, EXIT_NETWORK, "answers 400%s%s", *detail ? " " : "",
			       detail);
	if (h->status == 401 || h->status == 403)
		/* who has sent some of the file refuses a request, not the person */
		return verdict(c, s->served ? VERDICT_RETRY : VERDICT_DEAD, EXIT_AUTH,
			       "answers %d%s%s: %s%s%s", h->status,
			       *detail ? " " : "", detail,
			       hub && q->page[0] ? "ask for access at " : "access is denied",
			       hub ? q->page : "",
			       !hub ? ""
			       : c->job->fetch->hub->token[0]
				   ? " with the account that the token belongs to"
				   : " and set HF_TOKEN to a token of that account");
	return verdict(c, VERDICT_DEAD, EXIT_NETWORK, "answers %d%s%s: there is no such file there",
		       h->status, *detail ? " " : "", detail);
}

static bool changed(struct conn *c, const struct http_head *h)
{
	struct source *s = source_of(c);

	if (!h->etag[0] || strlen(h->etag) >= sizeof(s->etag) || c->job->ignore_etags)
		return false;
	if (s->etag[0] && strcmp(s->etag, h->etag) != 0) {
		verdict(c, VERDICT_CHANGED, EXIT_NETWORK,
			"changed during the transfer (ETag %s, before %s)", h->etag, s->etag);
		memcpy(s->etag, h->etag, strlen(h->etag) + 1);
		return true;
	}
	if (!s->etag[0]) {
		memcpy(s->etag, h->etag, strlen(h->etag) + 1);
		c->job->etag_new = true;
	}
	return false;
}

static enum http_take plan(struct conn *c, int64_t size)
{
	struct job *j = c->job;
	struct err e = ERR_NONE;

	if (j->planned)
		return HTTP_TAKE;
	if (job_plan(j, size, &e) < 0) {
		c->verdict_kind = VERDICT_DEAD;
		c->verdict = e;
		return HTTP_STOP;
	}
	c->to = c->to < size ? c->to : size;
	ranges_add(&j->assigned, c->pos, c->to);
	return HTTP_TAKE;
}

static enum http_take begin_body(struct conn *c)
{
	struct source *s = source_of(c);

	if (c->resolving)
		memcpy(s->resolved, c->url, sizeof(s->resolved));
	c->resolving = false;
	c->phase = CONN_BODY;
	c->head_ms = fetch_now(c->job->fetch);
	return HTTP_TAKE;
}

static enum http_take accept_part(struct conn *c, const struct http_head *h)
{
	int64_t size = expected_size(c->job);

	if (h->has_range && h->range_total >= 0 && size >= 0 && h->range_total != size)
		return verdict(c, VERDICT_DEAD, EXIT_HASH_MISMATCH,
			       "has a file of %lld bytes, expected %lld: nothing of it was taken",
			       (long long)h->range_total, (long long)size);
	if (!h->has_range || h->range_from != c->pos || h->range_to <= h->range_from ||
	    h->range_to > c->asked_to)
		return verdict(c, VERDICT_RETRY, EXIT_NETWORK,
			       "answered a request for the bytes from %lld with another range",
			       (long long)c->pos);
	if (changed(c, h))
		return HTTP_STOP;
	if (!c->job->planned && h->range_total < 0)
		return verdict(c, VERDICT_DEAD, EXIT_NETWORK, "does not say how long the file is");
	if (plan(c, h->range_total) != HTTP_TAKE)
		return HTTP_STOP;
	return begin_body(c);
}

static enum http_take accept_whole(struct conn *c, const struct http_head *h)
{
	struct job *j = c->job;
	int64_t size = expected_size(j);

	if (h->length >= 0 && size >= 0 && h->length != size)
		return verdict(c, VERDICT_DEAD, EXIT_HASH_MISMATCH,
			       "has a file of %lld bytes, expected %lld: nothing of it was taken",
			       (long long)h->length, (long long)size);
	if (changed(c, h))
		return HTTP_STOP;
	source_of(c)->no_ranges = true;
	if (!j->planned && h->length >= 0 && plan(c, h->length) != HTTP_TAKE)
		return HTTP_STOP;
	ranges_remove(&j->assigned, c->pos, c->to);
	c->pos = c->to = 0;
	for (int i = 0; i < FETCH_CONNECTIONS_MAX; i++)
		if (&j->conns[i] != c && j->conns[i].streaming)
			return verdict(c, VERDICT_ENOUGH, EXIT_AGREE, "-");
	/* what the others wait to ask for comes in this stream */
	for (int i = 0; i < FETCH_CONNECTIONS_MAX; i++) {
		struct conn *o = &j->conns[i];

		if (o == c || o->request || o->phase == CONN_IDLE)
			continue;
		ranges_remove(&j->assigned, o->pos, o->to);
		o->pos = o->to = 0;
		o->phase = CONN_IDLE;
	}
	c->streaming = true;
	c->body_at = 0;
	return begin_body(c);
}

static enum http_take judge_status(struct conn *c, const struct http_head *h)
{
	int64_t size = expected_size(c->job);

	switch (h->status) {
	case 301:
	case 302:
	case 303:
	case 307:
	case 308:
		return redirect(c, h);
	case 200:
		return accept_whole(c, h);
	case 206:
		return accept_part(c, h);
	case 416:
		if (h->has_range && h->range_total >= 0 && size >= 0 && h->range_total != size)
			return verdict(
			    c, VERDICT_DEAD, EXIT_HASH_MISMATCH,
			    "has a file of %lld bytes, expected %lld: nothing of it was taken",
			    (long long)h->range_total, (long long)size);
		return verdict(c, VERDICT_RETRY, EXIT_NETWORK,
			       "refuses the range from byte %lld (416)", (long long)c->pos);
	case 400: /* some stores answer so to a signature that has expired */
	case 401:
	case 403:
	case 404:
	case 410:
		return refused(c, h);
	case 429:
		c->retry_after_s = h->retry_after_s;
		return verdict(c, VERDICT_LIMITED, EXIT_RATE_LIMITED, "limits the rate (429)");
	case 503:
		c->retry_after_s = h->retry_after_s;
		if (h->retry_after_s >= 0)
			return verdict(c, VERDICT_LIMITED, EXIT_RATE_LIMITED,
				       "is not available (503)");
		return verdict(c, VERDICT_RETRY, EXIT_NETWORK, "is not available (503)");
	}
	return verdict(c, h->status >= 500 || h->status == 408 ? VERDICT_RETRY : VERDICT_DEAD,
		       EXIT_NETWORK, "answers %d%s%s", h->status, h->error[0] ? " " : "", h->error);
}

static enum http_take on_head(void *ctx, const struct http_head *h)
{
	struct conn *c = ctx;
	enum http_take take;

	c->heard_ms = fetch_now(c->job->fetch);
	c->drained = 0;
	if (contradicts(c, h))
		return HTTP_STOP;
	if ((h->status == 200 || h->status == 206) && strcmp(h->type, "text/html") == 0)
		return verdict(c, VERDICT_DEAD, EXIT_NETWORK,
			       "answers with a web page instead of the file: a login, a proxy or a "
			       "portal is in between");
	if ((h->status == 200 || h->status == 206) && h->encoding[0])
		return verdict(c, VERDICT_DEAD, EXIT_NETWORK,
			       "sends the file encoded as %s, unasked", h->encoding);
	take = judge_status(c, h);
	/* a short body of a refusal is read, so that the connection can be used again */
	if (take == HTTP_STOP && (h->status == 429 || h->status == 503 || h->status == 403) &&
	    h->length >= 0 && h->length <= DRAIN_BYTES_MAX)
		return HTTP_TAKE;
	return take;
}

/* ---- the end of a request ---------------------------------------------------------------- */

static uint64_t pause_ms(struct conn *c, int failures)
{
	const struct fetch_options *o = c->job->fetch->o;
	uint64_t full = (uint64_t)o->backoff_ms;

	for (int i = 1; i < failures && full < 60u * (uint64_t)o->backoff_ms; i++)
		full *= 2;
	return full / 2 + fetch_random(c->job->fetch) % (full / 2 + 1);
}

static void wait_until(struct conn *c, uint64_t ms)
{
	c->not_before_ms = ms;
	c->phase = c->pos < c->to || !c->job->planned ? CONN_WAITING : CONN_IDLE;
}

/* What a source dies of is its error: what its other connections meet afterwards is not. */
static bool blame(struct conn *c)
{
	struct source *s = source_of(c);

	wait_until(c, fetch_now(c->job->fetch));
	if (s->dead)
		return false;
	s->err = c->verdict;
	return true;
}

static void fail_once(struct conn *c)
{
	struct job *j = c->job;
	struct source *s = source_of(c);
	uint64_t now = fetch_now(j->fetch);
	int64_t enough =
	    j->fetch->o->commit_bytes / 4 < 65536 ? j->fetch->o->commit_bytes / 4 : 65536;

	if (!blame(c))
		return;
	if (c->gained >= enough)
		s->failures = 0;
	if (c->began_ms >= s->failed_ms) {
		s->failures++;
		s->failed_ms = now + 1;
	}
	if (s->failures > j->fetch->o->retries) {
		s->dead = true;
		job_leave_source(j, c->source);
		return;
	}
	wait_until(c, now + pause_ms(c, s->failures));
	fetch_say(j, FETCH_TROUBLE, "%s; trying again in %.1f s", c->verdict.msg,
		  (double)(c->not_before_ms - now) / 1000);
}

static void limited(struct conn *c)
{
	struct job *j = c->job;
	struct source *s = source_of(c);
	uint64_t now = fetch_now(j->fetch), ms;

	if (!blame(c) || c->began_ms < s->failed_ms)
		return;
	s->failed_ms = now + 1;
	s->limited++;
	if (c->retry_after_s > RETRY_AFTER_MAX_S)
		c->retry_after_s = RETRY_AFTER_MAX_S;
	ms = c->retry_after_s >= 0 ? (uint64_t)c->retry_after_s * 1000 + 50
				   : pause_ms(c, s->limited + 1);
	s->not_before_ms = now + ms;
	if (s->limited > j->fetch->o->retries || ms > (uint64_t)j->fetch->o->wait_max_ms) {
		err_prefix(&s->err, "waited long enough (%llu s asked for)",
			   (unsigned long long)ms / 1000);
		s->dead = true;
		job_leave_source(j, c->source);
		return;
	}
	fetch_say(j, FETCH_TROUBLE, "%s; waiting %.1f s as it asks", c->verdict.msg,
		  (double)ms / 1000);
}

static void expired(struct conn *c)
{
	struct source *s = source_of(c);

	if (!blame(c))
		return;
	if (!c->resolving && strcmp(s->resolved, c->url) != 0)
		return; /* another connection has seen it before */
	if (c->resolving)
		c->not_before_ms += pause_ms(c, s->re_resolved + 1);
	s->resolved[0] = '\0';
	s->re_resolved++;
	fetch_say(c->job, FETCH_TROUBLE, "%s; asking the origin again", c->verdict.msg);
}

static void went_through(struct conn *c, enum http_end end)
{
	struct job *j = c->job;
	struct source *s = source_of(c);

	if (c->gained > 0 && (end == HTTP_DONE || c->verdict_kind == VERDICT_ENOUGH))
		s->failures = 0;
	if (c->streaming && j->size < 0 && end == HTTP_DONE)
		j->size = c->body_at;
}

/* Ranges stay small, so that the hash follows closely, unless asking takes a good part of the time. */
static void adapt(struct conn *c)
{
	struct job *j = c->job;
	uint64_t ms = fetch_now(j->fetch) - c->began_ms, asking_ms = c->head_ms - c->began_ms;
	int64_t base = j->fetch->o->range_bytes;

	if (c->gained == j->range_bytes && ms < 2000 && asking_ms * 20 > ms &&
	    j->range_bytes < 8 * base)
		j->range_bytes *= 2;
	else if (ms > 8000 && j->range_bytes > base)
		j->range_bytes /= 2;
}

static void conclude(struct conn *c, enum http_end end, const char *why)
{
	bool whole =
	    c->streaming ? end == HTTP_DONE && c->job->size == c->body_at : c->pos >= c->to;

	if (c->verdict_kind == VERDICT_ENOUGH || (c->phase == CONN_BODY && whole)) {
		adapt(c);
		c->phase = CONN_IDLE;
	} else {
		if (end == HTTP_DONE)
			why = "the answer ended early";
		verdict(c, end == HTTP_BAD_TLS ? VERDICT_DEAD : VERDICT_RETRY, EXIT_NETWORK,
			"failed: %s", why);
		if (end == HTTP_DONE && c->gained > 0 &&
		    !c->streaming) /* a shorter range than asked */
			wait_until(c, fetch_now(c->job->fetch));
		else if (end == HTTP_BAD_TLS)
			c->phase = CONN_WAITING;
		else
			fail_once(c);
	}
}

static void start_request(struct conn *c);

static void on_done(void *ctx, enum http_end end, const struct http_head *h, const char *why)
{
	struct conn *c = ctx;
	struct job *j = c->job;

	(void)h;
	c->request = NULL;
	c->paused = false;
	disk_write(j, c);
	went_through(c, end);
	if (c->verdict_kind == VERDICT_NONE || c->verdict_kind == VERDICT_ENOUGH)
		conclude(c, end, why);
	c->streaming = false;
	switch (c->verdict_kind) {
	case VERDICT_REDIRECT:
		start_request(c);
		return;
	case VERDICT_RETRY:
		if (c->phase == CONN_HEAD || c->phase == CONN_BODY)
			fail_once(c);
		break;
	case VERDICT_LIMITED:
		limited(c);
		break;
	case VERDICT_EXPIRED:
		expired(c);
		break;
	case VERDICT_CHANGED:
		wait_until(c, fetch_now(j->fetch));
		j->ignore_etags = j->restarts > 0; /* servers that disagree: the hash decides */
		fetch_say(j, FETCH_TROUBLE, "%s; %s", c->verdict.msg,
			  j->ignore_etags ? "going on" : "starting over");
		if (!j->ignore_etags)
			job_restart(j);
		break;
	case VERDICT_DEAD:
		if (c->verdict.code == EXIT_NO_SPACE || c->verdict.code == EXIT_INTERNAL) {
			job_fail(j, &c->verdict, false);
		} else if (blame(c)) {
			source_of(c)->dead = true;
			job_leave_source(j, c->source);
		}
		break;
	default:
		break;
	}
	c->resolving = false;
	job_pump(j);
}

static const struct http_handler handler = {on_head, on_body, on_done};

/* ---- starting ---------------------------------------------------------------------------- */

static void start_request(struct conn *c)
{
	struct job *j = c->job;
	struct source *s = source_of(c);
	const struct hub *hub = j->fetch->hub;
	struct http_get get = {.url = c->url};
	struct err e = ERR_NONE;

	if (!j->planned) {
		c->pos = 0;
		c->to = j->range_bytes;
	}
	get.from = c->pos;
	get.to = c->to;
	if (s->etag[0] && !j->ignore_etags)
		get.if_range = s->etag;
	if (hub_may_see_token(hub, c->url)) {
		get.bearer = hub->token;
		get.direct = strncasecmp(c->url, "http:", 5) == 0 && hub_proxy_is_far();
	}
	c->verdict = ERR_NONE;
	c->verdict_kind = VERDICT_NONE;
	c->retry_after_s = -1;
	c->asked_to = c->to;
	c->streaming = false;
	c->gained = c->heard_bytes = 0;
	c->heard_ms = c->began_ms = fetch_now(j->fetch);
	c->phase = CONN_HEAD;
	if (http_get(j->fetch->http, &c->request, &get, &handler, c, &e) < 0) {
		c->request = NULL;
		c->phase = CONN_IDLE;
		job_fail(j, &e, false);
	}
}

void conn_start(struct conn *c)
{
	struct job *j = c->job;
	struct source *s = &j->sources[j->source];
	uint64_t now = fetch_now(j->fetch);

	c->phase = CONN_WAITING;
	if (now < c->not_before_ms || now < s->not_before_ms)
		return;
	for (int i = 0; i < FETCH_CONNECTIONS_MAX; i++) {
		const struct conn *o = &j->conns[i];

		if (o != c && o->request && o->source == j->source &&
		    (s->no_ranges || (o->resolving && !s->resolved[0])))
			return;
	}
	c->source = j->source;
	c->hop = 0;
	c->resolving = !s->resolved[0];
	if (c->resolving)
		snprintf(c->url, sizeof(c->url), "%s", s->url);
	else
		memcpy(c->url, s->resolved, sizeof(c->url));
	start_request(c);
}

void conn_stop(struct conn *c, bool keep)
{
	if (c->request)
		http_cancel(c->request);
	c->request = NULL;
	c->paused = c->streaming = c->resolving = false;
	c->phase = CONN_IDLE;
	if (keep)
		disk_write(c->job, c);
	disk_give_back(c->job->fetch, &c->block);
}

void conn_resume(struct conn *c)
{
	c->paused = false;
	c->heard_ms = fetch_now(c->job->fetch);
	c->heard_bytes = 0;
	http_resume(c->request);
}

void conn_check_stall(struct conn *c)
{
	struct job *j = c->job;
	uint64_t silent = fetch_now(j->fetch) - c->heard_ms;

	if (!c->request || c->paused || silent < (uint64_t)j->fetch->o->stall_ms)
		return;
	verdict(c, VERDICT_RETRY, EXIT_NETWORK, "%s for %.1f s",
		c->phase == CONN_HEAD ? "has not answered"
		: c->heard_bytes      ? "sent next to nothing"
				      : "sent nothing",
		(double)silent / 1000);
	conn_stop(c, true);
	fail_once(c);
}
