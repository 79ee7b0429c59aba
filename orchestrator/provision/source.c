#include "source.h"

#include "digest_git.h"
#include "hub.h"
#include "lock_file.h"
#include "paths.h"
#include "source_archive.h"
#include "unpack_source.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_BYTES_MAX = 16 << 20, MODULES_BYTES_MAX = 64 << 10, DEPTH_MAX = 4 };

struct job {
	struct source *out;
	const struct lock_entry *x;
	const struct source_options *o;
	char work[PATH_MAX], tree[PATH_MAX];
	int lock_fd, n_clones;
	enum clone_answer ranges[LOCK_PATCHES_MAX];
	struct err *e;
};

static void note(const struct job *j, const char *line)
{
	if (j->o->note)
		j->o->note(j->o->ctx, line);
}

static void append(char *out, size_t size, const char *fmt, const char *a, const char *b)
{
	size_t n = strlen(out);

	snprintf(out + n, size - n, fmt, a, b);
}

/* ---- patches and generated files ---------------------------------------------------------- */

/*
 * The first place of `find` where the edit has not been made: one inside what it would be replaced by
 * has been. (bitnet.cpp has the replacement elsewhere in the same file, too.) NULL: none.
 */
static const char *unedited(const char *text, const struct lock_edit *d)
{
	size_t n = strlen(d->replace);

	for (const char *hit = strstr(text, d->find); hit; hit = strstr(hit + 1, d->find)) {
		bool made = false;

		for (const char *in = strstr(d->replace, d->find); in && !made;
		     in = strstr(in + 1, d->find))
			made = hit - text >= in - d->replace &&
			       strncmp(hit - (in - d->replace), d->replace, n) == 0;
		if (!made)
			return hit;
	}
	return NULL;
}

static int edit_file(const char *dir, const struct lock_patch *p, const struct lock_edit *d,
		     bool must, int *edits, struct err *e)
{
	size_t find = strlen(d->find), n, replace = strlen(d->replace), at;
	char path[PATH_MAX], *text = NULL, *made;
	const char *hit;
	struct stat st;
	int r = paths_format(path, sizeof(path), e, "%s/%s", dir, d->file);

	if (r < 0)
		return r;
	if (lstat(path, &st) != 0 || !S_ISREG(st.st_mode))
		return must ? err_set(e, EXIT_REFERENCE_BUILD, "patch %s: %s is not there", p->name,
				      d->file)
			    : 0;
	r = paths_read(&text, &n, path, FILE_BYTES_MAX, e);
	if (r < 0)
		return r;
	hit = unedited(text, d);
	if (!hit) {
		r = 0;
		if (must && !strstr(text, d->replace))
			r = err_set(e, EXIT_REFERENCE_BUILD,
				    "patch %s does not fit: %s has no \"%.100s\"", p->name, d->file,
				    d->find);
		free(text);
		return r;
	}
	made = malloc(n + replace + 1);
	assert(made);
	at = (size_t)(hit - text);
	memcpy(made, text, at);
	memcpy(made + at, d->replace, replace);
	memcpy(made + at + replace, hit + find, n - at - find);
	r = paths_write(path, made, n - find + replace, e);
	free(made);
	free(text);
	*edits += r == 0;
	return r;
}

int source_patch(const char *dir, const struct lock_patch *p, enum clone_answer answer, char *what,
		 size_t size, struct err *e)
{
	int edits = 0, r = 0;

	if (answer == CLONE_NO) {
		snprintf(what, size, "left out (commit is outside %s…%s)", p->from ? p->from : "",
			 p->until ? p->until : "");
		return 0;
	}
	for (int i = 0; r == 0 && i < p->n_edits; i++)
		r = edit_file(dir, p, &p->edits[i], answer == CLONE_YES, &edits, e);
	snprintf(what, size, edits ? "applied" : "left out (not needed: %s)",
		 answer == CLONE_YES ? "already in the tree" : "its text is not in the tree");
	return r;
}

static int make_file(struct job *j, const struct lock_file *f)
{
	char path[PATH_MAX], from[PATH_MAX], dir[PATH_MAX], *text = NULL;
	size_t n = f->text ? strlen(f->text) : 0;
	int r;

	if ((r = paths_format(path, sizeof(path), j->e, "%s/%s", j->tree, f->path)) < 0)
		return r;
	if (paths_exists(path))
		return 0;
	if (f->copy_of) {
		r = paths_format(from, sizeof(from), j->e, "%s/%s", j->tree, f->copy_of);
		if (r == 0)
			r = paths_read(&text, &n, from, FILE_BYTES_MAX, j->e);
		if (r < 0)
			return err_prefix(j->e, "making %s", f->path);
	}
	snprintf(dir, sizeof(dir), "%s", path);
	*strrchr(dir, '/') = '\0';
	r = paths_mkdir(dir, j->e);
	if (r == 0)
		r = paths_write(path, f->text ? f->text : text, n, j->e);
	free(text);
	if (r == 0)
		append(j->out->patches, sizeof(j->out->patches), "%s: made%s\n", f->path, "");
	return r;
}

static int patch_all(struct job *j)
{
	char what[200];
	int r = 0;

	for (int i = 0; r == 0 && i < j->x->n_patches; i++) {
		r = source_patch(j->tree, &j->x->patches[i], j->ranges[i], what, sizeof(what),
				 j->e);
		append(j->out->patches, sizeof(j->out->patches), "%s: %s\n", j->x->patches[i].name,
		       what);
	}
	for (int i = 0; r == 0 && i < j->x->n_files; i++)
		r = make_file(j, &j->x->files[i]);
	return r;
}

/* ---- repositories and their submodules ---------------------------------------------------- */

static const struct lock_submodule *locked(const struct job *j, const char *path)
{
	for (int i = 0; i < j->x->n_submodules; i++)
		if (strcmp(j->x->submodules[i].path, path) == 0)
			return &j->x->submodules[i];
	return NULL;
}

/* The same repository, written with or without ".git" or a slash at its end. */
static bool same_url(const char *a, const char *b)
{
	size_t na = strlen(a), nb = strlen(b);

	while (na && a[na - 1] == '/')
		na--;
	while (nb && b[nb - 1] == '/')
		nb--;
	if (na > 4 && memcmp(a + na - 4, ".git", 4) == 0)
		na -= 4;
	if (nb > 4 && memcmp(b + nb - 4, ".git", 4) == 0)
		nb -= 4;
	return na == nb && memcmp(a, b, na) == 0;
}

static bool url_allowed(const struct job *j, const struct lock_submodule *s, const char *url)
{
	if (same_url(s->url, url))
		return true;
	for (int i = 0; i < j->x->n_urls; i++)
		if (same_url(j->x->urls[i], url))
			return true;
	return false;
}

static const char *overridden(const struct job *j, const char *path)
{
	size_t n = strlen(path);

	for (int i = 0; i < j->o->n_submodules; i++)
		if (strncmp(j->o->submodules[i], path, n) == 0 && j->o->submodules[i][n] == '=')
			return j->o->submodules[i] + n + 1;
	return NULL;
}

/* What .gitmodules of this folder says must be harmless, and as locked. */
static int check_modules(struct job *j, const char *rel)
{
	struct clone_module *modules;
	char path[PATH_MAX], full[1100], *text = NULL;
	struct stat st;
	int n = 0, r;

	r = paths_format(path, sizeof(path), j->e, "%s%s%s/.gitmodules", j->tree, *rel ? "/" : "",
			 rel);
	if (r < 0 || lstat(path, &st) != 0)
		return r;
	if (!S_ISREG(st.st_mode))
		return err_set(j->e, EXIT_HASH_MISMATCH, "%s/.gitmodules is not a file", rel);
	r = paths_read(&text, NULL, path, MODULES_BYTES_MAX, j->e);
	if (r < 0)
		return r;
	modules = calloc(CLONE_LINKS_MAX, sizeof(*modules));
	assert(modules);
	r = clone_modules_parse(text, modules, CLONE_LINKS_MAX, &n, j->e);
	for (int i = 0; r == 0 && i < n; i++) {
		const struct lock_submodule *s;

		snprintf(full, sizeof(full), "%s%s%s", rel, *rel ? "/" : "", modules[i].path);
		s = locked(j, full);
		if (s && !url_allowed(j, s, modules[i].url))
			r = err_set(
				j->e, EXIT_HASH_MISMATCH,
				"submodule %s drifted from the lock: its URL is %s, the lock allows %s",
				full, modules[i].url, s->url);
	}
	free(modules);
	free(text);
	return r < 0 ? err_prefix(j->e, "%s", j->x->name) : 0;
}

static int get_repository(struct job *j, const char *rel, const char *url, const char *commit,
			  const char *tree, const char *ref, int depth);

static int get_submodule(struct job *j, const char *path, const char *commit, int depth)
{
	const struct lock_submodule *s = locked(j, path);
	const char *url;
	char line[1024];

	if (!s && !j->o->rev)
		return err_set(j->e, EXIT_HASH_MISMATCH,
			       "%s: the tree has a submodule %s at %s that the lock does not name",
			       j->x->name, path, commit);
	if (!s || s->skip) {
		snprintf(line, sizeof(line), "submodule %s is left empty: %s", path,
			 s ? s->skip : "the lock does not know it");
		note(j, line);
		append(j->out->submodules, sizeof(j->out->submodules), "%s %s (empty)\n", path,
		       commit);
		return 0;
	}
	if (strcmp(s->commit, commit) != 0) {
		if (!j->o->rev)
			return err_set(
				j->e, EXIT_HASH_MISMATCH,
				"submodule %s drifted from the lock: the tree wants %s, the lock "
				"pins %s",
				path, commit, s->commit);
		j->out->pinned = false;
	}
	url = overridden(j, path);
	append(j->out->submodules, sizeof(j->out->submodules), "%s %s\n", path, commit);
	return get_repository(j, path, url ? url : s->url, commit,
			      strcmp(s->commit, commit) == 0 ? s->tree : NULL, NULL, depth + 1);
}

static int verify_tree(struct job *j, const char *dest, const struct clone_result *got)
{
	struct digest_git_link links[CLONE_LINKS_MAX];
	char hex[41];
	int r;

	for (int i = 0; i < got->n_links; i++)
		links[i] = (struct digest_git_link){got->links[i].path, got->links[i].commit};
	r = digest_git_tree(dest, links, got->n_links, hex, j->e);
	if (r == 0 && strcmp(hex, got->tree) != 0)
		r = err_set(j->e, EXIT_HASH_MISMATCH,
			    "%s: what was written to disk has tree %s, the commit has %s",
			    j->x->name, hex, got->tree);
	return r;
}

static void ask_ranges(struct job *j, struct clone_request *q, const char *rel, int *asked)
{
	for (int i = 0; i < j->x->n_patches && q->n_ranges < CLONE_RANGES_MAX; i++) {
		const struct lock_patch *p = &j->x->patches[i];

		if (strcmp(p->repository, rel) != 0 || (!p->from && !p->until))
			continue;
		asked[q->n_ranges] = i;
		q->ranges[q->n_ranges].from = p->from;
		q->ranges[q->n_ranges++].until = p->until;
	}
}

static int get_repository(struct job *j, const char *rel, const char *url, const char *commit,
			  const char *tree, const char *ref, int depth)
{
	struct clone_request q = {.what = *rel ? rel : j->x->name, .url = url, .ref = ref,
				  .commit = commit, .tree = tree, .keep_fd = j->lock_fd,
				  .with_git = j->o->with_git, .progress = j->o->progress,
				  .note = j->o->note, .ctx = j->o->ctx};
	char work[PATH_MAX], dest[PATH_MAX], path[1100];
	struct clone_result *got = calloc(1, sizeof(*got));
	int asked[CLONE_RANGES_MAX], r;

	assert(got);
	q.any_commit = !*rel && j->o->rev && !references_lock_commit_ok(j->o->rev);
	r = depth > DEPTH_MAX
		    ? err_set(j->e, EXIT_HASH_MISMATCH, "submodules are nested too deeply")
		    : 0;
	if (r == 0)
		r = paths_format(work, sizeof(work), j->e, "%s/objects-%d", j->work, j->n_clones++);
	if (r == 0)
		r = paths_format(dest, sizeof(dest), j->e, "%s%s%s", j->tree, *rel ? "/" : "", rel);
	if (r < 0)
		goto out;
	q.work = work;
	q.dest = dest;
	for (const char *p = rel; *p; p++)
		q.depth += p == rel || *p == '/';
	ask_ranges(j, &q, rel, asked);
	r = clone_run(&q, got, j->e);
	if (r == 0)
		r = verify_tree(j, dest, got);
	if (r < 0)
		goto out;
	for (int i = 0; i < q.n_ranges; i++)
		j->ranges[asked[i]] = q.ranges[i].answer;
	j->out->clone_ms += got->ms;
	j->out->clone_bytes += got->bytes;
	j->out->clone_objects += got->objects;
	snprintf(j->out->layers, sizeof(j->out->layers), "%s", got->layers);
	if (!*rel) {
		memcpy(j->out->commit, got->commit, sizeof(got->commit));
		memcpy(j->out->tree, got->tree, sizeof(got->tree));
		snprintf(j->out->url, sizeof(j->out->url), "%s", got->url);
	}
	r = check_modules(j, rel);
	for (int i = 0; r == 0 && i < got->n_links; i++) {
		snprintf(path, sizeof(path), "%s%s%s", rel, *rel ? "/" : "", got->links[i].path);
		r = get_submodule(j, path, got->links[i].commit, depth);
	}
out:
	free(got);
	return r;
}

/* A locked submodule that the tree does not have as one (it is vendored there): said, not hidden. */
static int check_all_submodules(struct job *j)
{
	char line[1024], path[PATH_MAX];

	for (int i = 0; i < j->x->n_submodules; i++) {
		const struct lock_submodule *s = &j->x->submodules[i];

		if (s->skip || strstr(j->out->submodules, s->path))
			continue;
		if (paths_format(path, sizeof(path), j->e, "%s/%s", j->tree, s->path) < 0)
			return -j->e->code;
		if (!j->o->rev)
			return err_set(
				j->e, EXIT_HASH_MISMATCH,
				"%s: the lock pins submodule %s at %s, the tree has none there",
				j->x->name, s->path, s->commit);
		j->out->pinned = false;
		snprintf(line, sizeof(line), "submodule %s: %s", s->path,
			 paths_exists(path)
				 ? "its files are part of this tree, not the locked commit"
				 : "not in this tree");
		note(j, line);
	}
	return 0;
}

/* ---- the kept tree ------------------------------------------------------------------------ */

static void source_key(const struct job *j, const char *commit, char hex[65])
{
	struct digest_key *k = digest_key_new();
	const struct lock_entry *x = j->x;

	/* counts up when the same patches make another tree */
	digest_key_text(k, "assay source 3");
	digest_key_text(k, commit);
	digest_key_text(k, j->o->rev ? j->o->repo : NULL);
	for (int i = 0; i < x->n_submodules; i++) {
		digest_key_text(k, x->submodules[i].path);
		digest_key_text(k, x->submodules[i].commit);
	}
	for (int i = 0; i < x->n_patches; i++) {
		digest_key_text(k, x->patches[i].sha256);
		digest_key_text(k, x->patches[i].from);
		digest_key_text(k, x->patches[i].until);
	}
	for (int i = 0; i < x->n_files; i++) {
		digest_key_text(k, x->files[i].path);
		digest_key_text(k, x->files[i].copy_of);
		digest_key_text(k, x->files[i].text);
	}
	digest_key_finish(k, hex);
}

/* Of the tree as written, links too; 0 where it cannot be read. */
static json_int_t count_files(const char *dir, int depth)
{
	DIR *list = depth < 64 ? opendir(dir) : NULL;
	const struct dirent *d;
	json_int_t n = 0;

	while (list && (d = readdir(list))) {
		char path[PATH_MAX];
		struct stat st;

		if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
			continue;
		snprintf(path, sizeof(path), "%.3800s/%.255s", dir, d->d_name);
		if (lstat(path, &st) == 0)
			n += S_ISDIR(st.st_mode) ? count_files(path, depth + 1) : 1;
	}
	if (list)
		closedir(list);
	return n;
}

static int save_record(const struct job *j, const char *dir)
{
	const struct source *s = j->out;
	json_t *o = json_pack(
		"{s:I s:s s:s s:s s:s s:s s:s s:b s:I s:I s:I}", "files", count_files(j->tree, 0),
		"commit", s->commit, "tree", s->tree,
		"url", s->url, "submodules", s->submodules, "patches", s->patches, "sandbox",
		s->layers, "pinned", s->pinned, "clone_ms", (json_int_t)s->clone_ms, "clone_bytes",
		(json_int_t)s->clone_bytes, "clone_objects", (json_int_t)s->clone_objects);
	char path[PATH_MAX], *text = json_dumps(o, JSON_INDENT(2) | JSON_SORT_KEYS);
	int r = paths_format(path, sizeof(path), j->e, "%s/source.json", dir);

	if (r == 0)
		r = paths_write(path, text, strlen(text), j->e);
	free(text);
	json_decref(o);
	return r;
}

/* Files that went since: the tree is not the one that was checked. */
static bool tree_is_whole(const struct job *j, const json_t *record, const char *dir, bool say)
{
	json_int_t files = json_integer_value(json_object_get(record, "files"));
	char path[PATH_MAX + 16], line[PATH_MAX + 100];
	json_int_t now;

	snprintf(path, sizeof(path), "%s/tree", dir);
	now = count_files(path, 0);
	if (now > 0 && (files == 0 || now == files))
		return true;
	snprintf(line, sizeof(line), "%s: the sources here are damaged (%lld of %lld files in %s): they are "
		 "fetched anew", j->x->name, (long long)now, (long long)files, path);
	if (say)
		note(j, line);
	return false;
}

static bool load_record(const struct job *j, struct source *s, const char *dir, bool say)
{
	const char *commit, *tree, *url, *subs, *patches, *layers;
	char path[PATH_MAX + 16];
	json_int_t ms, bytes, objects;
	int pinned;
	json_t *o;
	bool ok;

	snprintf(path, sizeof(path), "%s/source.json", dir);
	o = json_load_file(path, 0, NULL);
	ok = o && json_unpack(o, "{s:s s:s s:s s:s s:s s:s s:b s:I s:I s:I}", "commit", &commit,
			      "tree", &tree, "url", &url, "submodules", &subs, "patches", &patches,
			      "sandbox", &layers, "pinned", &pinned, "clone_ms", &ms, "clone_bytes",
			      &bytes, "clone_objects", &objects) == 0;
	ok = ok && tree_is_whole(j, o, dir, say);
	if (ok) {
		snprintf(s->commit, sizeof(s->commit), "%s", commit);
		snprintf(s->tree, sizeof(s->tree), "%s", tree);
		snprintf(s->url, sizeof(s->url), "%s", url);
		snprintf(s->submodules, sizeof(s->submodules), "%s", subs);
		snprintf(s->patches, sizeof(s->patches), "%s", patches);
		snprintf(s->layers, sizeof(s->layers), "%s", layers);
		s->pinned = pinned;
		s->clone_ms = (long)ms;
		s->clone_bytes = (unsigned long long)bytes;
		s->clone_objects = (unsigned long long)objects;
	}
	json_decref(o);
	return ok;
}

/* The file of the archive: here already, or downloaded beside the work. */
static int find_archive(struct job *j, const char *from, char *dir, char *path)
{
	int r = paths_format(dir, PATH_MAX, j->e, "%s-archive", j->work);

	if (r < 0 || !source_archive_is_url(from))
		return r < 0 ? r : paths_format(path, PATH_MAX, j->e, "%s", from);
	return source_archive_fetch(from, dir, j->o->note, j->o->ctx, path, PATH_MAX, j->e);
}

/* The root from a tarball; its submodules, which no tarball has, are cloned as ever. */
static int get_archive(struct job *j)
{
	struct digest_git_link links[LOCK_SUBMODULES_MAX];
	struct source *s = j->out;
	char hex[41] = "", from[HUB_URL_MAX], dir[PATH_MAX], path[PATH_MAX];
	struct err ignored;
	int n = 0, r;

	if (!j->x->tree || j->o->rev)
		return err_set(j->e, EXIT_USAGE,
			       "%s: an archive is only accepted where the lock knows its tree hash",
			       j->x->name);
	for (int i = 0; i < j->x->n_submodules; i++)
		if (j->x->submodules[i].commit)
			links[n++] = (struct digest_git_link){j->x->submodules[i].path,
							      j->x->submodules[i].commit};
	r = j->o->archive ? paths_format(from, sizeof(from), j->e, "%s", j->o->archive)
			  : source_archive_url(j->x, from, sizeof(from), j->e);
	if (r == 0)
		r = find_archive(j, from, dir, path);
	if (r < 0)
		return r;
	r = unpack_source(path, j->tree, links, n, hex, j->e);
	paths_remove(dir, &ignored);
	if (r == 0 && strcmp(hex, j->x->tree) != 0)
		r = err_set(j->e, EXIT_HASH_MISMATCH,
			    "%s holds the tree %s, the lock pins tree %s: not the pinned source",
			    from, hex, j->x->tree);
	if (r < 0)
		return r;
	snprintf(s->commit, sizeof(s->commit), "%s", j->x->commit);
	snprintf(s->tree, sizeof(s->tree), "%s", j->x->tree);
	hub_public_url(from, s->url, sizeof(s->url));
	r = check_modules(j, "");
	for (int i = 0; r == 0 && i < n; i++)
		r = get_submodule(j, links[i].path, links[i].commit, 0);
	return r;
}

static int get_root(struct job *j)
{
	const char *commit = j->o->rev ? j->o->rev : j->x->commit;
	const char *url = j->o->repo ? j->o->repo : j->x->url;
	const char *ref = j->o->rev ? NULL : j->x->ref;

	if (j->o->archive || j->o->from_archive)
		return get_archive(j);
	return get_repository(j, "", url, commit, j->o->rev ? NULL : j->x->tree, ref, 0);
}

static int get_all(struct job *j)
{
	struct err ignored;
	int r;

	if ((r = paths_remove(j->work, j->e)) < 0 || (r = paths_mkdir(j->work, j->e)) < 0)
		return r;
	if ((r = get_root(j)) < 0 || (r = check_all_submodules(j)) < 0 || (r = patch_all(j)) < 0)
		paths_remove(j->work, &ignored);
	return r;
}

static int make_tree(struct job *j, const char *root)
{
	char final[PATH_MAX], line[512], key[65];
	int r = get_all(j);

	if (r < 0)
		return r;
	source_key(j, j->out->commit, key);
	memcpy(j->out->key, key, sizeof(key));
	if (!j->out->pinned) {
		snprintf(line, sizeof(line),
			 "%s: not the pinned source: commit %s, the lock pins %s", j->x->name,
			 j->out->commit, j->x->commit);
		note(j, line);
	}
	for (int i = 0; i < j->n_clones; i++) {
		char objects[PATH_MAX + 64];

		snprintf(objects, sizeof(objects), "%s/objects-%d", j->work, i);
		if ((r = paths_remove(objects, j->e)) < 0)
			return r;
	}
	if ((r = save_record(j, j->work)) < 0 ||
	    (r = paths_format(final, sizeof(final), j->e, "%s/sources/%s", root, key)) < 0)
		return r;
	if (!load_record(j, &(struct source){0}, final, false) &&
	    (r = paths_remove(final, j->e)) < 0)
		return r;	/* a damaged one would stay in its place */
	if (rename(j->work, final) != 0 && errno != EEXIST && errno != ENOTEMPTY)
		return paths_errno(j->e, "installing", final);
	j->out->fresh = true;
	return paths_remove(j->work, j->e);
}

/* An override of what is no submodule here would be ignored in silence. */
static int check_overrides(const struct job *j)
{
	char known[400] = "";

	for (int i = 0; i < j->x->n_submodules; i++)
		append(known, sizeof(known), "%s%s", i ? ", " : "", j->x->submodules[i].path);
	for (int i = 0; i < j->o->n_submodules; i++) {
		const char *given = j->o->submodules[i], *eq = strchr(given, '=');
		char path[PATH_MAX];

		if (!eq || eq == given || !eq[1])
			return err_set(j->e, EXIT_USAGE,
				       "--submodule %s: expected PATH=URL, as in --submodule "
				       "3rdparty/llama.cpp=/srv/llama.cpp.git", given);
		snprintf(path, sizeof(path), "%.*s", (int)(eq - given), given);
		if (!locked(j, path))
			return err_set(j->e, EXIT_USAGE, "--submodule %s: %s has no submodule %s; it has %s",
				       given, j->x->name, path, *known ? known : "none");
	}
	return 0;
}

int source_get(struct source *out, const char *root, const struct lock_entry *x,
	       const struct source_options *o, struct err *e)
{
	struct job j = {.out = out, .x = x, .o = o, .e = e, .lock_fd = -1};
	const char *commit = o->rev ? o->rev : x->commit;
	char dir[PATH_MAX], path[PATH_MAX];
	int r;

	memset(out, 0, sizeof(*out));
	if ((r = check_overrides(&j)) < 0)
		return r;
	out->pinned = !o->rev || strcmp(o->rev, x->commit) == 0;
	source_key(&j, commit, out->key);
	if ((r = paths_format(dir, sizeof(dir), e, "%s/sources", root)) < 0 ||
	    (r = paths_mkdir(dir, e)) < 0 ||
	    (r = paths_format(path, sizeof(path), e, "%s/%s.lock", dir, out->key)) < 0 ||
	    (r = paths_format(j.work, sizeof(j.work), e, "%s/work/source-%.16s", root, out->key)) <
		    0 ||
	    (r = paths_format(j.tree, sizeof(j.tree), e, "%s/tree", j.work)) < 0)
		return r;
	j.lock_fd = lock_file_take(path, o->note, o->ctx, e);
	if (j.lock_fd < 0)
		return j.lock_fd;
	snprintf(dir, sizeof(dir), "%s/sources/%s", root, out->key);
	if (!references_lock_commit_ok(commit) || !load_record(&j, out, dir, true))
		r = make_tree(&j, root);
	if (r == 0 && !o->rev && x->tree && strcmp(out->tree, x->tree) != 0)
		r = err_set(e, EXIT_HASH_MISMATCH, "commit %s has tree %s, the lock says %s",
			    out->commit, out->tree, x->tree);
	lock_file_drop(j.lock_fd);
	if (r == 0)
		r = paths_format(out->dir, sizeof(out->dir), e, "%s/sources/%s/tree", root,
				 out->key);
	return r;
}
