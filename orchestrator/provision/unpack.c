#include "unpack.h"

#include "provision/store.h"

#include <archive.h>
#include <archive_entry.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

struct unpacking {
	const char *name; /* of the archive, for messages */
	const char *folder;
	struct unpack_limits limits;
	struct unpack_result got;
	int64_t packed_bytes;
	struct archive *in, *out;
	struct err *e;
};

static const char *const endings[] = {".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar", ".zip"};

bool unpack_is_archive(const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
		size_t k = strlen(endings[i]);

		if (n > k && strcasecmp(name + n - k, endings[i]) == 0)
			return true;
	}
	return false;
}

static int refuse(const struct unpacking *u, const char *why, const char *entry)
{
	return err_set(u->e, EXIT_MODEL_INVALID, "%s: %s: \"%.200s\"", u->name, why, entry);
}

/* The entry's own words, before libarchive's flags check them once more. */
static int check_entry(struct unpacking *u, struct archive_entry *entry)
{
	const char *path = archive_entry_pathname(entry);
	mode_t type = archive_entry_filetype(entry);

	if (++u->got.entries > u->limits.entries_max)
		return err_set(u->e, EXIT_MODEL_INVALID, "%s: more than %lld entries", u->name,
			       (long long)u->limits.entries_max);
	if (!path || !*path || strlen(path) > 500)
		return refuse(u, "an entry without a usable name", path ? path : "");
	if (*path == '/' || strchr(path, '\\'))
		return refuse(u, "an entry with an absolute path", path);
	for (const char *p = path; *p;) {
		size_t n = strcspn(p, "/");

		if (n == 2 && memcmp(p, "..", 2) == 0)
			return refuse(u, "an entry leaves the folder", path);
		for (size_t i = 0; i < n; i++)
			if ((unsigned char)p[i] < 0x20 || p[i] == 0x7f)
				return refuse(u, "an entry's name has control characters", "");
		p += n + (p[n] == '/');
	}
	if (archive_entry_hardlink(entry) || archive_entry_symlink(entry) ||
	    (type != AE_IFREG && type != AE_IFDIR))
		return refuse(u, "an entry that is neither file nor folder", path);
	if (archive_entry_is_encrypted(entry))
		return refuse(u, "an encrypted entry", path);
	return 0;
}

static int check_growth(struct unpacking *u, int64_t entry_bytes, const char *path)
{
	if (entry_bytes > u->limits.entry_bytes_max)
		return refuse(u, "an entry is larger than allowed", path);
	if (u->got.bytes > u->limits.total_bytes_max)
		return refuse(u, "unpacked it is larger than allowed", path);
	if (u->got.bytes > 1 << 20 && u->got.bytes / u->limits.ratio_max > u->packed_bytes)
		return refuse(u, "it grows too much in unpacking, as a bomb does", path);
	return 0;
}

static int failed(const struct unpacking *u, struct archive *a, const char *what)
{
	return err_set(u->e, archive_errno(a) == ENOSPC ? EXIT_NO_SPACE : EXIT_MODEL_INVALID,
		       "%s: %s: %s", u->name, what,
		       archive_error_string(a) ? archive_error_string(a) : "unknown error");
}

static int copy_data(struct unpacking *u, const char *path)
{
	int64_t entry_bytes = 0;

	for (;;) {
		const void *data;
		size_t bytes;
		la_int64_t at;
		int r = archive_read_data_block(u->in, &data, &bytes, &at);

		if (r == ARCHIVE_EOF)
			return 0;
		if (r != ARCHIVE_OK)
			return failed(u, u->in, "damaged archive");
		/* a hole counts as if it were written */
		u->got.bytes += at + (int64_t)bytes - entry_bytes;
		entry_bytes = at + (int64_t)bytes;
		r = check_growth(u, entry_bytes, path);
		if (r < 0)
			return r;
		if (archive_write_data_block(u->out, data, bytes, at) != ARCHIVE_OK)
			return failed(u, u->out, "writing");
	}
}

static int one_entry(struct unpacking *u, struct archive_entry *entry)
{
	char inner[STORE_PATH_MAX], path[512];
	struct stat st;
	int r = check_entry(u, entry);

	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "%.500s", archive_entry_pathname(entry));
	if (archive_entry_size_is_set(entry)) {
		r = check_growth(u, archive_entry_size(entry), path);
		if (r < 0)
			return r;
	}
	if ((r = store_path(inner, u->e, "%s/%s", u->folder, path)) < 0)
		return r;
	errno = 0;
	if (lstat(inner, &st) == 0 &&
	    !(S_ISDIR(st.st_mode) && archive_entry_filetype(entry) == AE_IFDIR))
		return refuse(u, "an entry is there twice", path);
	if (errno == ENOTDIR)
		return refuse(u, "an entry lies below one that is a file", path);
	archive_entry_set_pathname(entry, inner);
	archive_entry_set_perm(entry, archive_entry_filetype(entry) == AE_IFDIR ? 0755 : 0644);
	if (archive_write_header(u->out, entry) != ARCHIVE_OK)
		return failed(u, u->out, path);
	r = copy_data(u, path);
	if (r == 0 && archive_write_finish_entry(u->out) != ARCHIVE_OK)
		r = failed(u, u->out, path);
	return r;
}

static int all_entries(struct unpacking *u)
{
	struct archive_entry *entry;

	for (;;) {
		int r = archive_read_next_header(u->in, &entry);

		if (r == ARCHIVE_EOF)
			return u->got.entries ? 0
					      : refuse(u, "an archive without entries", u->name);
		if (r != ARCHIVE_OK)
			return failed(u, u->in, "not an archive that can be read");
		r = one_entry(u, entry);
		if (r < 0)
			return r;
	}
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	(void)st;
	(void)kind;
	(void)at;
	return remove(path);
}

static void remove_tree(const char *folder)
{
	nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void open_both(struct unpacking *u)
{
	u->in = archive_read_new();
	u->out = archive_write_disk_new();
	assert(u->in && u->out);
	archive_read_support_filter_gzip(u->in);
	archive_read_support_filter_zstd(u->in);
	archive_read_support_format_tar(u->in);
	archive_read_support_format_zip(u->in);
	/* absolute paths are checked above: ours are made absolute by us */
	archive_write_disk_set_options(u->out, ARCHIVE_EXTRACT_SECURE_SYMLINKS |
						   ARCHIVE_EXTRACT_SECURE_NODOTDOT |
						   ARCHIVE_EXTRACT_NO_OVERWRITE);
}

/* One call for ten thousand files: nothing has its final name before all of it is on disk. */
static int sync_all(const char *folder, struct err *e)
{
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;

	if (fd < 0 || syncfs(fd) != 0)
		r = err_set(e, errno == ENOSPC ? EXIT_NO_SPACE : EXIT_INTERNAL, "syncing %s: %s",
			    folder, strerror(errno));
	if (fd >= 0)
		close(fd);
	return r;
}

static struct unpack_limits limits_of(const struct unpack_limits *given)
{
	struct unpack_limits l = given ? *given : (struct unpack_limits){0};

	l.entries_max = l.entries_max ? l.entries_max : 10000;
	l.entry_bytes_max = l.entry_bytes_max ? l.entry_bytes_max : (int64_t)64 << 30;
	l.total_bytes_max = l.total_bytes_max ? l.total_bytes_max : (int64_t)128 << 30;
	l.ratio_max = l.ratio_max ? l.ratio_max : 200;
	return l;
}

static int unpack_here(const char *archive, const char *folder, const struct unpack_limits *limits,
		       struct unpack_result *result, struct err *e)
{
	struct unpacking u = {.name = archive, .limits = limits_of(limits), .e = e};
	char given[STORE_PATH_MAX], real[PATH_MAX];
	struct stat st;
	int r = store_path(given, e, "%s.unpacking", folder);

	if (r < 0)
		return r;
	if (stat(archive, &st) != 0)
		return err_set(e, EXIT_INTERNAL, "%s: %s", archive, strerror(errno));
	u.packed_bytes = st.st_size;
	remove_tree(given);
	if (mkdir(given, 0755) != 0 || !realpath(given, real))
		return err_set(e, EXIT_INTERNAL, "making %s: %s", given, strerror(errno));
	u.folder = real; /* the checks against links see no link of the cache's own path */
	open_both(&u);
	if (archive_read_open_filename(u.in, archive, 256 << 10) != ARCHIVE_OK)
		r = failed(&u, u.in, "not an archive that can be read");
	if (r == 0)
		r = all_entries(&u);
	archive_read_free(u.in);
	archive_write_free(u.out);
	if (r == 0)
		r = sync_all(real, e);
	if (r == 0 && rename(real, folder) != 0)
		r = err_set(e, EXIT_INTERNAL, "naming %s: %s", folder, strerror(errno));
	if (r < 0)
		remove_tree(real);
	else if (result)
		*result = u.got;
	return r;
}

/* libarchive converts names to the locale's characters; "C" has none beyond ASCII. */
int unpack_file(const char *archive, const char *folder, const struct unpack_limits *limits,
		struct unpack_result *result, struct err *e)
{
	locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0), old = (locale_t)0;
	int r;

	if (utf8)
		old = uselocale(utf8);
	r = unpack_here(archive, folder, limits, result, e);
	if (utf8) {
		uselocale(old);
		freelocale(utf8);
	}
	return r;
}
