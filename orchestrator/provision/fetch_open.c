#include "fetch_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* Takes up what an earlier run left: the journal says what of the part is on disk. */
static int resume(struct job *j, const struct stat *st, struct err *e)
{
	const struct fetch_request *q = j->request;
	struct partlog_state old;
	int r = partlog_open(&j->journal, q->blob.journal, (int64_t)st->st_ino, q->sha256, &old, e);

	if (r < 0)
		return r;
	if (old.size > 0 && old.size == st->st_size && (q->size < 0 || q->size == old.size)) {
		j->size = old.size;
		j->planned = true;
		ranges_copy(&j->assigned, &old.on_disk);
		ranges_copy(&j->written, &old.on_disk);
		ranges_copy(&j->committed, &old.on_disk);
		j->digest = old.digest;
		hash_restart(j);
		j->result->resumed = ranges_bytes(&old.on_disk);
		for (int i = 0; i < q->n_sources; i++)
			if (partlog_fnv(q->sources[i], strlen(q->sources[i])) == old.source)
				memcpy(j->sources[i].etag, old.etag, sizeof(old.etag));
	}
	ranges_free(&old.on_disk);
	return 0;
}

static int open_part(struct job *j, struct err *e)
{
	const struct fetch_request *q = j->request;
	struct stat st;
	int r;

	if ((r = store_make_dir(&q->blob, e)) < 0)
		return r;
	j->part_fd = open(q->blob.part, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (j->part_fd < 0 || fstat(j->part_fd, &st) != 0)
		return store_failed(e, "opening", q->blob.part);
	j->direct_fd = open(q->blob.part, O_WRONLY | O_DIRECT | O_CLOEXEC);
	if ((r = resume(j, &st, e)) < 0 || j->planned)
		return r;
	if (ftruncate(j->part_fd, 0) != 0)
		return store_failed(e, "emptying", q->blob.part);
	return q->size >= 0 ? job_plan(j, q->size, e) : 0;
}

int job_open(struct job *j, struct err *e)
{
	const struct fetch_request *q = j->request;
	bool busy;
	int r = store_lock(&q->blob, &busy, e);

	if (busy)
		return 0;
	if (r < 0)
		return r;
	j->lock_fd = r;
	if (q->sha256 && store_state(&q->blob) == STORE_READY) { /* the other process was done */
		memcpy(j->result->path, q->blob.path, sizeof(j->result->path));
		memcpy(j->result->sha256, q->sha256, DIGEST_BYTES);
		j->phase = JOB_OVER;
		return 1;
	}
	r = open_part(j, e);
	return r < 0 ? r : 1;
}

static int check_room(const struct job *j, int64_t size, const struct stat *st, struct err *e)
{
	int64_t need = size - (int64_t)st->st_blocks * 512, room;
	struct statvfs fs;

	if (fstatvfs(j->part_fd, &fs) != 0)
		return store_failed(e, "asking for the room left at", j->request->blob.part);
	room = (int64_t)fs.f_bavail * (int64_t)fs.f_frsize;
	if (need <= room)
		return 0;
	return err_set(e, EXIT_NO_SPACE,
		       "%s needs %.2f GB more at %s and there are %.2f GB: make room (`assay cache "
		       "prune`) or set ASSAY_CACHE to a larger disk",
		       j->request->id, (double)need / 1e9, j->request->blob.dir,
		       (double)room / 1e9);
}

int job_plan(struct job *j, int64_t size, struct err *e)
{
	const struct fetch_request *q = j->request;
	struct stat st;
	int r;

	if (fstat(j->part_fd, &st) != 0)
		return store_failed(e, "opening", q->blob.part);
	if ((r = check_room(j, size, &st, e)) < 0)
		return r;
	if (ftruncate(j->part_fd, size) != 0)
		return store_failed(e, "sizing", q->blob.part);
	r = size > 0 ? fallocate(j->part_fd, 0, 0, size) : 0;
	if (r != 0 && errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL)
		return store_failed(e, "allocating", q->blob.part);
	r = partlog_begin(&j->journal, size, (int64_t)st.st_ino, q->sha256, NULL, e);
	if (r < 0)
		return r;
	j->size = size;
	j->planned = true;
	return 0;
}

void job_close(struct job *j)
{
	const struct fetch_request *q = j->request;

	if (j->drop_part && j->part_fd >= 0) {
		unlink(q->blob.part);
		unlink(q->blob.journal);
		rmdir(q->blob.dir); /* stays when other files are in it */
	}
	partlog_close(&j->journal);
	if (j->part_fd >= 0)
		close(j->part_fd);
	if (j->direct_fd >= 0)
		close(j->direct_fd);
	if (j->lock_fd >= 0)
		close(j->lock_fd);
	j->part_fd = j->direct_fd = j->lock_fd = -1;
}

void job_free(struct job *j)
{
	hash_close(j);
	for (int i = 0; i < FETCH_CONNECTIONS_MAX; i++)
		free(j->conns[i].block.data);
	ranges_free(&j->assigned);
	ranges_free(&j->written);
	ranges_free(&j->committed);
	ranges_free(&j->bad);
	free(j->pending);
	partlog_close(&j->journal);
}
