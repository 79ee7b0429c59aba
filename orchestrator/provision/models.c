#include "models.h"

#include "fixtures.h"
#include "provision/adopt.h"
#include "provision/partlog.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

const char *models_how_name(enum models_how how)
{
	static const char *const names[] = {"cached", "rehashed", "adopted", "generated",
					    "downloaded"};

	return names[how];
}

static int add_source(struct fetch_request *q, const struct hub *hub, const char *url,
		      struct err *e)
{
	char *out = q->sources[q->n_sources];
	int r = 0;

	if (strncmp(url, "hf://", 5) == 0)
		r = hub_expand(hub, url, out, e);
	else
		snprintf(out, HUB_URL_MAX, "%s", url);
	for (int i = 0; i < q->n_sources; i++)
		if (strcmp(q->sources[i], out) == 0)
			return r;
	q->n_sources++;
	return r;
}

int models_request(struct fetch_request *q, const struct store *s, const struct hub *hub,
		   const struct lock_model *m, struct err *e)
{
	int r;

	memset(q, 0, sizeof(*q));
	q->id = m->id;
	q->store = s;
	q->size = m->size;
	q->sha256 = m->sha256;
	q->revision = m->revision;
	q->n_chunks = m->n_chunks;
	q->chunks = (const uint8_t(*)[DIGEST_BYTES])m->chunks;
	snprintf(q->meta.id, sizeof(q->meta.id), "%s", m->id);
	snprintf(q->meta.tier, sizeof(q->meta.tier), "%s", m->tier);
	snprintf(q->meta.file, sizeof(q->meta.file), "%s", m->file);
	snprintf(q->meta.licence, sizeof(q->meta.licence), "%s", m->licence);
	if (m->repository) {
		r = hub_url(hub, m->repository, m->revision, m->file, q->sources[q->n_sources++],
			    e);
		if (r < 0)
			return r;
		snprintf(q->page, sizeof(q->page), "%s/%.80s", hub->endpoint, m->repository);
	}
	for (int i = 0; i < m->n_mirrors; i++) {
		r = add_source(q, hub, m->mirrors[i], e);
		if (r < 0)
			return r;
	}
	return store_blob(s, m->sha256_hex, m->file, &q->blob, e);
}

/* ---- what is there ----------------------------------------------------------------------- */

static void good_chunks(const struct models_item *item, int fd, int64_t size, struct ranges *good)
{
	const struct fetch_request *q = &item->request;

	for (int i = 0; i < q->n_chunks && size == q->size; i++) {
		int64_t from = (int64_t)i * MODELS_LOCK_CHUNK_BYTES;
		int64_t to =
		    from + MODELS_LOCK_CHUNK_BYTES < size ? from + MODELS_LOCK_CHUNK_BYTES : size;
		uint8_t sha256[DIGEST_BYTES];
		struct err ignored = ERR_NONE;
		struct digest d;

		digest_init(&d);
		if (digest_range(&d, fd, from, to, q->blob.part, NULL, NULL, &ignored) < 0)
			continue;
		digest_final(&d, sha256);
		if (memcmp(sha256, q->chunks[i], DIGEST_BYTES) == 0)
			ranges_add(good, from, to);
	}
}

/* The wrong file loses its name; what of it is right is written into a journal. */
static int set_aside(struct models_item *item, struct err *e)
{
	const struct store_blob *b = &item->request.blob;
	struct partlog_state old = {0};
	struct partlog j = {.fd = -1};
	struct ranges good = {0};
	struct stat st;
	int fd = -1, r = 0;

	item->damaged = true;
	unlink(b->journal);
	if (rename(b->path, b->part) != 0)
		return err_set(e, EXIT_INTERNAL, "taking away %s: %s", b->path, strerror(errno));
	unlink(b->meta);
	chmod(b->part, 0644);
	fd = open(b->part, O_RDWR | O_CLOEXEC);
	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_nlink == 1)
		good_chunks(item, fd, st.st_size, &good);
	if (good.n) {
		r = partlog_open(&j, b->journal, (int64_t)st.st_ino, item->request.sha256, &old, e);
		if (r == 0)
			r = partlog_begin(&j, item->request.size, (int64_t)st.st_ino,
					  item->request.sha256, &good, e);
		partlog_close(&j);
		ranges_free(&old.on_disk);
	} else {
		unlink(b->part);
	}
	ranges_free(&good);
	if (fd >= 0)
		close(fd);
	return r;
}

/* 1: the file is right; 0: it is not there, or no longer. */
static int look(struct models_item *item, bool rehash, digest_step_fn *step, void *ctx,
		struct err *e)
{
	struct fetch_request *q = &item->request;
	enum store_state state = store_state(&q->blob);
	uint8_t sha256[DIGEST_BYTES];
	struct store_meta m;
	struct err ignored = ERR_NONE;
	int r;

	if (state == STORE_READY && !rehash) {
		item->how = MODELS_CACHED;
		return 1;
	}
	if (state != STORE_READY && state != STORE_UNSURE)
		return 0;
	r = digest_file(q->blob.path, sha256, step, ctx, e);
	if (r != 0)
		return r;
	if (memcmp(sha256, q->sha256, DIGEST_BYTES) != 0)
		return set_aside(item, e);
	item->how = MODELS_REHASHED;
	if (store_meta_read(q->blob.meta, &m, &ignored) < 0) {
		m = q->meta;
		snprintf(m.origin, sizeof(m.origin), "found");
	}
	if (state == STORE_READY)
		return 1;
	r = store_restamp(&q->blob, &m, e);
	return r < 0 ? r : 1;
}

/* ---- made here --------------------------------------------------------------------------- */

static int generate(struct models_item *item, struct err *e)
{
	const struct lock_model *m = item->model;
	struct fetch_request *q = &item->request;
	struct fixture_options o = {
	    .preset = m->generate.preset, .weights = m->generate.weights, .seed = m->generate.seed};
	uint8_t sha256[DIGEST_BYTES];
	char hex[DIGEST_HEX];
	int r;

	if ((r = store_make_dir(&q->blob, e)) < 0 || (r = fixture_write(q->blob.part, &o, e)) < 0 ||
	    (r = digest_file(q->blob.part, sha256, NULL, NULL, e)) < 0)
		return err_prefix(e, "generating %s", m->id);
	digest_hex(sha256, hex);
	if (memcmp(sha256, m->sha256, DIGEST_BYTES) != 0) {
		unlink(q->blob.part);
		rmdir(q->blob.dir);
		return err_set(e, EXIT_HASH_MISMATCH,
			       "%s: generated here it has SHA-256 %s, the lockfile expects %s: "
			       "this program and the lockfile do not belong together",
			       m->id, hex, m->sha256_hex);
	}
	item->how = MODELS_GENERATED;
	snprintf(q->meta.origin, sizeof(q->meta.origin), "generated");
	snprintf(q->meta.source, sizeof(q->meta.source), "preset %.100s, seed %llu",
		 m->generate.preset, (unsigned long long)m->generate.seed);
	return store_commit(&q->blob, q->blob.part, &q->meta, e);
}

static int adopt(struct models_item *item, digest_step_fn *step, void *ctx, struct err *e)
{
	struct fetch_request *q = &item->request;
	int r = adopt_find(&q->blob, item->model, &q->meta, &item->adopted_by, step, ctx, e);

	if (r > 0) {
		item->how = MODELS_ADOPTED;
		snprintf(item->adopted_from, sizeof(item->adopted_from), "%.1000s", q->meta.source);
	}
	return r;
}

int models_prepare(struct models_item *item, const struct store *s, const struct hub *hub,
		   const struct lock_model *m, bool rehash, digest_step_fn *step, void *ctx,
		   struct err *e)
{
	bool busy = false;
	int r, lock;

	memset(item, 0, sizeof(*item));
	item->model = m;
	item->how = MODELS_TO_FETCH;
	r = models_request(&item->request, s, hub, m, e);
	if (r < 0 || (!rehash && store_state(&item->request.blob) == STORE_READY)) {
		item->how = MODELS_CACHED;
		return r;
	}
	do { /* nobody holds this lock for long: a generated model takes no time */
		lock = store_lock(&item->request.blob, &busy, e);
		if (busy && m->generate.preset)
			nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
	} while (busy && m->generate.preset);
	if (busy)
		return 0; /* another process is at it: fetch waits for it */
	if (lock < 0)
		return lock;
	r = look(item, rehash, step, ctx, e);
	if (r == 0 && m->generate.preset)
		r = generate(item, e);
	else if (r == 0 && access(item->request.blob.part, F_OK) != 0)
		r = adopt(item, step, ctx, e);
	close(lock);
	return r > 0 ? 0 : r;
}
