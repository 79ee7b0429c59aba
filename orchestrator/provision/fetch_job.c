#include "fetch_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	SYNC_INTERVAL_MS = 1000,
	STEAL_BYTES_MIN = 128 << 10,
	STEAL_AFTER_MS = 1000,
	STEAL_REST_MS = 2000,
	OPEN_EVERY_MS = 20,
	BEHIND_MS = 150,
	FAST_BYTES_PER_MS = 400000,
	PAST_CACHE_BYTES_PER_MS = 200000,
	WRITES_BUSY = 4,
	HASH_BUSY_BYTES = 8 << 20
};

bool job_is_idle(const struct job *j)
{
	return j->writes == 0 && !j->hashing && !j->syncing && !j->checking && !j->committing;
}

static void stop_conns(struct job *j, bool keep)
{
	for (int i = 0; i < FETCH_CONNECTIONS_MAX; i++) {
		struct conn *c = &j->conns[i];

		conn_stop(c, keep);
		c->pos = c->to = 0;
	}
}

void job_fail(struct job *j, const struct err *why, bool drop_part)
{
	if (j->phase == JOB_STOPPING || j->phase == JOB_OVER)
		return;
	j->stop = *why;
	j->drop_part = drop_part;
	j->phase = JOB_STOPPING;
	stop_conns(j, !drop_part && j->part_fd >= 0);
}

void job_restart(struct job *j)
{
	j->restarts++;
	j->restarting = true;
	stop_conns(j, false);
}

/* When no source is left: what a person can do something about is said first. */
static int rank(int code)
{
	static const int order[] = {EXIT_HASH_MISMATCH, EXIT_AUTH, EXIT_RATE_LIMITED, EXIT_NETWORK};

	for (int i = 0; i < 4; i++)
		if (order[i] == code)
			return i;
	return 4;
}

static void fail_for_good(struct job *j)
{
	const struct fetch_request *q = j->request;
	const struct source *worst = &j->sources[0];
	struct err e;

	for (int i = 1; i < q->n_sources; i++)
		if (rank(j->sources[i].err.code) < rank(worst->err.code))
			worst = &j->sources[i];
	e = worst->err;
	if (q->n_sources > 1)
		err_prefix(&e, "none of %d sources has it", q->n_sources);
	job_fail(j, &e, e.code == EXIT_HASH_MISMATCH && ranges_bytes(&j->written) == 0);
}

void job_leave_source(struct job *j, int source)
{
	int n = j->request->n_sources;
	char url[600];

	if (j->phase != JOB_RUNNING)
		return;
	for (int i = 0; i < n && j->sources[j->source].dead; i++)
		j->source = (j->source + 1) % n;
	if (j->sources[j->source].dead) {
		fail_for_good(j);
		return;
	}
	if (source != j->source) {
		hub_public_url(j->sources[j->source].url, url, sizeof(url));
		fetch_say(j, FETCH_TROUBLE, "%s; going on from %s", j->sources[source].err.msg,
			  url);
	}
}

/* While one source asks for patience another may do. */
static void prefer_ready_source(struct job *j)
{
	uint64_t now = fetch_now(j->fetch);

	if (now >= j->sources[j->source].not_before_ms)
		return;
	for (int i = 0; i < j->request->n_sources; i++) {
		if (!j->sources[i].dead && now >= j->sources[i].not_before_ms) {
			j->source = i;
			return;
		}
	}
}

/* ---- who fetches what -------------------------------------------------------------------- */

/* A large rest is shared out, and a small one of a connection that would take long for it. */
static bool is_worth_stealing(const struct job *j, const struct conn *o)
{
	int64_t rest = o->to - o->pos, least = j->fetch->o->range_bytes / 2;
	int64_t ms = (int64_t)(fetch_now(j->fetch) - o->began_ms);

	if (rest >= least)
		return true;
	return rest >= STEAL_BYTES_MIN && o->request && ms > STEAL_AFTER_MS &&
	       rest / 1000 * ms > o->gained / 1000 * STEAL_REST_MS;
}

static bool steal(struct job *j, struct conn *c)
{
	struct conn *victim = NULL;

	for (int i = 0; i < FETCH_CONNECTIONS_MAX; i++) {
		struct conn *o = &j->conns[i];

		if (o != c && !o->streaming && is_worth_stealing(j, o) &&
		    (!victim || o->to - o->pos > victim->to - victim->pos))
			victim = o;
	}
	if (!victim || j->sources[j->source].no_ranges)
		return false;
	c->to = victim->to;
	c->pos = victim->to - (victim->to - victim->pos) / 2;
	victim->to = c->pos;
	return true;
}

/* The next bytes that nobody has; at the end half of what the slowest still has. */
static bool assign(struct job *j, struct conn *c)
{
	struct range gap;

	if (!j->planned)
		return c == &j->conns[0] && j->size < 0;
	for (int i = 0; i < FETCH_CONNECTIONS_MAX && j->sources[j->source].no_ranges; i++)
		if (j->conns[i].request) /* it streams the whole file */
			return false;
	if (!ranges_gap(&j->assigned, 0, j->size, &gap))
		return steal(j, c);
	c->pos = gap.from;
	c->to = gap.to - gap.from > j->range_bytes ? gap.from + j->range_bytes : gap.to;
	ranges_add(&j->assigned, c->pos, c->to);
	return true;
}

/* Every moment one connection more; one less when what arrived has waited for the disk or the hash all
 * the time, or came as fast as these take it: others bring nothing then, and break the file's order.
 * Ranges of equal connections end together, which is no sign of either. */
static int connections_of_use(struct job *j)
{
	int64_t from = (int64_t)j->digest.bytes, came = j->result->transferred - j->opened_bytes;
	uint64_t now = fetch_now(j->fetch), ms = now - j->opened_ms;
	int share = fetch_share(j->fetch);

	if (j->writes < WRITES_BUSY && ranges_end_of(&j->written, from) - from <= HASH_BUSY_BYTES)
		j->in_step_ms = now;
	if (ms >= OPEN_EVERY_MS) {
		j->past_cache |= came > (int64_t)ms * PAST_CACHE_BYTES_PER_MS;
		if (now - j->in_step_ms > BEHIND_MS || came > (int64_t)ms * FAST_BYTES_PER_MS)
			j->opened -= j->opened > 1;
		else
			j->opened += j->opened < share;
		j->opened_ms = now;
		j->opened_bytes = j->result->transferred;
	}
	return j->opened < share ? j->opened : share;
}

static void run_conns(struct job *j)
{
	int share, busy = 0;
	bool behind = hash_is_behind(j);

	prefer_ready_source(j);
	for (int i = 0; i < FETCH_CONNECTIONS_MAX; i++)
		busy += j->conns[i].phase != CONN_IDLE;
	share = connections_of_use(j);
	for (int i = 0; i < FETCH_CONNECTIONS_MAX && j->phase == JOB_RUNNING && !j->restarting;
	     i++) {
		struct conn *c = &j->conns[i];

		conn_check_stall(c);
		if (c->phase == CONN_WAITING) {
			conn_start(c);
		} else if (c->phase == CONN_IDLE && busy < share && !j->restarting &&
			   assign(j, c)) {
			conn_start(c);
			busy++;
		}
		if (c->paused && c->request && j->writes < 32 && !behind &&
		    (!j->planned || c->uncommitted <= j->fetch->o->commit_bytes / 2))
			conn_resume(c);
	}
}

static void sync_when_due(struct job *j)
{
	int64_t most = 0;
	bool paused = false; /* for want of a sync */

	for (int i = 0; i < FETCH_CONNECTIONS_MAX; i++) {
		most = j->conns[i].uncommitted > most ? j->conns[i].uncommitted : most;
		paused |= j->conns[i].paused && j->conns[i].wants_sync;
	}
	if (paused || most >= j->fetch->o->commit_bytes / 2 ||
	    fetch_now(j->fetch) - j->synced_ms >= SYNC_INTERVAL_MS)
		disk_sync(j);
}

/* ---- the end of a file ------------------------------------------------------------------- */

static void drop_pending(struct job *j)
{
	free(j->pending);
	j->pending = NULL;
	j->n_pending = j->pending_capacity = 0;
	j->pending_bytes = 0;
	for (int i = 0; i < FETCH_CONNECTIONS_MAX; i++)
		j->conns[i].uncommitted = 0;
}

static int begin_again(struct job *j, struct err *e)
{
	ranges_free(&j->assigned);
	ranges_free(&j->written);
	ranges_free(&j->committed);
	digest_init(&j->digest);
	hash_restart(j);
	drop_pending(j);
	j->restarting = j->planned = false;
	j->size = -1;
	if (ftruncate(j->part_fd, 0) != 0)
		return err_set(e, EXIT_INTERNAL, "emptying %s failed", j->request->blob.part);
	return j->request->size >= 0 ? job_plan(j, j->request->size, e) : 0;
}

static void mismatch(struct job *j)
{
	const struct fetch_request *q = j->request;
	struct source *s = &j->sources[j->source];
	char got[DIGEST_HEX], want[DIGEST_HEX];

	digest_hex(j->result->sha256, got);
	digest_hex(q->sha256 ? q->sha256 : j->announced, want);
	err_set(&s->err, EXIT_HASH_MISMATCH,
		"%s: what %s sends has SHA-256 %s, expected %s; nothing of it is kept", q->id,
		s->url, got, want);
	if (q->n_chunks && j->rounds < FETCH_ROUNDS_MAX) {
		j->phase = JOB_CHECKING;
		disk_check_chunks(j);
		return;
	}
	if (j->mismatches++ > 0)
		s->dead = true;
	job_leave_source(j, j->source);
	if (j->phase != JOB_RUNNING) {
		j->drop_part = true;
		return;
	}
	fetch_say(j, FETCH_TROUBLE, "%s; starting over", s->err.msg);
	job_restart(j);
}

static void refetch_bad_chunks(struct job *j)
{
	struct err e = ERR_NONE;
	struct stat st;

	j->phase = JOB_RUNNING;
	j->rounds++;
	if (!j->bad.n) {
		err_set(&e, EXIT_HASH_MISMATCH,
			"%s: every chunk is as the lockfile says, the whole is not: its hashes "
			"contradict each other",
			j->request->id);
		job_fail(j, &e, true);
		return;
	}
	fetch_say(j, FETCH_TROUBLE, "%s: %lld bytes arrived damaged and are fetched again",
		  j->request->id, (long long)ranges_bytes(&j->bad));
	for (int i = 0; i < j->bad.n; i++) {
		ranges_remove(&j->assigned, j->bad.v[i].from, j->bad.v[i].to);
		ranges_remove(&j->written, j->bad.v[i].from, j->bad.v[i].to);
		ranges_remove(&j->committed, j->bad.v[i].from, j->bad.v[i].to);
	}
	digest_init(&j->digest);
	hash_restart(j);
	drop_pending(j);
	/* before the first new byte is written: a kill from here on keeps what is good */
	if (fstat(j->part_fd, &st) != 0)
		err_set(&e, EXIT_INTERNAL, "%s: %s", j->request->blob.part, strerror(errno));
	else
		partlog_begin(&j->journal, j->size, (int64_t)st.st_ino, j->request->sha256,
			      &j->committed, &e);
	if (e.code)
		job_fail(j, &e, false);
}

static void finish(struct job *j)
{
	const struct fetch_request *q = j->request;

	digest_final(&j->digest, j->result->sha256);
	j->result->size = j->size;
	if ((q->sha256 && memcmp(q->sha256, j->result->sha256, DIGEST_BYTES) != 0) ||
	    (!q->sha256 && j->has_announced &&
	     memcmp(j->announced, j->result->sha256, DIGEST_BYTES) != 0)) {
		mismatch(j);
		return;
	}
	j->phase = JOB_COMMITTING;
	disk_commit(j);
}

static void over(struct job *j)
{
	j->phase = JOB_OVER;
	if (j->stop.code && ranges_bytes(&j->written) == 0) /* allocated, and nothing came */
		j->drop_part = true;
	job_close(j);
	j->result->seconds = (double)(fetch_now(j->fetch) - j->began_ms) / 1000;
	j->result->code = j->stop.code;
	j->result->err = j->stop;
	fetch_say(j, j->stop.code ? FETCH_FAILED : FETCH_DONE, "%s", j->stop.msg);
	fetch_wake(j->fetch);
}

static void stopping(struct job *j)
{
	if (!job_is_idle(j))
		return;
	if (j->planned && !j->drop_part && j->n_pending && !j->final_sync) {
		j->final_sync = true;
		disk_sync(j);
		return;
	}
	over(j);
}

static void run(struct job *j)
{
	struct err e = ERR_NONE;

	if (j->restarting) {
		if (job_is_idle(j) && begin_again(j, &e) < 0)
			job_fail(j, &e, false);
		if (j->restarting || j->phase != JOB_RUNNING)
			return;
	}
	hash_run(j);
	if (j->size >= 0 && (int64_t)j->digest.bytes == j->size && j->writes == 0 && !j->hashing) {
		stop_conns(j, false);
		if (!j->syncing)
			finish(j);
		return;
	}
	run_conns(j);
	if (j->phase == JOB_RUNNING && !j->restarting)
		sync_when_due(j);
}

static void open_job(struct job *j)
{
	struct err e = ERR_NONE;
	int r = job_open(j, &e);

	if (r < 0) {
		job_fail(j, &e, false);
	} else if (r > 0 && j->phase == JOB_OVER) {
		over(j);
	} else if (r > 0) {
		j->phase = JOB_RUNNING;
		j->rate_ms = 0;
		j->opened = 1;
		j->opened_ms = j->in_step_ms = fetch_now(j->fetch);
		j->synced_ms = fetch_now(j->fetch);
		fetch_say(j, FETCH_STARTED, "%s", "");
	}
}

void job_pump(struct job *j)
{
	if (j->phase == JOB_LOCKING)
		open_job(j);
	if (j->phase == JOB_RUNNING)
		run(j);
	if (j->phase == JOB_CHECKING && !j->checking) {
		refetch_bad_chunks(j);
		if (j->phase == JOB_RUNNING)
			run(j);
	}
	if (j->phase == JOB_COMMITTING && !j->committing)
		over(j);
	if (j->phase == JOB_STOPPING)
		stopping(j);
}
