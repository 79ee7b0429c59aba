/* What the files of fetch share: fetch.c (loop), fetch_job.c (one file), fetch_conn.c (one
 * connection), fetch_disk.c and fetch_hash.c (threads). Everything but the work of these two runs on
 * the loop. */
#ifndef ASSAY_FETCH_INTERNAL_H
#define ASSAY_FETCH_INTERNAL_H

#include "fetch.h"
#include "fetch_http.h"
#include "partlog.h"
#include "ranges.h"

#include <uv.h>

enum {
	FETCH_BLOCK_BYTES = 1 << 20,
	FETCH_HOPS_MAX = 10,
	FETCH_UNKNOWN_BYTES_MAX = 256 << 20,
	FETCH_ROUNDS_MAX = 3,
	FETCH_HEARD_BYTES = 4096, /* less than this in stall_ms is silence */
	FETCH_SPARE_MAX = 64,
	FETCH_ALIGN_BYTES = 4096,
	FETCH_HELD_MAX = 64,          /* blocks in memory until they are handed to the hasher */
	FETCH_HANDED_MAX = 16,        /* and until it is done with them */
	FETCH_BEHIND_BYTES = 32 << 20 /* so far may the hash be behind before the senders wait */
};

struct fetch;
struct job;
struct work;

/* A source of one file. */
struct source {
	const char *url;
	char resolved[HTTP_URL_MAX]; /* behind the redirects; "" not known */
	char etag[PARTLOG_ETAG_MAX]; /* strong; "" none */
	bool dead;
	bool served;                 /* it has sent some of the file */
	bool no_ranges;         /* answers a range request with everything */
	int failures;           /* in a row, without progress */
	uint64_t failed_ms;     /* when the last was counted: what began earlier is the same one */
	int limited;            /* 429 in a row */
	int re_resolved;        /* in a row, without progress */
	uint64_t not_before_ms; /* Retry-After */
	struct err err;         /* the last thing that went wrong */
};

enum conn_phase { CONN_IDLE, CONN_WAITING /* for its time */, CONN_HEAD, CONN_BODY };

struct block {
	int64_t at;
	size_t bytes, capacity;
	uint8_t *data;
};

struct conn {
	struct job *job;
	enum conn_phase phase;
	struct http_request *request;
	int64_t pos, to;  /* what it still has to fetch: [pos, to) */
	int64_t asked_to; /* the end of the range of this request */
	int64_t body_at;  /* offset in the file of the next body byte */
	bool streaming;   /* the body is the whole file: only what nobody has is kept */
	bool paused;      /* waits for the disk or the hash */
	bool wants_sync;  /* paused because the journal is behind */
	int source, hop;
	char url[HTTP_URL_MAX];
	bool resolving;      /* this request goes through the origin */
	int64_t uncommitted; /* bytes that the journal does not know */
	int64_t gained;      /* bytes of this request that nobody had */
	uint64_t heard_ms;   /* when it was last seen alive: its head, then each FETCH_HEARD_BYTES */
	int64_t heard_bytes; /* since then */
	uint64_t began_ms, head_ms; /* of this request; its head came */
	uint64_t not_before_ms;
	struct block block; /* being filled */
	/* what head() or body() found; acted on in done() */
	struct err verdict;
	enum verdict_kind {
		VERDICT_NONE,
		VERDICT_REDIRECT,
		VERDICT_DEAD,
		VERDICT_RETRY,
		VERDICT_LIMITED,
		VERDICT_EXPIRED,
		VERDICT_CHANGED,
		VERDICT_ENOUGH,
	} verdict_kind;
	int64_t retry_after_s;
	size_t drained;
};

enum job_phase {
	JOB_QUEUED,
	JOB_LOCKING,
	JOB_RUNNING,
	JOB_CHECKING /* chunks */,
	JOB_COMMITTING,
	JOB_STOPPING /* waits for its threads */,
	JOB_OVER,
};

struct pending {
	struct conn *conn;
	int64_t from, to;
};

/*
 * Hashes on a thread as long as it is handed blocks, in the file's order, without going back to the
 * loop in between. The lock is for what both touch while `hashing`.
 */
struct hasher {
	uv_work_t uv;
	uv_mutex_t lock;
	struct digest digest;                                 /* locked */
	struct block queue[FETCH_HANDED_MAX];                 /* locked: a ring, to be hashed */
	int first, n;                                         /* locked */
	struct block spent[FETCH_HANDED_MAX];                 /* locked: hashed, the loop's again */
	int n_spent;                                          /* locked */
	int handed;                                           /* the loop's: queued, at work or spent */
	int64_t end;                                          /* the loop's: of what was handed */
	int64_t from, to;                                     /* nothing queued: this of the file */
	int r;
	struct err err;
};

struct job {
	struct fetch *fetch;
	const struct fetch_request *request;
	struct fetch_result *result;
	enum job_phase phase;
	struct source sources[FETCH_SOURCES_MAX];
	int source;
	struct conn conns[FETCH_CONNECTIONS_MAX];
	int lock_fd, part_fd;
	int direct_fd;   /* the part again, past the page cache; -1: not possible here */
	bool past_cache; /* use it: it arrives faster than the page cache takes it */
	struct partlog journal;
	uint64_t partlog_source; /* of the .part that was found, and its ETag */
	char partlog_etag[PARTLOG_ETAG_MAX];
	bool planned; /* size known, room allocated, journal begun */
	int64_t size; /* -1: not known */
	struct ranges assigned, written, committed;
	struct digest digest;    /* over the beginning of what is written */
	struct hasher hasher;
	struct block held[FETCH_HELD_MAX]; /* written, kept in memory for the hasher */
	int n_held;
	struct pending *pending; /* written, not yet committed */
	int n_pending, pending_capacity;
	int64_t pending_bytes;
	int writes;  /* blocks on their way to the file … */
	int writers; /* … of which so many are on a thread; the others wait here */
	struct work *first_write, *last_write;
	bool hashing, syncing, checking, committing;
	uint64_t synced_ms;
	int restarts, rounds;
	bool ignore_etags;
	bool restarting;                 /* from zero, once the threads are done */
	bool final_sync;                 /* the last sync of a stopping job is done */
	int mismatches;                  /* of the whole file's hash */
	bool etag_new;                   /* the next sync records the source and its ETag */
	uint8_t announced[DIGEST_BYTES]; /* by the hub; used when no hash is expected */
	bool has_announced;
	int64_t range_bytes; /* grows with the rate */
	int opened;          /* connections that are of use */
	uint64_t opened_ms;
	int64_t opened_bytes; /* transferred then */
	uint64_t in_step_ms;  /* when disk and hash last kept up with what arrives */
	uint64_t began_ms;
	double rate;
	int64_t rate_bytes;
	uint64_t rate_ms;
	struct err stop;   /* why it is STOPPING; code 0 never */
	bool drop_part;    /* nothing of it can be trusted */
	struct ranges bad; /* found by the chunk check */
};

struct fetch {
	uv_loop_t loop;
	struct http *http;
	uv_timer_t tick;
	uv_signal_t sigint, sigterm;
	const struct fetch_options *o;
	const struct hub *hub;
	struct job *jobs;
	int n;
	bool closing;
	uint8_t *spare[FETCH_SPARE_MAX]; /* blocks to use again */
	int n_spare;
	uint64_t random;
};

/* fetch.c */
uint64_t fetch_now(const struct fetch *f);
void fetch_say(struct job *j, enum fetch_event_kind kind, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void fetch_wake(struct fetch *f); /* a job is over */
int fetch_share(const struct fetch *f); /* connections per file */
uint32_t fetch_random(struct fetch *f);

/* fetch_job.c */
void job_pump(struct job *j); /* does whatever can be done now; safe to call at any time */
void job_fail(struct job *j, const struct err *why, bool drop_part);
void job_restart(struct job *j);                  /* from zero */
void job_leave_source(struct job *j, int source); /* it is dead: the next one, or the end */
int job_plan(struct job *j, int64_t size, struct err *e);
bool job_is_idle(const struct job *j); /* nothing of it is on a thread */
void job_free(struct job *j);

/* fetch_open.c: lock, part, journal, room */
int job_open(struct job *j, struct err *e); /* 1 ready, 0 another process has the lock */
void job_close(struct job *j);

/* fetch_conn.c */
void conn_start(struct conn *c);
void conn_stop(struct conn *c, bool keep); /* ends the request; keep: what came goes to disk */
void conn_resume(struct conn *c);
void conn_check_stall(struct conn *c);

/* fetch_disk.c */
void disk_take(struct fetch *f, struct block *b, int64_t at);
void disk_give_back(struct fetch *f, struct block *b); /* accepts an empty one */
void disk_write(struct job *j, struct conn *c);        /* takes the conn's block */
void disk_sync(struct job *j);
void disk_check_chunks(struct job *j);
void disk_commit(struct job *j);

/* fetch_hash.c */
void hash_open(struct job *j);
void hash_close(struct job *j);
void hash_restart(struct job *j); /* goes on behind j->digest; nothing may be on its thread */
void hash_hold(struct job *j, struct block *b); /* takes a written block, or gives it back */
void hash_run(struct job *j);     /* hands on what can be hashed, brings j->digest up to date */
bool hash_is_behind(const struct job *j); /* what comes should wait for it */

#endif
