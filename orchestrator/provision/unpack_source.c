#include "unpack_source.h"

#include "clone.h"
#include "paths.h"
#include "references_lock.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static int archive_failed(struct archive *a, const char *doing, const char *path, struct err *e)
{
	bool full = archive_errno(a) == ENOSPC || archive_errno(a) == EFBIG;

	return err_set(e, full ? EXIT_NO_SPACE : EXIT_USAGE, "%s %s: %s", doing, path,
		       archive_error_string(a) ? archive_error_string(a) : "unknown reason");
}

static int copy_data(struct archive *in, struct archive *out, uint64_t *bytes, const char *name,
		     struct err *e)
{
	const void *p;
	size_t n;
	la_int64_t at;

	for (;;) {
		int r = archive_read_data_block(in, &p, &n, &at);

		if (r == ARCHIVE_EOF)
			return 0;
		if (r < ARCHIVE_WARN)
			return archive_failed(in, "unpacking", name, e);
		*bytes += n;
		if (*bytes > CLONE_BYTES_MAX)
			return err_set(e, EXIT_NO_SPACE,
				       "the archive unpacks to more than %llu bytes",
				       CLONE_BYTES_MAX);
		if (archive_write_data_block(out, p, n, at) < ARCHIVE_WARN)
			return archive_failed(out, "writing", name, e);
	}
}

/* The name below dest, without the archive's one leading folder; NULL = skip. */
static int place(struct archive_entry *entry, const char *dest, char *out, size_t size, bool *skip,
		 struct err *e)
{
	const char *name = archive_entry_pathname(entry), *slash = name ? strchr(name, '/') : NULL;
	char trimmed[PATH_MAX];
	size_t n;

	*skip = !slash || !slash[1];
	if (*skip)
		return 0;
	snprintf(trimmed, sizeof(trimmed), "%s", slash + 1);
	n = strlen(trimmed);
	if (n && trimmed[n - 1] == '/')
		trimmed[n - 1] = '\0';
	if (!references_lock_path_ok(trimmed) || archive_entry_hardlink(entry))
		return err_set(e, EXIT_HASH_MISMATCH, "the archive holds the name \"%s\"", name);
	return paths_format(out, size, e, "%s/%s", dest, trimmed);
}

static int unpack_all(struct archive *in, struct archive *out, const char *dest, struct err *e)
{
	struct archive_entry *entry;
	char path[PATH_MAX];
	uint64_t bytes = 0;
	int n = 0, r;
	bool skip;

	while ((r = archive_read_next_header(in, &entry)) == ARCHIVE_OK || r == ARCHIVE_WARN) {
		mode_t type = archive_entry_filetype(entry);

		if (++n > CLONE_ENTRIES_MAX)
			return err_set(e, EXIT_NO_SPACE, "the archive has more than %d entries",
				       CLONE_ENTRIES_MAX);
		if (type != AE_IFREG && type != AE_IFDIR && type != AE_IFLNK)
			continue;
		r = place(entry, dest, path, sizeof(path), &skip, e);
		if (r < 0)
			return r;
		if (skip)
			continue;
		archive_entry_set_pathname(entry, path);
		archive_entry_set_perm(entry, type == AE_IFDIR || (archive_entry_perm(entry) & 0100)
						      ? 0755 : 0644);
		if (archive_write_header(out, entry) < ARCHIVE_WARN)
			return archive_failed(out, "creating", path, e);
		r = type == AE_IFREG ? copy_data(in, out, &bytes, path, e) : 0;
		if (r < 0)
			return r;
		if (archive_write_finish_entry(out) < ARCHIVE_WARN)
			return archive_failed(out, "finishing", path, e);
	}
	return r == ARCHIVE_EOF ? 0 : archive_failed(in, "reading", "the archive", e);
}

int unpack_source(const char *archive, const char *dest, const struct digest_git_link *links,
		  int n_links, char *hex, struct err *e)
{
	struct archive *in = archive_read_new(), *out = archive_write_disk_new();
	int r;

	archive_read_support_filter_all(in);
	archive_read_support_format_tar(in);
	archive_write_disk_set_options(out, ARCHIVE_EXTRACT_PERM | ARCHIVE_EXTRACT_SECURE_SYMLINKS |
						    ARCHIVE_EXTRACT_SECURE_NODOTDOT |
						    ARCHIVE_EXTRACT_UNLINK);
	r = paths_mkdir(dest, e);
	if (r == 0 && archive_read_open_filename(in, archive, 1 << 16) != ARCHIVE_OK)
		r = archive_failed(in, "opening", archive, e);
	if (r == 0)
		r = unpack_all(in, out, dest, e);
	if (archive_write_close(out) != ARCHIVE_OK && r == 0)
		r = archive_failed(out, "finishing", dest, e);
	archive_read_free(in);
	archive_write_free(out);
	return r < 0 ? r : digest_git_tree(dest, links, n_links, hex, e);
}
