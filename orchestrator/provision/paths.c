#include "paths.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int paths_errno(struct err *e, const char *doing, const char *path)
{
	int saved = errno;
	bool full = saved == ENOSPC || saved == EDQUOT || saved == EFBIG;
	bool refused = (saved == EACCES || saved == EPERM || saved == EROFS) &&
		       strcmp(doing, "opening") != 0 && strcmp(doing, "reading") != 0;

	if (refused)
		return err_set(e, EXIT_USAGE, "%s %s: %s; set ASSAY_CACHE to a folder of your own that can be "
			       "written", doing, path, strerror(saved));
	return err_set(e, full ? EXIT_NO_SPACE : EXIT_INTERNAL, "%s %s: %s%s", doing, path,
		       strerror(saved), full ? "; make room or set ASSAY_CACHE to a larger disk" : "");
}

int paths_format(char *out, size_t size, struct err *e, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(out, size, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= size)
		return err_set(e, EXIT_USAGE, "path is longer than %zu bytes: %.200s…", size - 1,
			       out);
	return 0;
}

int paths_cache(char *out, size_t size, struct err *e)
{
	const char *own = getenv("ASSAY_CACHE"), *xdg = getenv("XDG_CACHE_HOME");
	const char *home = getenv("HOME");
	char cwd[PATH_MAX];

	if (own && *own == '/')
		return paths_format(out, size, e, "%s", own);
	if (own && *own) {
		if (!getcwd(cwd, sizeof(cwd)))
			return paths_errno(e, "finding", "the current folder");
		return paths_format(out, size, e, "%s/%s", cwd, own);
	}
	if (xdg && *xdg == '/')
		return paths_format(out, size, e, "%s/assay", xdg);
	if (home && *home == '/')
		return paths_format(out, size, e, "%s/.cache/assay", home);
	return err_set(e, EXIT_USAGE, "no cache folder: set ASSAY_CACHE, XDG_CACHE_HOME or HOME");
}

int paths_mkdir(const char *path, struct err *e)
{
	char part[PATH_MAX];
	int r = paths_format(part, sizeof(part), e, "%s", path);

	if (r < 0)
		return r;
	for (char *p = part + 1;; p++) {
		char c = *p;

		if (c && c != '/')
			continue;
		*p = '\0';
		if (mkdir(part, 0777) != 0 && errno != EEXIST)
			return paths_errno(e, "creating folder", part);
		if (!c)
			return 0;
		*p = c;
	}
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)ftw;
	return type == FTW_DP || type == FTW_DNR ? rmdir(path) : unlink(path);
}

static int make_writable(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)ftw;
	if (type == FTW_D && (st->st_mode & 0700) != 0700)
		return chmod(path, 0700);
	return 0;
}

int paths_remove(const char *path, struct err *e)
{
	struct stat st;

	if (lstat(path, &st) != 0)
		return errno == ENOENT ? 0 : paths_errno(e, "looking at", path);
	if (S_ISDIR(st.st_mode))
		nftw(path, make_writable, 32, FTW_PHYS);
	if (nftw(path, remove_one, 32, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT)
		return paths_errno(e, "removing", path);
	return 0;
}

bool paths_exists(const char *path)
{
	return access(path, F_OK) == 0;
}

int paths_read(char **out, size_t *bytes, const char *path, size_t max, struct err *e)
{
	FILE *f = fopen(path, "re");
	size_t n = 0, cap = 0;
	char *buf = NULL;

	if (!f)
		return paths_errno(e, "opening", path);
	for (;;) {
		size_t got;

		if (n + 1 >= cap) {
			char *grown = realloc(buf, cap = cap ? 2 * cap : 64 << 10);

			if (!grown)
				break;
			buf = grown;
		}
		got = fread(buf + n, 1, cap - 1 - n, f);
		n += got;
		if (got == 0 || n > max)
			break;
	}
	if (ferror(f) || n > max || n + 1 > cap) {
		fclose(f);
		free(buf);
		return err_set(e, EXIT_INTERNAL, "reading %s: %s", path,
			       n > max ? "larger than expected" : "read error");
	}
	fclose(f);
	buf[n] = '\0';
	*out = buf;
	if (bytes)
		*bytes = n;
	return 0;
}

int paths_write(const char *path, const void *bytes, size_t n, struct err *e)
{
	char part[PATH_MAX];
	const char *p = bytes;
	int fd, r = paths_format(part, sizeof(part), e, "%s.part-%d", path, (int)getpid());

	if (r < 0)
		return r;
	fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0)
		return paths_errno(e, "creating", part);
	while (n > 0) {
		ssize_t w = write(fd, p, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			goto fail;
		p += w;
		n -= (size_t)w;
	}
	if (fsync(fd) != 0)
		goto fail;
	close(fd);
	if (rename(part, path) != 0) {
		r = paths_errno(e, "renaming", part);
		unlink(part);
		return r;
	}
	return 0;
fail:
	r = paths_errno(e, "writing", part);
	close(fd);
	unlink(part);
	return r;
}
