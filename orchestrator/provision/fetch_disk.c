#include "fetch_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Writers into the page cache wait for each other in the kernel: a second would only spin. */
enum { WRITERS_DIRECT = 3, WRITERS_CACHED = 1 };

/* One piece of work on a thread. Its inputs are its own; the loop reads its outputs in done. */
struct work {
	uv_work_t uv;
	struct job *job;
	struct work *next; /* write: behind it in the queue */
	struct conn *conn;
	struct block block;
	int fd; /* write: where to */
	struct digest digest; /* sync: to record */
	struct ranges ranges; /* sync: what to record; check: what is bad */
	struct pending *pending;
	int n_pending;
	uint64_t source; /* sync: to record, with its ETag */
	char etag[PARTLOG_ETAG_MAX];
	struct err err;
	int r;
};

static struct work *work_new(struct job *j)
{
	struct work *w = calloc(1, sizeof(*w));

	assert(w);
	w->job = j;
	w->uv.data = w;
	return w;
}

static void queue(struct work *w, uv_work_cb run, uv_after_work_cb done)
{
	int r = uv_queue_work(&w->job->fetch->loop, &w->uv, run, done);

	assert(r == 0);
}

static enum exit_code disk_code(void)
{
	return errno == ENOSPC || errno == EDQUOT || errno == EFBIG ? EXIT_NO_SPACE : EXIT_INTERNAL;
}

static const char *full_hint(void)
{
	return disk_code() == EXIT_NO_SPACE
		   ? "; what has arrived is kept: make room and run the same command again"
		   : "";
}

/* ---- blocks: memory that was touched once is used again ---------------------------------- */

/* A block ends where the next one may be written past the page cache. */
void disk_take(struct fetch *f, struct block *b, int64_t at)
{
	int64_t bytes = f->o->commit_bytes / 4 / FETCH_ALIGN_BYTES * FETCH_ALIGN_BYTES;

	bytes = bytes > FETCH_BLOCK_BYTES ? FETCH_BLOCK_BYTES : bytes;
	bytes = bytes < FETCH_ALIGN_BYTES ? FETCH_ALIGN_BYTES : bytes;
	b->data = f->n_spare ? f->spare[--f->n_spare]
			     : aligned_alloc(FETCH_ALIGN_BYTES, (size_t)bytes);
	assert(b->data);
	b->at = at;
	b->capacity = (size_t)(bytes - at % bytes);
}

void disk_give_back(struct fetch *f, struct block *b)
{
	if (b->data && f->n_spare < FETCH_SPARE_MAX)
		f->spare[f->n_spare++] = b->data;
	else
		free(b->data);
	*b = (struct block){0};
}

/* ---- writing ----------------------------------------------------------------------------- */

static void run_write(uv_work_t *uv)
{
	struct work *w = uv->data;
	size_t done = 0;

	while (done < w->block.bytes) {
		ssize_t n = pwrite(w->fd, w->block.data + done, w->block.bytes - done,
				   w->block.at + (int64_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EINVAL && w->fd != w->job->part_fd) {
			w->fd = w->job->part_fd;
			continue;
		}
		if (n <= 0) {
			w->r = err_set(&w->err, disk_code(), "writing %s at byte %lld: %s%s",
				       w->job->request->blob.part, (long long)w->block.at,
				       strerror(errno), full_hint());
			return;
		}
		done += (size_t)n;
	}
}

static void add_pending(struct job *j, struct conn *c, int64_t from, int64_t to)
{
	if (j->n_pending == j->pending_capacity) {
		j->pending_capacity = 2 * j->pending_capacity + 64;
		j->pending = realloc(j->pending, (size_t)j->pending_capacity * sizeof(*j->pending));
		assert(j->pending);
	}
	j->pending[j->n_pending++] = (struct pending){c, from, to};
	j->pending_bytes += to - from;
}

static void start_writers(struct job *j);

static void after_write(uv_work_t *uv, int status)
{
	struct work *w = uv->data;
	struct job *j = w->job;

	(void)status;
	j->writes--;
	j->writers--;
	start_writers(j);
	if (w->r < 0) {
		job_fail(j, &w->err, false);
	} else {
		int64_t to = w->block.at + (int64_t)w->block.bytes;

		ranges_add(&j->written, w->block.at, to);
		add_pending(j, w->conn, w->block.at, to);
		hash_hold(j, &w->block);
	}
	disk_give_back(j->fetch, &w->block);
	free(w);
	job_pump(j);
}

static bool goes_direct(const struct job *j, const struct block *b)
{
	return j->direct_fd >= 0 && j->past_cache && b->at % FETCH_ALIGN_BYTES == 0 &&
	       b->bytes % FETCH_ALIGN_BYTES == 0;
}

static void start_writers(struct job *j)
{
	int most = j->direct_fd >= 0 && j->past_cache ? WRITERS_DIRECT : WRITERS_CACHED;

	while (j->writers < most && j->first_write) {
		struct work *w = j->first_write;

		j->first_write = w->next;
		if (!w->next)
			j->last_write = NULL;
		j->writers++;
		w->fd = goes_direct(j, &w->block) ? j->direct_fd : j->part_fd;
		queue(w, run_write, after_write);
	}
}

void disk_write(struct job *j, struct conn *c)
{
	struct work *w;

	if (!c->block.bytes)
		return;
	w = work_new(j);
	w->conn = c;
	w->block = c->block;
	c->block = (struct block){0};
	j->writes++;
	if (j->last_write)
		j->last_write->next = w;
	else
		j->first_write = w;
	j->last_write = w;
	start_writers(j);
}

/* ---- syncing and the journal ------------------------------------------------------------- */

static void run_sync(uv_work_t *uv)
{
	struct work *w = uv->data;

	if (fdatasync(w->job->part_fd) != 0)
		w->r = err_set(&w->err, disk_code(), "syncing %s: %s%s", w->job->request->blob.part,
			       strerror(errno), full_hint());
	else
		w->r = partlog_append(&w->job->journal, &w->ranges, &w->digest, &w->err);
	if (w->r == 0 && w->source)
		w->r = partlog_source(&w->job->journal, w->source, w->etag, &w->err);
}

static void after_sync(uv_work_t *uv, int status)
{
	struct work *w = uv->data;
	struct job *j = w->job;

	(void)status;
	j->syncing = false;
	j->synced_ms = fetch_now(j->fetch);
	if (w->r < 0)
		job_fail(j, &w->err, false);
	for (int i = 0; i < w->n_pending && w->r == 0; i++) {
		struct pending *p = &w->pending[i];

		ranges_add(&j->committed, p->from, p->to);
		p->conn->uncommitted -= p->to - p->from;
	}
	ranges_free(&w->ranges);
	free(w->pending);
	free(w);
	job_pump(j);
}

void disk_sync(struct job *j)
{
	struct work *w;

	if (j->syncing || !j->n_pending || !j->planned)
		return;
	w = work_new(j);
	w->pending = j->pending;
	w->n_pending = j->n_pending;
	for (int i = 0; i < w->n_pending; i++)
		ranges_add(&w->ranges, w->pending[i].from, w->pending[i].to);
	w->digest = j->digest;
	if (j->etag_new) {
		const struct source *s = &j->sources[j->source];

		w->source = partlog_fnv(s->url, strlen(s->url));
		memcpy(w->etag, s->etag, sizeof(w->etag));
		j->etag_new = false;
	}
	j->pending = NULL;
	j->n_pending = j->pending_capacity = 0;
	j->pending_bytes = 0;
	j->syncing = true;
	queue(w, run_sync, after_sync);
}

/* ---- which chunk is bad ------------------------------------------------------------------- */

static void run_check(uv_work_t *uv)
{
	struct work *w = uv->data;
	const struct fetch_request *q = w->job->request;

	for (int i = 0; i < q->n_chunks && w->r == 0; i++) {
		int64_t from = (int64_t)i * MODELS_LOCK_CHUNK_BYTES;
		int64_t to = from + MODELS_LOCK_CHUNK_BYTES;
		uint8_t sha256[DIGEST_BYTES];
		struct digest d;

		to = to < w->job->size ? to : w->job->size;
		digest_init(&d);
		w->r = digest_range(&d, w->job->part_fd, from, to, q->blob.part, NULL, NULL,
				    &w->err);
		digest_final(&d, sha256);
		if (memcmp(sha256, q->chunks[i], DIGEST_BYTES) != 0)
			ranges_add(&w->ranges, from, to);
	}
}

static void after_check(uv_work_t *uv, int status)
{
	struct work *w = uv->data;
	struct job *j = w->job;

	(void)status;
	j->checking = false;
	if (w->r < 0)
		job_fail(j, &w->err, false);
	ranges_free(&j->bad);
	j->bad = w->ranges;
	free(w);
	job_pump(j);
}

void disk_check_chunks(struct job *j)
{
	j->checking = true;
	queue(work_new(j), run_check, after_check);
}

/* ---- the end ----------------------------------------------------------------------------- */

static void run_commit(uv_work_t *uv)
{
	struct work *w = uv->data;
	struct job *j = w->job;
	const struct fetch_request *q = j->request;
	struct store_meta meta = q->meta;
	struct store_blob b = q->blob;
	char hex[DIGEST_HEX];

	if (!q->sha256) { /* its folder is named by the hash that is known only now */
		digest_hex(j->result->sha256, hex);
		w->r = store_blob(q->store, hex, q->meta.file, &b, &w->err);
		if (w->r == 0)
			w->r = store_make_dir(&b, &w->err);
		memcpy(b.journal, q->blob.journal, sizeof(b.journal));
	}
	snprintf(meta.origin, sizeof(meta.origin), "downloaded");
	hub_public_url(j->sources[j->source].url, meta.source, sizeof(meta.source));
	if (w->r == 0)
		w->r = store_commit(&b, q->blob.part, &meta, &w->err);
	if (w->r == 0)
		memcpy(j->result->path, b.path, sizeof(b.path));
}

static void after_commit(uv_work_t *uv, int status)
{
	struct work *w = uv->data;
	struct job *j = w->job;

	(void)status;
	j->committing = false;
	if (w->r < 0)
		job_fail(j, &w->err, false);
	free(w);
	job_pump(j);
}

void disk_commit(struct job *j)
{
	j->committing = true;
	queue(work_new(j), run_commit, after_commit);
}
