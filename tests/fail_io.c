/*
 * Interposed with LD_PRELOAD: the n-th of the calls that FAIL_IO names fails, once or from then on.
 * FAIL_IO=CALL:N:ERRNO[:always], CALL one of write fsync rename ftruncate open fallocate link.
 * FAIL_IO_LOG names a file that gets a line for each of clone, link and copy.
 * Only calls about files below $ASSAY_CACHE count, so that the same n means the same thing.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_int count;

static bool in_cache(const char *path)
{
	const char *cache = getenv("ASSAY_CACHE");

	return cache && strncmp(path, cache, strlen(cache)) == 0;
}

static bool fd_in_cache(int fd)
{
	char link[64], path[4096];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n <= 0)
		return false;
	path[n] = '\0';
	return in_cache(path);
}

static bool fails(const char *call)
{
	const char *spec = getenv("FAIL_IO");
	size_t n = strlen(call);
	int nth, error, now;

	if (!spec || strncmp(spec, call, n) != 0 || spec[n] != ':' ||
	    sscanf(spec + n, ":%d:%d", &nth, &error) != 2)
		return false;
	now = atomic_fetch_add(&count, 1) + 1;
	if (now != nth && !(now > nth && strstr(spec, ":always")))
		return false;
	errno = error;
	return true;
}

#define REAL(type, name) ((type)dlsym(RTLD_NEXT, name))

static void log_call(const char *call)
{
	const char *path = getenv("FAIL_IO_LOG");
	FILE *f = path ? fopen(path, "a") : NULL;

	if (!f)
		return;
	fprintf(f, "%s\n", call);
	fclose(f);
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (request == FICLONE)
		log_call("clone");
	return REAL(int (*)(int, unsigned long, void *), "ioctl")(fd, request, arg);
}

int link(const char *from, const char *to)
{
	if (in_cache(to)) {
		log_call("link");
		if (fails("link"))
			return -1;
	}
	return REAL(int (*)(const char *, const char *), "link")(from, to);
}

ssize_t copy_file_range(int in, off64_t *at, int out, off64_t *to, size_t n, unsigned flags)
{
	log_call("copy");
	return REAL(ssize_t(*)(int, off64_t *, int, off64_t *, size_t, unsigned),
		    "copy_file_range")(in, at, out, to, n, flags);
}

ssize_t write(int fd, const void *data, size_t n)
{
	if (fd > 2 && fd_in_cache(fd) && fails("write"))
		return -1;
	return REAL(ssize_t(*)(int, const void *, size_t), "write")(fd, data, n);
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t at)
{
	if (fd_in_cache(fd) && fails("write"))
		return -1;
	return REAL(ssize_t(*)(int, const void *, size_t, off_t), "pwrite")(fd, data, n, at);
}

ssize_t pwrite64(int fd, const void *data, size_t n, off_t at)
{
	return pwrite(fd, data, n, at);
}

int fsync(int fd)
{
	return fd_in_cache(fd) && fails("fsync") ? -1 : REAL(int (*)(int), "fsync")(fd);
}

int fdatasync(int fd)
{
	return fd_in_cache(fd) && fails("fsync") ? -1 : REAL(int (*)(int), "fdatasync")(fd);
}

int rename(const char *from, const char *to)
{
	if (in_cache(to) && fails("rename"))
		return -1;
	return REAL(int (*)(const char *, const char *), "rename")(from, to);
}

int ftruncate(int fd, off_t n)
{
	return fd_in_cache(fd) && fails("ftruncate")
		   ? -1
		   : REAL(int (*)(int, off_t), "ftruncate")(fd, n);
}

int ftruncate64(int fd, off_t n)
{
	return ftruncate(fd, n);
}

int fallocate(int fd, int mode, off_t at, off_t n)
{
	return fd_in_cache(fd) && fails("fallocate")
		   ? -1
		   : REAL(int (*)(int, int, off_t, off_t), "fallocate")(fd, mode, at, n);
}

int fallocate64(int fd, int mode, off_t at, off_t n)
{
	return fallocate(fd, mode, at, n);
}

static int open_as(const char *name, const char *path, int flags, va_list ap)
{
	mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;

	if (in_cache(path) && fails("open"))
		return -1;
	return REAL(int (*)(const char *, int, mode_t), name)(path, flags, mode);
}

int open(const char *path, int flags, ...)
{
	va_list ap;
	int fd;

	va_start(ap, flags);
	fd = open_as("open", path, flags, ap);
	va_end(ap);
	return fd;
}

int open64(const char *path, int flags, ...)
{
	va_list ap;
	int fd;

	va_start(ap, flags);
	fd = open_as("open64", path, flags, ap);
	va_end(ap);
	return fd;
}
