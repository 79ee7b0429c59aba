#include "store.h"

#include "provision/models_lock.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { LEASE_TRIES = 100, TREE_DEPTH_MAX = 256 };

int store_path(char out[STORE_PATH_MAX], struct err *e, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(out, STORE_PATH_MAX, fmt, ap);
	va_end(ap);
	if (n < 0 || n >= STORE_PATH_MAX)
		return err_set(e, EXIT_USAGE, "a path is longer than %d bytes: %.200s…",
			       STORE_PATH_MAX, out);
	return 0;
}

int store_failed(struct err *e, const char *what, const char *path)
{
	int why = errno;

	switch (why) {
	case ENOSPC:
	case EDQUOT:
		return err_set(e, EXIT_NO_SPACE, "%s %s: %s; make room (`assay cache prune`) or set "
			       "ASSAY_CACHE to a larger disk", what, path, strerror(why));
	case EACCES:
	case EPERM:
	case EROFS:
	case ENOENT: /* of a folder that the kernel keeps */
	case ENOTDIR:
	case ELOOP:
	case ENAMETOOLONG:
		return err_set(e, EXIT_USAGE, "%s %s: %s; set ASSAY_CACHE to a folder that can be "
			       "written", what, path, strerror(why));
	}
	return err_set(e, EXIT_INTERNAL, "%s %s: %s", what, path, strerror(why));
}

static int make_dirs(const char *path, struct err *e)
{
	char part[STORE_PATH_MAX];
	int r = store_path(part, e, "%s", path);

	if (r < 0)
		return r;
	for (char *p = part + 1;; p++) {
		char was = *p;

		if (was && was != '/')
			continue;
		*p = '\0';
		if (mkdir(part, 0777) != 0 && errno != EEXIST)
			return store_failed(e, "making the folder", part);
		if (!was)
			return 0;
		*p = was;
	}
}

/* https://bford.info/cachedir/ */
static int write_tag(const struct store *s, struct err *e)
{
	static const char text[] = "Signature: 8a477f597d28d172789f06886806bc55\n"
				   "# This folder is assay's cache of downloaded models.\n";
	char path[STORE_PATH_MAX];
	int r = store_path(path, e, "%s/CACHEDIR.TAG", s->root), fd;
	struct stat st;

	if (r < 0 || (stat(path, &st) == 0 && st.st_size == (off_t)sizeof(text) - 1))
		return r;
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0 || write(fd, text, sizeof(text) - 1) != (ssize_t)sizeof(text) - 1)
		r = store_failed(e, "writing", path);
	if (fd >= 0)
		close(fd);
	return r;
}

static int find_root(struct store *s, const char *root, struct err *e)
{
	const char *assay = getenv("ASSAY_CACHE"), *xdg = getenv("XDG_CACHE_HOME");
	const char *home = getenv("HOME");

	if (!root && assay && *assay)
		root = assay;
	if (root && *root != '/') {
		char here[STORE_PATH_MAX / 2];

		if (!getcwd(here, sizeof(here)))
			return err_set(e, EXIT_INTERNAL, "the current folder: %s", strerror(errno));
		return store_path(s->root, e, "%s/%s", here, root);
	}
	if (root)
		return store_path(s->root, e, "%s", root);
	if (xdg && *xdg == '/')
		return store_path(s->root, e, "%s/assay", xdg);
	if (!home || *home != '/')
		return err_set(e, EXIT_USAGE, "no place for the cache: set ASSAY_CACHE or HOME");
	return store_path(s->root, e, "%s/.cache/assay", home);
}

int store_open(struct store *s, const char *root, struct err *e)
{
	char path[STORE_PATH_MAX];
	int r = find_root(s, root, e);

	if (r == 0)
		r = store_path(path, e, "%s/models", s->root);
	if (r == 0)
		r = make_dirs(path, e);
	if (r == 0)
		r = store_path(path, e, "%s/locks", s->root);
	if (r == 0)
		r = make_dirs(path, e);
	return r < 0 ? r : write_tag(s, e);
}

/* Names that the folder of a blob uses itself. */
static bool is_ours(const char *base)
{
	size_t n = strlen(base);

	return strcmp(base, "model.json") == 0 || strcmp(base, "model.json.new") == 0 ||
	       strcmp(base, "lease") == 0 || strncmp(base, "files", 5) == 0 ||
	       (n > 5 && strcmp(base + n - 5, ".part") == 0) ||
	       (n > 8 && strcmp(base + n - 8, ".journal") == 0);
}

int store_blob(const struct store *s, const char *sha256_hex, const char *file,
	       struct store_blob *b, struct err *e)
{
	const char *base = strrchr(file, '/') ? strrchr(file, '/') + 1 : file;
	const char *prefix;
	size_t n = strlen(base);
	int r;

	if (n > 5 && strcmp(base + n - 5, ".gguf") == 0)
		base = "model.gguf";
	prefix = is_ours(base) ? "file-" : "";
	memset(b, 0, sizeof(*b));
	memcpy(b->sha256_hex, sha256_hex, strnlen(sha256_hex, DIGEST_HEX - 1));
	if ((r = store_path(b->dir, e, "%s/models/%s", s->root, sha256_hex)) < 0 ||
	    (r = store_path(b->path, e, "%s/%s%s", b->dir, prefix, base)) < 0 ||
	    (r = store_path(b->part, e, "%s/%s%s.part", b->dir, prefix, base)) < 0 ||
	    (r = store_path(b->journal, e, "%s/%s%s.part.journal", b->dir, prefix, base)) < 0 ||
	    (r = store_path(b->meta, e, "%s/model.json", b->dir)) < 0 ||
	    (r = store_path(b->lease, e, "%s/lease", b->dir)) < 0)
		return r;
	return store_path(b->lock, e, "%s/locks/%s", s->root, sha256_hex);
}

int store_make_dir(const struct store_blob *b, struct err *e)
{
	return make_dirs(b->dir, e);
}

/* ---- metadata and stamp ------------------------------------------------------------------ */

static void stamp(struct store_meta *m, const struct stat *st)
{
	m->size = st->st_size;
	m->mtime_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
	m->inode = (int64_t)st->st_ino;
}

static void copy(char *out, size_t bytes, json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	snprintf(out, bytes, "%s", s ? s : "");
}

int store_meta_read(const char *path, struct store_meta *m, struct err *e)
{
	json_error_t at;
	json_t *o = json_load_file(path, JSON_REJECT_DUPLICATES, &at);

	memset(m, 0, sizeof(*m));
	if (!json_is_object(o)) {
		json_decref(o);
		return err_set(e, EXIT_INTERNAL, "%s: %s", path, o ? "not an object" : at.text);
	}
	copy(m->id, sizeof(m->id), o, "id");
	copy(m->tier, sizeof(m->tier), o, "tier");
	copy(m->file, sizeof(m->file), o, "file");
	copy(m->licence, sizeof(m->licence), o, "licence");
	copy(m->source, sizeof(m->source), o, "source");
	copy(m->origin, sizeof(m->origin), o, "origin");
	copy(m->sha256_hex, sizeof(m->sha256_hex), o, "sha256");
	m->size = json_integer_value(json_object_get(o, "size"));
	m->mtime_ns = json_integer_value(json_object_get(o, "mtime_ns"));
	m->inode = json_integer_value(json_object_get(o, "inode"));
	m->created_s = json_integer_value(json_object_get(o, "created"));
	json_decref(o);
	return 0;
}

static int sync_dir(const char *dir, struct err *e)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = 0;

	if (fd < 0 || fsync(fd) != 0)
		r = err_set(e, EXIT_INTERNAL, "syncing the folder %s: %s", dir, strerror(errno));
	if (fd >= 0)
		close(fd);
	return r;
}

static int write_all(int fd, const char *text, size_t bytes)
{
	while (bytes > 0) {
		ssize_t n = write(fd, text, bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		text += n;
		bytes -= (size_t)n;
	}
	return 0;
}

static int write_meta(const struct store_blob *b, const struct store_meta *m, struct err *e)
{
	json_t *o = json_pack("{ss ss ss ss ss ss ss sI sI sI sI}", "id", m->id, "tier", m->tier,
			      "file", m->file, "licence", m->licence, "source", m->source, "origin",
			      m->origin, "sha256", m->sha256_hex, "size", (json_int_t)m->size,
			      "mtime_ns", (json_int_t)m->mtime_ns, "inode", (json_int_t)m->inode,
			      "created", (json_int_t)m->created_s);
	char temporary[STORE_PATH_MAX], *text = o ? json_dumps(o, JSON_INDENT(2)) : NULL;
	int r = store_path(temporary, e, "%s.new", b->meta), fd = -1;

	json_decref(o);
	if (r == 0 && !text)
		r = err_set(e, EXIT_INTERNAL, "metadata of %s is not UTF-8", m->id);
	if (r < 0)
		goto out;
	fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0 || write_all(fd, text, strlen(text)) != 0 || fsync(fd) != 0 ||
	    rename(temporary, b->meta) != 0)
		r = store_failed(e, "writing", b->meta);
out:
	if (fd >= 0)
		close(fd);
	free(text);
	return r < 0 ? r : sync_dir(b->dir, e);
}

enum store_state store_state(const struct store_blob *b)
{
	struct store_meta m, now = {0};
	struct err e = ERR_NONE;
	struct stat st;

	if (stat(b->path, &st) != 0)
		return access(b->part, F_OK) == 0 ? STORE_PARTIAL : STORE_ABSENT;
	stamp(&now, &st);
	if (store_meta_read(b->meta, &m, &e) < 0 || strcmp(m.sha256_hex, b->sha256_hex) != 0 ||
	    m.size != now.size || m.mtime_ns != now.mtime_ns || m.inode != now.inode)
		return STORE_UNSURE;
	return STORE_READY;
}

int store_restamp(const struct store_blob *b, struct store_meta *m, struct err *e)
{
	struct stat st;

	if (stat(b->path, &st) != 0)
		return err_set(e, EXIT_INTERNAL, "%s: %s", b->path, strerror(errno));
	stamp(m, &st);
	memcpy(m->sha256_hex, b->sha256_hex, DIGEST_HEX);
	if (!m->created_s)
		m->created_s = time(NULL);
	return write_meta(b, m, e);
}

int store_commit(const struct store_blob *b, const char *from, struct store_meta *m, struct err *e)
{
	int fd = open(from, O_RDONLY | O_CLOEXEC);
	struct stat st;
	int r = 0;

	/* a hard link's mode is also that of the file it was adopted from: it stays */
	if (fd < 0 || fstat(fd, &st) != 0 || fsync(fd) != 0 ||
	    (st.st_nlink == 1 && fchmod(fd, 0444) != 0) || rename(from, b->path) != 0)
		r = store_failed(e, "giving its final name to", from);
	if (fd >= 0)
		close(fd);
	if (r == 0)
		r = sync_dir(b->dir, e);
	if (r < 0)
		return r;
	unlink(b->journal);
	return store_restamp(b, m, e);
}

/* ---- locks ------------------------------------------------------------------------------- */

int store_lock(const struct store_blob *b, bool *busy, struct err *e)
{
	int fd = open(b->lock, O_RDWR | O_CREAT | O_CLOEXEC, 0666);

	*busy = false;
	if (fd < 0)
		return store_failed(e, "opening the lock", b->lock);
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return fd;
	*busy = errno == EWOULDBLOCK;
	if (!*busy)
		err_set(e, EXIT_INTERNAL, "locking %s: %s", b->lock, strerror(errno));
	close(fd);
	return *busy ? -1 : -EXIT_INTERNAL;
}

int store_lock_wait(const struct store_blob *b, struct err *e)
{
	int fd = open(b->lock, O_RDWR | O_CREAT | O_CLOEXEC, 0666);

	if (fd < 0)
		return store_failed(e, "opening the lock", b->lock);
	while (flock(fd, LOCK_EX) != 0) {
		if (errno == EINTR)
			continue;
		err_set(e, EXIT_INTERNAL, "locking %s: %s", b->lock, strerror(errno));
		close(fd);
		return -EXIT_INTERNAL;
	}
	return fd;
}

static int open_lease(const char *path, int how)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);

	if (fd >= 0 && flock(fd, how | LOCK_NB) != 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* The folder of a blob above a file of it, which may lie deeper when it came out of an archive. */
static bool blob_above(char *real, char meta[STORE_PATH_MAX], char lease[STORE_PATH_MAX])
{
	uint8_t sha256[DIGEST_BYTES];
	struct err e = ERR_NONE;
	char *slash;

	while ((slash = strrchr(real, '/')) && slash > real) {
		*slash = '\0';
		if (digest_parse(strrchr(real, '/') + 1, sha256) &&
		    store_path(meta, &e, "%s/model.json", real) == 0 && access(meta, F_OK) == 0)
			return store_path(lease, &e, "%s/lease", real) == 0;
	}
	return false;
}

int store_lease(const char *path)
{
	const struct timespec moment = {.tv_nsec = 20 * 1000 * 1000};
	char lease[STORE_PATH_MAX], meta[STORE_PATH_MAX], *real = realpath(path, NULL);
	struct stat a, b;
	int fd = -1;

	if (!real || !blob_above(real, meta, lease))
		goto out;
	/* who only asks whether somebody holds it has it for a moment */
	for (int i = 0; i < LEASE_TRIES && fd < 0 && access(meta, F_OK) == 0; i++) {
		if (i)
			nanosleep(&moment, NULL);
		fd = open_lease(lease, LOCK_SH);
		/* one that was deleted in between protects nothing */
		if (fd >= 0 &&
		    (fstat(fd, &a) != 0 || stat(lease, &b) != 0 || a.st_ino != b.st_ino)) {
			close(fd);
			fd = -1;
		}
	}
out:
	free(real);
	return fd;
}

int store_claim(const struct store_blob *b)
{
	return open_lease(b->lease, LOCK_EX);
}

static bool held(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	bool is_held = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0;

	if (fd >= 0)
		close(fd);
	return is_held;
}

bool store_in_use(const struct store_blob *b)
{
	return held(b->lease) || held(b->lock);
}

/* ---- looking around ---------------------------------------------------------------------- */

int store_find(const char *id, char path[STORE_PATH_MAX], struct err *e)
{
	struct models_lock l = {0};
	const struct lock_model *m;
	struct store_blob b;
	uint8_t sha256[DIGEST_BYTES];
	struct store s;
	int r = models_lock_open(&l, NULL, e);

	if (r < 0)
		return r;
	m = models_lock_find(&l, id);
	r = find_root(&s, NULL, e);
	if (r == 0 && !m && !digest_parse(id, sha256))
		r = err_set(e, EXIT_MODEL_LOAD,
			    "no model \"%s\" in the lockfile; `assay fetch-models --list` shows "
			    "what there is",
			    id);
	if (r == 0)
		r = store_blob(&s, m ? m->sha256_hex : id, m ? m->file : "model.gguf", &b, e);
	if (r == 0 && store_state(&b) != STORE_READY)
		r = err_set(
		    e, EXIT_MODEL_LOAD,
		    "the model \"%s\" is not in the cache: run `assay fetch-models --id %s`", id,
		    id);
	if (r == 0)
		r = store_path(path, e, "%s", b.path);
	models_lock_free(&l);
	return r;
}

static bool ends_with(const char *name, const char *end)
{
	size_t n = strlen(name), k = strlen(end);

	return n > k && strcmp(name + n - k, end) == 0;
}

/* What a killed run leaves beside a blob. */
static bool is_leftover(const char *name)
{
	return strcmp(name, "files.unpacking") == 0 || strcmp(name, "model.json.new") == 0 ||
	       ends_with(name, ".part.adopted") || strstr(name, ".part.adopted.assay-");
}

static int64_t tree_bytes(const char *path, int depth)
{
	DIR *d = depth > TREE_DEPTH_MAX ? NULL : opendir(path);
	struct err ignored = ERR_NONE;
	struct dirent *f;
	int64_t bytes = 0;

	while (d && (f = readdir(d))) {
		char inner[STORE_PATH_MAX];
		struct stat st;

		if (strcmp(f->d_name, ".") == 0 || strcmp(f->d_name, "..") == 0 ||
		    store_path(inner, &ignored, "%s/%s", path, f->d_name) < 0 ||
		    lstat(inner, &st) != 0)
			continue;
		bytes += S_ISDIR(st.st_mode) ? tree_bytes(inner, depth + 1)
					     : (int64_t)st.st_blocks * 512;
	}
	if (d)
		closedir(d);
	return bytes;
}

static void measure(struct store_item *item)
{
	DIR *d = opendir(item->blob.dir);
	struct dirent *f;

	while (d && (f = readdir(d))) {
		char inner[STORE_PATH_MAX];
		struct err ignored = ERR_NONE;
		struct stat st;
		int64_t bytes;

		if (f->d_name[0] == '.' || fstatat(dirfd(d), f->d_name, &st, 0) != 0)
			continue;
		bytes = (int64_t)st.st_blocks * 512;
		if (S_ISDIR(st.st_mode) &&
		    store_path(inner, &ignored, "%s/%s", item->blob.dir, f->d_name) == 0)
			bytes = tree_bytes(inner, 0);
		item->bytes += bytes;
		if (ends_with(f->d_name, ".part") || is_leftover(f->d_name))
			item->part_bytes += bytes;
		if (st.st_mtim.tv_sec > item->used_s)
			item->used_s = st.st_mtim.tv_sec;
		if (st.st_atim.tv_sec > item->used_s)
			item->used_s = st.st_atim.tv_sec;
	}
	if (d)
		closedir(d);
}

int64_t store_tree_bytes(const char *path)
{
	return tree_bytes(path, 0);
}

/* The name under which the blob lies, from its metadata or from what is in the folder. */
static void name_of(const char *dir, const struct store_meta *m, char file[256])
{
	DIR *d = opendir(dir);
	struct dirent *f;

	snprintf(file, 256, "%s", m->file[0] ? m->file : "model.gguf");
	while (d && !m->file[0] && (f = readdir(d))) {
		size_t n = strlen(f->d_name);

		if (n > 5 && strcmp(f->d_name + n - 5, ".part") == 0)
			snprintf(file, 256, "%.*s", (int)(n - 5), f->d_name);
	}
	if (d)
		closedir(d);
}

static int one_item(const struct store *s, const char *hex, store_item_fn *fn, void *ctx,
		    struct err *e)
{
	char dir[STORE_PATH_MAX], meta[STORE_PATH_MAX], file[256];
	struct err ignored = ERR_NONE;
	struct store_item item = {0};
	int r;

	if ((r = store_path(dir, e, "%s/models/%s", s->root, hex)) < 0 ||
	    (r = store_path(meta, e, "%s/model.json", dir)) < 0)
		return r;
	if (store_meta_read(meta, &item.meta, &ignored) < 0)
		memset(&item.meta, 0, sizeof(item.meta));
	name_of(dir, &item.meta, file);
	r = store_blob(s, hex, file, &item.blob, e);
	if (r < 0)
		return r;
	item.state = store_state(&item.blob);
	item.in_use = store_in_use(&item.blob);
	measure(&item);
	return fn(ctx, &item, e);
}

static int by_hash(const struct dirent *d)
{
	uint8_t sha256[DIGEST_BYTES];

	return strlen(d->d_name) == DIGEST_HEX - 1 && digest_parse(d->d_name, sha256);
}

int store_each(const struct store *s, store_item_fn *fn, void *ctx, struct err *e)
{
	struct dirent **names = NULL;
	char path[STORE_PATH_MAX];
	int r = store_path(path, e, "%s/models", s->root);
	int n = r < 0 ? 0 : scandir(path, &names, by_hash, alphasort);

	if (n < 0)
		return err_set(e, EXIT_INTERNAL, "reading %s: %s", path, strerror(errno));
	for (int i = 0; i < n; i++) {
		if (r == 0)
			r = one_item(s, names[i]->d_name, fn, ctx, e);
		free(names[i]);
	}
	free(names);
	return r;
}

/* ---- deleting ---------------------------------------------------------------------------- */

static int64_t delete_file(const char *path, struct err *e)
{
	struct stat st;

	if (lstat(path, &st) != 0)
		return 0;
	if (unlink(path) != 0)
		return err_set(e, EXIT_INTERNAL, "deleting %s: %s", path, strerror(errno));
	return st.st_nlink > 1 ? 0 : (int64_t)st.st_blocks * 512;
}

static int64_t delete_tree(const char *path, int depth, struct err *e)
{
	DIR *d = depth > TREE_DEPTH_MAX ? NULL : opendir(path);
	struct dirent *f;
	int64_t freed = 0;

	while (d && freed >= 0 && (f = readdir(d))) {
		char inner[STORE_PATH_MAX];
		struct stat st;
		int64_t n;

		if (strcmp(f->d_name, ".") == 0 || strcmp(f->d_name, "..") == 0)
			continue;
		n = store_path(inner, e, "%s/%s", path, f->d_name);
		if (n == 0 && lstat(inner, &st) == 0)
			n = S_ISDIR(st.st_mode) ? delete_tree(inner, depth + 1, e)
						: delete_file(inner, e);
		freed = n < 0 ? n : freed + n;
	}
	if (d)
		closedir(d);
	if (d && freed >= 0)
		rmdir(path);
	return freed;
}

static int64_t delete_leftovers(const struct store_blob *b, struct err *e)
{
	DIR *d = opendir(b->dir);
	struct dirent *f;
	int64_t freed = 0;

	while (d && freed >= 0 && (f = readdir(d))) {
		char path[STORE_PATH_MAX];
		int64_t n;

		if (!is_leftover(f->d_name))
			continue;
		n = store_path(path, e, "%s/%s", b->dir, f->d_name);
		if (n == 0)
			n = strcmp(f->d_name, "files.unpacking") == 0 ? delete_tree(path, 0, e)
								      : delete_file(path, e);
		freed = n < 0 ? n : freed + n;
	}
	if (d)
		closedir(d);
	return freed;
}

int64_t store_delete(const struct store_blob *b, bool only_partial, struct err *e)
{
	const char *const all[] = {b->part, b->journal, b->path, b->meta, b->lease};
	char files[STORE_PATH_MAX];
	int64_t freed = delete_leftovers(b, e);

	if (freed < 0)
		return freed;

	for (int i = 0; i < (only_partial ? 2 : 5); i++) {
		int64_t n = delete_file(all[i], e);

		if (n < 0)
			return n;
		freed += n;
	}
	if (!only_partial) {
		int64_t n = store_path(files, e, "%s/files", b->dir);

		if (n == 0)
			n = delete_tree(files, 0, e);
		if (n < 0)
			return n;
		freed += n;
	}
	rmdir(b->dir); /* stays when a file of somebody else's is in it */
	return freed;
}
