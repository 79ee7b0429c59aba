#include "lock_file.h"

#include "paths.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

int lock_file_take(const char *path, lock_file_wait_fn *wait, void *ctx, struct err *e)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	char holder[64] = "", line[256];
	ssize_t n;
	int r;

	if (fd < 0)
		return paths_errno(e, "opening the lock", path);
	if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		n = pread(fd, holder, sizeof(holder) - 1, 0);
		if (n > 0)
			holder[strcspn(holder, "\n")] = '\0';
		snprintf(line, sizeof(line), "waiting for another builder (process %s)",
			 *holder ? holder : "unknown");
		if (wait)
			wait(ctx, line);
		while ((r = flock(fd, LOCK_EX)) != 0 && errno == EINTR)
			;
		if (r != 0) {
			r = paths_errno(e, "locking", path);
			close(fd);
			return r;
		}
	}
	n = snprintf(holder, sizeof(holder), "%d\n", (int)getpid());
	if (ftruncate(fd, 0) != 0 || pwrite(fd, holder, (size_t)n, 0) != n)
		errno = 0;	/* only a courtesy for who waits */
	return fd;
}

void lock_file_drop(int fd)
{
	if (fd >= 0)
		close(fd);
}
