#include "digest_git.h"

#include "paths.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEPTH_MAX = 64, ENTRIES_MAX = 200000 };

struct digest_key {
	EVP_MD_CTX *md;
};

struct digest_key *digest_key_new(void)
{
	struct digest_key *k = malloc(sizeof(*k));

	assert(k);
	k->md = EVP_MD_CTX_new();
	assert(k->md);
	EVP_DigestInit_ex(k->md, EVP_sha256(), NULL);
	return k;
}

void digest_key_bytes(struct digest_key *k, const void *bytes, size_t n)
{
	EVP_DigestUpdate(k->md, bytes, n);
}

void digest_key_text(struct digest_key *k, const char *text)
{
	digest_key_bytes(k, text ? text : "", text ? strlen(text) + 1 : 1);
}

static void to_hex(const unsigned char *d, int n, char *hex)
{
	for (int i = 0; i < n; i++)
		snprintf(hex + 2 * i, 3, "%02x", d[i]);
}

void digest_key_finish(struct digest_key *k, char hex[65])
{
	unsigned char d[32];

	EVP_DigestFinal_ex(k->md, d, NULL);
	to_hex(d, 32, hex);
	EVP_MD_CTX_free(k->md);
	free(k);
}

static int hash_file(EVP_MD_CTX *md, int fd, const char *path, struct err *e)
{
	static const size_t bytes = 1 << 16;
	char *buf = malloc(bytes);
	ssize_t n;

	assert(buf);
	while ((n = read(fd, buf, bytes)) > 0)
		EVP_DigestUpdate(md, buf, (size_t)n);
	free(buf);
	return n < 0 ? paths_errno(e, "reading", path) : 0;
}

int digest_key_file(const char *path, char hex[65], struct err *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), r;
	unsigned char d[32];
	EVP_MD_CTX *md;

	if (fd < 0)
		return paths_errno(e, "opening", path);
	md = EVP_MD_CTX_new();
	EVP_DigestInit_ex(md, EVP_sha256(), NULL);
	r = hash_file(md, fd, path, e);
	close(fd);
	EVP_DigestFinal_ex(md, d, NULL);
	EVP_MD_CTX_free(md);
	if (r == 0)
		to_hex(d, 32, hex);
	return r;
}

struct item {
	char *name;
	const char *mode;
	unsigned char id[20];
};

struct walk {
	const struct digest_git_link *links;
	int n_links;
	struct err *e;
};

static int object_id(const char *type, const void *bytes, size_t n, unsigned char id[20])
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	char head[64];
	int h = snprintf(head, sizeof(head), "%s %zu", type, n);

	EVP_DigestInit_ex(md, EVP_sha1(), NULL);
	EVP_DigestUpdate(md, head, (size_t)h + 1);
	EVP_DigestUpdate(md, bytes, n);
	EVP_DigestFinal_ex(md, id, NULL);
	EVP_MD_CTX_free(md);
	return 0;
}

static int blob_id(int dir, const char *name, const struct stat *st, unsigned char id[20],
		   struct err *e)
{
	char head[64];
	int h = snprintf(head, sizeof(head), "blob %lld", (long long)st->st_size);
	int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), r;
	EVP_MD_CTX *md;

	if (fd < 0)
		return paths_errno(e, "opening", name);
	md = EVP_MD_CTX_new();
	EVP_DigestInit_ex(md, EVP_sha1(), NULL);
	EVP_DigestUpdate(md, head, (size_t)h + 1);
	r = hash_file(md, fd, name, e);
	EVP_DigestFinal_ex(md, id, NULL);
	EVP_MD_CTX_free(md);
	close(fd);
	return r;
}

/* Git compares names as bytes, a folder's with a slash behind it. */
static int by_git_order(const void *pa, const void *pb)
{
	const struct item *a = pa, *b = pb;
	size_t na = strlen(a->name), nb = strlen(b->name), n = na < nb ? na : nb;
	int d = memcmp(a->name, b->name, n);
	unsigned char ca, cb;

	if (d)
		return d;
	ca = na > n ? (unsigned char)a->name[n] : (a->mode[0] == '4' ? '/' : 0);
	cb = nb > n ? (unsigned char)b->name[n] : (b->mode[0] == '4' ? '/' : 0);
	return (ca > cb) - (ca < cb);
}

static int finish_tree(struct item *items, size_t n, unsigned char id[20])
{
	size_t bytes = 0, at = 0;
	char *tree;

	qsort(items, n, sizeof(*items), by_git_order);
	for (size_t i = 0; i < n; i++)
		bytes += strlen(items[i].mode) + 1 + strlen(items[i].name) + 1 + 20;
	tree = malloc(bytes + 1);
	assert(tree);
	for (size_t i = 0; i < n; i++) {
		at += (size_t)sprintf(tree + at, "%s %s", items[i].mode, items[i].name) + 1;
		memcpy(tree + at, items[i].id, 20);
		at += 20;
	}
	object_id("tree", tree, at, id);
	free(tree);
	return 0;
}

static const char *link_at(const struct walk *w, const char *rel)
{
	for (int i = 0; i < w->n_links; i++)
		if (strcmp(w->links[i].path, rel) == 0)
			return w->links[i].commit;
	return NULL;
}

static int walk_tree(struct walk *w, int dir, const char *rel, int depth, unsigned char id[20],
		     bool *empty);

/* 1 when the item counts, 0 when it does not (an empty folder). */
static int walk_item(struct walk *w, int dir, const char *path, struct item *it, int depth)
{
	const char *commit = link_at(w, path);
	struct stat st;
	int r;

	if (fstatat(dir, it->name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return paths_errno(w->e, "looking at", path);
	if (commit) {
		for (int i = 0; i < 20; i++) {
			unsigned v;

			if (sscanf(commit + 2 * i, "%2x", &v) != 1)
				return err_set(w->e, EXIT_INTERNAL, "commit %s is not hex", commit);
			it->id[i] = (unsigned char)v;
		}
		it->mode = "160000";
		return 1;
	}
	if (S_ISREG(st.st_mode)) {
		it->mode = st.st_mode & 0100 ? "100755" : "100644";
		r = blob_id(dir, it->name, &st, it->id, w->e);
	} else if (S_ISLNK(st.st_mode)) {
		char target[PATH_MAX];
		ssize_t n = readlinkat(dir, it->name, target, sizeof(target));

		if (n < 0)
			return paths_errno(w->e, "reading link", path);
		it->mode = "120000";
		r = object_id("blob", target, (size_t)n, it->id);
	} else if (S_ISDIR(st.st_mode)) {
		int sub = openat(dir, it->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		bool empty = false;

		if (sub < 0)
			return paths_errno(w->e, "opening folder", path);
		it->mode = "40000";
		r = walk_tree(w, sub, path, depth + 1, it->id, &empty);
		if (r == 0 && empty)
			return 0;
	} else {
		return err_set(w->e, EXIT_HASH_MISMATCH, "%s is neither file, link nor folder",
			       path);
	}
	return r < 0 ? r : 1;
}

/* Takes the descriptor. */
static int walk_tree(struct walk *w, int dir, const char *rel, int depth, unsigned char id[20],
		     bool *empty)
{
	struct item *items = NULL;
	size_t n = 0, cap = 0;
	struct dirent *d;
	DIR *list = fdopendir(dir);
	int r = 0;

	if (!list) {
		close(dir);
		return paths_errno(w->e, "reading folder", rel);
	}
	if (depth > DEPTH_MAX)
		r = err_set(w->e, EXIT_HASH_MISMATCH, "%s: folders are nested too deeply", rel);
	while (r >= 0 && (d = readdir(list))) {
		char path[PATH_MAX];

		if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
			continue;
		if (n == cap) {
			cap = cap ? 2 * cap : 64;
			items = cap > ENTRIES_MAX ? NULL : realloc(items, cap * sizeof(*items));
			assert(items);
		}
		items[n].name = strdup(d->d_name);
		r = paths_format(path, sizeof(path), w->e, "%s%s%s", rel, *rel ? "/" : "",
				 d->d_name);
		if (r == 0)
			r = walk_item(w, dir, path, &items[n], depth);
		if (r > 0)
			n++;
		else
			free(items[n].name);
	}
	closedir(list);
	if (r >= 0) {
		*empty = n == 0;
		r = finish_tree(items, n, id);
	}
	for (size_t i = 0; i < n; i++)
		free(items[i].name);
	free(items);
	return r;
}

int digest_git_tree(const char *dir, const struct digest_git_link *links, int n_links, char *hex,
		    struct err *e)
{
	struct walk w = {links, n_links, e};
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;
	unsigned char id[20];
	bool empty = false;

	if (fd < 0)
		return paths_errno(e, "opening folder", dir);
	r = walk_tree(&w, fd, "", 0, id, &empty);
	if (r == 0)
		to_hex(id, 20, hex);
	return r;
}
