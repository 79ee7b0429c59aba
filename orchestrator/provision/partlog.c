#include "partlog.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEAD = 1, RANGE = 2, DIGEST = 3, SOURCE = 4 };

uint64_t partlog_fnv(const void *data, size_t bytes)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (size_t i = 0; i < bytes; i++)
		h = (h ^ ((const uint8_t *)data)[i]) * 0x100000001b3u;
	return h;
}

static void put(uint8_t *p, uint64_t v, int bytes)
{
	for (int i = 0; i < bytes; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t get(const uint8_t *p, int bytes)
{
	uint64_t v = 0;

	for (int i = 0; i < bytes; i++)
		v |= (uint64_t)p[i] << (8 * i);
	return v;
}

static void seal(uint8_t *p, uint32_t kind, int64_t a, int64_t b)
{
	put(p + 4, kind, 4);
	put(p + 8, (uint64_t)a, 8);
	put(p + 16, (uint64_t)b, 8);
	put(p, partlog_fnv(p + 4, PARTLOG_RECORD_BYTES - 4) & 0xffffffffu, 4);
}

static bool is_sealed(const uint8_t *p)
{
	return get(p, 4) == (partlog_fnv(p + 4, PARTLOG_RECORD_BYTES - 4) & 0xffffffffu);
}

static int failed(const struct partlog *j, const char *what, struct err *e)
{
	bool full = errno == ENOSPC || errno == EDQUOT;

	return err_set(e, full ? EXIT_NO_SPACE : EXIT_INTERNAL, "%s %s: %s%s", what, j->path,
		       strerror(errno),
		       full ? "; what has arrived is kept: make room and run the same command again" : "");
}

static bool take(struct partlog_state *s, const uint8_t *p)
{
	struct digest d;
	int64_t a = (int64_t)get(p + 8, 8), b = (int64_t)get(p + 16, 8);

	switch (get(p + 4, 4)) {
	case RANGE:
		if (a < 0 || b <= a || b > s->size)
			return false;
		ranges_add(&s->on_disk, a, b);
		return true;
	case DIGEST:
		digest_restore(&d, p + 24);
		if (a < 0 || (int64_t)d.bytes != a || !ranges_has(&s->on_disk, 0, a))
			return false;
		s->digest = d;
		return true;
	case SOURCE:
		s->source = (uint64_t)a;
		memcpy(s->etag, p + 24, PARTLOG_ETAG_MAX);
		s->etag[PARTLOG_ETAG_MAX - 1] = '\0';
		return true;
	}
	return false;
}

static void read_records(struct partlog *j, const uint8_t *data, size_t bytes, int64_t inode,
			 const uint8_t *sha256, struct partlog_state *s)
{
	static const uint8_t unknown[DIGEST_BYTES];
	const uint8_t *p = data;

	if (bytes < PARTLOG_RECORD_BYTES || !is_sealed(p) || get(p + 4, 4) != HEAD ||
	    (int64_t)get(p + 16, 8) != inode ||
	    memcmp(p + 24, sha256 ? sha256 : unknown, DIGEST_BYTES) != 0)
		return;
	s->size = (int64_t)get(p + 8, 8);
	for (j->end = PARTLOG_RECORD_BYTES; j->end + PARTLOG_RECORD_BYTES <= (int64_t)bytes;
	     j->end += PARTLOG_RECORD_BYTES)
		if (!is_sealed(data + j->end) || !take(s, data + j->end))
			break;
}

int partlog_open(struct partlog *j, const char *path, int64_t part_inode, const uint8_t *sha256,
		 struct partlog_state *state, struct err *e)
{
	struct stat st;
	uint8_t *data;
	ssize_t n;

	*j = (struct partlog){.fd = -1};
	*state = (struct partlog_state){.size = -1};
	digest_init(&state->digest);
	snprintf(j->path, sizeof(j->path), "%s", path);
	j->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	if (j->fd < 0 || fstat(j->fd, &st) != 0)
		return failed(j, "opening", e);
	if (st.st_size > PARTLOG_BYTES_MAX)
		return 0;
	data = malloc((size_t)st.st_size + 1);
	assert(data);
	n = pread(j->fd, data, (size_t)st.st_size, 0);
	if (n == st.st_size)
		read_records(j, data, (size_t)n, part_inode, sha256, state);
	free(data);
	return 0;
}

static int append(struct partlog *j, const uint8_t *records, size_t bytes, struct err *e)
{
	for (size_t done = 0; done < bytes;) {
		ssize_t n = pwrite(j->fd, records + done, bytes - done, j->end + (int64_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return failed(j, "writing", e);
		done += (size_t)n;
	}
	if (fdatasync(j->fd) != 0)
		return failed(j, "syncing", e);
	j->end += (int64_t)bytes;
	return 0;
}

static uint8_t *range_records(const struct ranges *s, int room)
{
	uint8_t *records = calloc((size_t)(s ? s->n : 0) + (size_t)room, PARTLOG_RECORD_BYTES);

	assert(records);
	for (int i = 0; s && i < s->n; i++)
		seal(records + (size_t)i * PARTLOG_RECORD_BYTES, RANGE, s->v[i].from, s->v[i].to);
	return records;
}

int partlog_begin(struct partlog *j, int64_t size, int64_t part_inode, const uint8_t *sha256,
		  const struct ranges *on_disk, struct err *e)
{
	uint8_t head[PARTLOG_RECORD_BYTES] = {0}, *records;
	int r;

	if (ftruncate(j->fd, 0) != 0)
		return failed(j, "emptying", e);
	j->end = 0;
	if (sha256)
		memcpy(head + 24, sha256, DIGEST_BYTES);
	seal(head, HEAD, size, part_inode);
	r = append(j, head, sizeof(head), e);
	if (r < 0 || !on_disk || !on_disk->n)
		return r;
	records = range_records(on_disk, 0);
	r = append(j, records, (size_t)on_disk->n * PARTLOG_RECORD_BYTES, e);
	free(records);
	return r;
}

int partlog_append(struct partlog *j, const struct ranges *added, const struct digest *digest,
		   struct err *e)
{
	uint8_t *records = range_records(added, 1);
	uint8_t *last = records + (size_t)added->n * PARTLOG_RECORD_BYTES;
	int r;

	digest_save(digest, last + 24);
	seal(last, DIGEST, (int64_t)digest->bytes, 0);
	r = append(j, records, (size_t)(added->n + 1) * PARTLOG_RECORD_BYTES, e);
	free(records);
	return r;
}

int partlog_source(struct partlog *j, uint64_t source, const char *etag, struct err *e)
{
	uint8_t record[PARTLOG_RECORD_BYTES] = {0};

	if (strlen(etag) >= PARTLOG_ETAG_MAX)
		return 0;
	memcpy(record + 24, etag, strlen(etag));
	seal(record, SOURCE, (int64_t)source, 0);
	return append(j, record, sizeof(record), e);
}

void partlog_close(struct partlog *j)
{
	if (j->fd >= 0)
		close(j->fd);
	*j = (struct partlog){.fd = -1};
}
