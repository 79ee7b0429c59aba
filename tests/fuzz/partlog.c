/* Any bytes as a journal: what is read back lies inside the file, and the hash state inside of
 * that. */
#include "provision/partlog.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The checksums are put right, or no input would come past the first record. */
static void seal_all(uint8_t *p, size_t size)
{
	for (size_t at = 0; at + PARTLOG_RECORD_BYTES <= size; at += PARTLOG_RECORD_BYTES) {
		uint64_t h = partlog_fnv(p + at + 4, PARTLOG_RECORD_BYTES - 4);

		for (int i = 0; i < 4 && p[at + PARTLOG_RECORD_BYTES - 1] != 0xff; i++)
			p[at + (size_t)i] = (uint8_t)(h >> (8 * i));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t sha256[DIGEST_BYTES];
	char path[64];
	struct partlog j;
	struct partlog_state s;
	struct err e = ERR_NONE;
	uint8_t *copy = malloc(size + 1);
	int fd;

	snprintf(path, sizeof(path), "/tmp/assay-fuzz-partlog-%ld", (long)getpid());
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert(copy && fd >= 0);
	memcpy(copy, data, size);
	seal_all(copy, size);
	assert(write(fd, copy, size) == (ssize_t)size);
	close(fd);
	assert(partlog_open(&j, path, 0, sha256, &s, &e) == 0);
	for (int i = 0; i < s.on_disk.n; i++)
		assert(s.on_disk.v[i].from >= 0 && s.on_disk.v[i].to <= s.size);
	assert(s.digest.bytes == 0 || ranges_has(&s.on_disk, 0, (int64_t)s.digest.bytes));
	assert(memchr(s.etag, 0, sizeof(s.etag)));
	ranges_free(&s.on_disk);
	partlog_close(&j);
	unlink(path);
	free(copy);
	return 0;
}
