#include "place.h"

#include "provision/store.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

static int copy_bytes(int in, int out)
{
	for (;;) {
		char buffer[64 << 10];
		ssize_t n = copy_file_range(in, NULL, out, NULL, (size_t)1 << 30, 0);

		if (n > 0)
			continue;
		if (n == 0)
			return 0;
		if (errno != EXDEV && errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP)
			return -1;
		while ((n = read(in, buffer, sizeof(buffer))) > 0)
			for (ssize_t done = 0, k; done < n; done += k) {
				k = write(out, buffer + done, (size_t)(n - done));
				if (k <= 0)
					return -1;
			}
		return n == 0 ? 0 : -1;
	}
}

static int copy_or_clone(int in, const char *to, enum place_how *how)
{
	int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644), r;

	if (out < 0)
		return -1;
	r = ioctl(out, FICLONE, in);
	if (r == 0)
		*how = PLACE_REFLINK;
	else if (*how != PLACE_REFLINK)
		r = copy_bytes(in, out);
	if (r == 0)
		r = fsync(out);
	if (close(out) != 0)
		r = -1;
	if (r != 0) {
		int why = errno;

		unlink(to);
		errno = why;
	}
	return r;
}

int place_file(const char *from, const char *to, enum place_how *how, struct err *e)
{
	char temporary[STORE_PATH_MAX];
	int r = store_path(temporary, e, "%s.assay-%ld", to, (long)getpid()), in;

	if (r < 0)
		return r;
	in = open(from, O_RDONLY | O_CLOEXEC);
	if (in < 0)
		return err_set(e, EXIT_INTERNAL, "opening %s: %s", from, strerror(errno));
	unlink(temporary);
	*how = PLACE_REFLINK;
	r = copy_or_clone(in, temporary, how);
	if (r != 0) {
		*how = PLACE_HARD_LINK;
		r = link(from, temporary);
	}
	if (r != 0) {
		*how = PLACE_COPY;
		r = copy_or_clone(in, temporary, how);
	}
	if (r == 0)
		r = rename(temporary, to);
	if (r != 0) {
		r = err_set(e, errno == ENOSPC || errno == EDQUOT ? EXIT_NO_SPACE : EXIT_INTERNAL,
			    "placing %s: %s", to, strerror(errno));
		unlink(temporary);
	}
	unlink(temporary); /* rename() leaves it when both already are one file */
	close(in);
	return r;
}

const char *place_name(enum place_how how)
{
	return how == PLACE_REFLINK     ? "shared extents"
	       : how == PLACE_HARD_LINK ? "hard link"
					: "copy";
}
