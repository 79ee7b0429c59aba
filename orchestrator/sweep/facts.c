#include "facts.h"

#include "digest.h"
#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

void facts_time(char out[32])
{
	time_t now = time(NULL);
	struct tm t;

	gmtime_r(&now, &t);
	strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &t);
}

int64_t facts_now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

void facts_hex(const void *bytes, size_t n, char hex[RECEIPT_HASH_HEX])
{
	uint8_t sha[DIGEST_BYTES];
	struct digest d;

	digest_init(&d);
	digest_update(&d, bytes, n);
	digest_final(&d, sha);
	digest_hex(sha, hex);
}

static void read_cpu(char *out, size_t size)
{
	FILE *f = fopen("/proc/cpuinfo", "re");
	char line[512];

	snprintf(out, size, "unknown");
	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, "model name", 10) == 0 && strchr(line, ':')) {
			line[strcspn(line, "\n")] = '\0';
			snprintf(out, size, "%s", strchr(line, ':') + 2);
			break;
		}
	if (f)
		fclose(f);
}

static void stamp_line(char *out, size_t size, const struct stat *st)
{
	snprintf(out, size, "%llu:%llu %lld %lld.%09ld", (unsigned long long)st->st_dev,
		 (unsigned long long)st->st_ino, (long long)st->st_size,
		 (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
}

static bool read_stamp(const char *path, const struct stat *st, char hex[RECEIPT_HASH_HEX])
{
	FILE *f = path ? fopen(path, "re") : NULL;
	char line[400], want[200];
	uint8_t sha[DIGEST_BYTES];
	bool found = false;

	if (!f)
		return false;
	stamp_line(want, sizeof(want), st);
	if (fgets(line, sizeof(line), f)) {
		size_t n = strlen(want);

		line[strcspn(line, "\n")] = '\0';
		found = strncmp(line, want, n) == 0 && line[n] == ' ' &&
			digest_parse(line + n + 1, sha);
		if (found)
			digest_hex(sha, hex);
	}
	fclose(f);
	return found;
}

static int hash_file(const char *path, char hex[RECEIPT_HASH_HEX], struct err *e)
{
	uint8_t sha[DIGEST_BYTES];
	int r = digest_file(path, sha, NULL, NULL, e);

	if (r == 0)
		digest_hex(sha, hex);
	return r;
}

static int not_there(const char *what, const char *path, struct err *e)
{
	return err_set(e, EXIT_MODEL_LOAD,
		       "%s %s: %s; `assay fetch-models` provides verified models", what, path,
		       strerror(errno));
}

/* Only a regular file: reading a pipe would wait for ever. */
static int stat_file(const char *path, struct stat *st)
{
	if (stat(path, st) < 0)
		return -1;
	if (S_ISREG(st->st_mode))
		return 0;
	errno = S_ISDIR(st->st_mode) ? EISDIR : EINVAL;
	return -1;
}

static int fill_model(struct receipt_run *u, const char *stamp_path, struct err *e)
{
	char stamp[200], line[300];
	struct err ignored = ERR_NONE;
	struct stat st;
	int r;

	if (stat_file(u->model_path, &st) < 0)
		return not_there("model", u->model_path, e);
	u->model_bytes = st.st_size;
	u->model_sha256_cached = read_stamp(stamp_path, &st, u->model_sha256);
	if (u->model_sha256_cached)
		return 0;
	r = hash_file(u->model_path, u->model_sha256, e);
	if (r < 0)
		return r;
	stamp_line(stamp, sizeof(stamp), &st);
	snprintf(line, sizeof(line), "%s %s\n", stamp, u->model_sha256);
	if (stamp_path)		/* only a convenience: without it the file is read again */
		facts_write(stamp_path, line, &ignored);
	return 0;
}

int facts_fill(struct receipt_run *u, const char *stamp_path, struct err *e)
{
	struct stat st;
	int r = fill_model(u, stamp_path, e);

	if (r < 0)
		return r;
	read_cpu(u->cpu, sizeof(u->cpu));
	u->n_cpus = (int)sysconf(_SC_NPROCESSORS_ONLN);
	if (u->model_ref_path) {
		if (stat_file(u->model_ref_path, &st) < 0)
			return not_there("the reference's model", u->model_ref_path, e);
		r = hash_file(u->model_ref_path, u->model_ref_sha256, e);
		if (r < 0)
			return r;
	}
	if (!u->tokenizer_path) {
		memcpy(u->tokenizer_sha256, u->model_sha256, sizeof(u->tokenizer_sha256));
		return 0;
	}
	if (stat_file(u->tokenizer_path, &st) < 0)
		return not_there("tokenizer", u->tokenizer_path, e);
	return hash_file(u->tokenizer_path, u->tokenizer_sha256, e);
}

static void sync_folder(const char *path)
{
	char folder[PATH_MAX];
	char *slash;
	int fd;

	snprintf(folder, sizeof(folder), "%s", path);
	slash = strrchr(folder, '/');
	if (slash)
		*slash = '\0';
	fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0) {
		fsync(fd);
		close(fd);
	}
}

static int write_all(int fd, const char *text)
{
	size_t n = strlen(text), at = 0;

	while (at < n) {
		ssize_t k = write(fd, text + at, n - at);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return -1;
		at += (size_t)k;
	}
	return 0;
}

/* A terminal, a pipe, /dev/null: written into, never replaced. */
static int write_into(const char *path, const char *text, struct err *e)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), r;

	if (fd < 0)
		return output_failed(e, "writing", path);
	r = write_all(fd, text) < 0 ? output_failed(e, "writing", path) : 0;
	close(fd);
	return r;
}

static int write_text(const char *path, const char *text, bool durable, struct err *e)
{
	char temporary[PATH_MAX];
	struct stat st;
	int fd, r = 0;

	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return write_into(path, text, e);
	snprintf(temporary, sizeof(temporary), "%s.%d.tmp", path, (int)getpid());
	fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0)
		return output_failed(e, "writing", path);
	if (write_all(fd, text) < 0 || (durable && fsync(fd) < 0))
		r = output_failed(e, "writing", path);
	if (close(fd) < 0 && r == 0)
		r = output_failed(e, "writing", path);
	if (r == 0 && rename(temporary, path) < 0)
		r = output_failed(e, "writing", path);
	if (r < 0)
		unlink(temporary);
	else if (durable)
		sync_folder(path);
	return r;
}

int facts_write(const char *path, const char *text, struct err *e)
{
	return write_text(path, text, true, e);
}

int facts_write_soon(const char *path, const char *text, struct err *e)
{
	return write_text(path, text, false, e);
}
