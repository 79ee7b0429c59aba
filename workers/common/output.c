#include "output.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

int output_check(const char *path, struct err *e)
{
	struct stat st;

	if (!*path)
		return err_set(e, EXIT_USAGE, "the name of the file to write is empty");
	if (stat(path, &st) < 0 || S_ISREG(st.st_mode))
		return 0;
	if (S_ISDIR(st.st_mode))
		return err_set(e, EXIT_USAGE, "%s is a folder; name a file in it", path);
	return err_set(e, EXIT_USAGE,
		       "%s is no regular file, and what is written here replaces the name; "
		       "name a file",
		       path);
}

int output_failed(struct err *e, const char *doing, const char *path)
{
	int why = errno;
	enum exit_code code = EXIT_INTERNAL;

	switch (why) {
	case ENOSPC:
	case EDQUOT:
		code = EXIT_NO_SPACE;
		break;
	case EACCES:
	case EISDIR:
	case ENAMETOOLONG:
	case ENOENT:
	case ENOTDIR:
	case EPERM:
	case EROFS:
		code = EXIT_USAGE;
		break;
	}
	return err_set(e, code, "%s %s: %s", doing, path, strerror(why));
}
