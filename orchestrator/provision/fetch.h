/*
 * Files from the network into the cache: many at once, each in parallel ranges, verified while they
 * arrive, able to go on after a kill at any byte.
 *
 * Per file: take its lock (another process that has it is waited for: then nothing is left to
 * transfer); resolve the source, judging every hop's head against what is expected; plan, check and
 * allocate the room; connections take ranges in the order of the file; blocks are written, hashed
 * in order and synced on libuv's threads; the journal learns of a range after its sync; the hash
 * agrees; store_commit. A connection never has more than commit_bytes that the journal does not
 * know.
 *
 * Failing: a connection retries alone with growing, jittered pauses; a source that contradicts the
 * expectation or keeps failing is left for the next one in mid-file, since content is trusted by
 * hash.
 */
#ifndef ASSAY_FETCH_H
#define ASSAY_FETCH_H

#include "hub.h"
#include "models_lock.h"
#include "store.h"

enum {
	FETCH_SOURCES_MAX = MODELS_LOCK_MIRRORS_MAX + 1,
	FETCH_CONNECTIONS_MAX = 32,
	FETCH_FILES_MAX = MODELS_LOCK_MODELS_MAX
};

struct fetch_request {
	const char *id; /* for people */
	const struct store *store;
	struct store_blob blob; /* sha256 NULL: names the .part; the rest follows the hash */
	struct store_meta meta; /* id, tier, file, licence; the rest is filled in */
	int64_t size;           /* -1: not known */
	const uint8_t *sha256;  /* NULL: trust on first use */
	const char *revision;   /* commit the hub must report, or NULL */
	int n_chunks;
	const uint8_t (*chunks)[DIGEST_BYTES];
	int n_sources;
	char sources[FETCH_SOURCES_MAX][HUB_URL_MAX];
	char page[600]; /* where a person asks for access, "" none */
};

struct fetch_result {
	int code; /* enum exit_code */
	struct err err;
	char path[STORE_PATH_MAX]; /* when code is 0 */
	uint8_t sha256[DIGEST_BYTES];
	int64_t size;
	int64_t transferred; /* body bytes received by this call */
	int64_t resumed;     /* bytes that were on disk from before */
	char commit[48];     /* what the hub reported, "" none */
	double seconds;
};

enum fetch_event_kind {
	FETCH_WAITING,  /* another process has the lock */
	FETCH_STARTED,  /* size known; held tells what is there already */
	FETCH_PROGRESS, /* every tick */
	FETCH_TROUBLE,  /* text: what went wrong and what is done about it */
	FETCH_DONE,
	FETCH_FAILED,
};

struct fetch_event {
	enum fetch_event_kind kind;
	const char *id;
	int64_t held, total; /* total -1: not known */
	double rate;         /* bytes/s over the last seconds */
	double eta_s;        /* -1: not known */
	const char *text;
	const struct fetch_result *result; /* DONE, FAILED */
};

typedef void fetch_event_fn(void *ctx, const struct fetch_event *ev);

struct fetch_options {
	int connections; /* all files together */
	int retries;     /* failures in a row per source */
	int stall_ms;    /* no byte for so long: reconnect */
	int backoff_ms;  /* first pause; doubles up to 60 times it */
	int wait_max_ms; /* the longest Retry-After that is waited for */
	int tick_ms;
	int64_t commit_bytes; /* per connection: at most so much is fetched twice */
	int64_t range_bytes;  /* first request; grows with the rate up to 8 times it */
	fetch_event_fn *event;
	void *ctx;
};

void fetch_defaults(struct fetch_options *o);
/* "stall_ms=300,commit_bytes=65536": for tests (ASSAY_FETCH_TUNE). */
int fetch_tune(struct fetch_options *o, const char *text, struct err *e);

/*
 * Fetches all; results[i] tells of requests[i]. Runs its own loop and returns the first failing
 * code as a negative with e set, after every file has ended. SIGINT and SIGTERM end with
 * INTERRUPTED once the journals are written; parts are kept.
 */
int fetch_run(const struct fetch_request *requests, int n, const struct fetch_options *o,
	      const struct hub *hub, struct fetch_result *results, struct err *e);

#endif
