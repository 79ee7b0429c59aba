#include "clone.h"

#include "paths.h"
#include "references_lock.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <git2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { REQUEST_BYTES_MAX = 64 << 10, PROGRESS_MS = 100 };

struct order {			/* the request as the child read it; borrows its text */
	const char *url, *ref, *commit, *tree, *work, *dest, *layers;
	const char *from[CLONE_RANGES_MAX], *until[CLONE_RANGES_MAX];
	int n_ranges, depth;
	bool any_commit, fetched;
};

struct child {
	struct order o;
	git_repository *repo;
	uint64_t last_ms, files, entries, bytes;
	struct err *e;
};

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* A mirror made with --filter or --depth, or a damaged one: trying again does not help. */
static int incomplete(struct child *c, const char *why)
{
	const char *hex = strchr(why, '(');
	int n = hex ? (int)strcspn(hex + 1, ")") : 0;

	return err_set(c->e, EXIT_REFERENCE_BUILD,
		       "%s is not whole: %s%.*s is not in it (a mirror made with --filter or --depth, "
		       "or a damaged one; git fsck --connectivity-only lists what it lacks). Complete it "
		       "with git fetch --refetch, name another one with --repo, or commit what it has "
		       "on a branch and name that with --rev",
		       c->o.url, n ? "object " : "an object", n, n ? hex + 1 : "");
}

/* Alternates lie outside of what the sandbox lets a clone of a local folder read. */
static int borrowed(struct child *c, const char *why)
{
	return err_set(c->e, EXIT_REFERENCE_BUILD,
		       "%s: %s. Nothing but the repository itself is read; when it borrows objects of "
		       "another one (objects/info/alternates), make it whole: git repack -a -d, then "
		       "remove that file; when its configuration includes a file elsewhere "
		       "(include.path), clone it with git clone --bare and name that",
		       c->o.url, why);
}

static int git_failed(struct child *c, const char *doing)
{
	const git_error *g = git_error_last();
	const char *why = g ? g->message : "unknown reason";
	bool local = c->o.url[0] == '/' || strncmp(c->o.url, "file://", 7) == 0;
	enum exit_code code = local ? EXIT_REFERENCE_BUILD : EXIT_NETWORK;

	if (g && g->klass == GIT_ERROR_ODB && strstr(why, "object not found"))
		return incomplete(c, why);
	if (local && strstr(why, "Permission denied"))
		return borrowed(c, why);
	if (errno == ENOSPC || errno == EFBIG || strstr(why, "No space") ||
	    strstr(why, "too large"))
		code = EXIT_NO_SPACE;
	else if (strstr(why, "authentication") || strstr(why, "401") || strstr(why, "403"))
		code = EXIT_AUTH;
	return err_set(c->e, code, "%s %s: %s", doing, c->o.url, why);
}

static bool due(struct child *c)
{
	uint64_t now = now_ms();

	if (now - c->last_ms < PROGRESS_MS)
		return false;
	c->last_ms = now;
	return true;
}

static int on_transfer(const git_indexer_progress *p, void *payload)
{
	struct child *c = payload;

	if (p->received_bytes > CLONE_BYTES_MAX || p->total_objects > CLONE_OBJECTS_MAX)
		return -1;
	if (due(c) || p->indexed_objects == p->total_objects)
		printf("objects %u %u %u %zu %u %u\n", p->received_objects, p->total_objects,
		       p->indexed_objects, p->received_bytes, p->indexed_deltas, p->total_deltas);
	fflush(stdout);
	return 0;
}

static int fetch_specs(struct child *c, git_remote *remote, char **specs, size_t n)
{
	git_fetch_options options;
	git_strarray list = {specs, n};

	git_fetch_options_init(&options, GIT_FETCH_OPTIONS_VERSION);
	options.callbacks.transfer_progress = on_transfer;
	options.callbacks.payload = c;
	options.download_tags = GIT_REMOTE_DOWNLOAD_TAGS_NONE;
	options.proxy_opts.type = GIT_PROXY_AUTO;
	return git_remote_fetch(remote, &list, &options, NULL);
}

static bool have_commit(struct child *c, const char *hex)
{
	git_commit *commit = NULL;
	git_oid id;
	bool there =
		git_oid_fromstr(&id, hex) == 0 && git_commit_lookup(&commit, c->repo, &id) == 0;

	git_commit_free(commit);
	return there;
}

static bool have_ref(struct child *c)
{
	git_oid id;

	return git_reference_name_to_id(&id, c->repo, c->o.ref) == 0;
}

/* The named ref where the repository has it, else all branches and tags. */
static int fetch(struct child *c)
{
	char *all[] = {"+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"};
	char spec[600];
	char *one[] = {spec};
	git_remote *remote = NULL;
	int r;

	if (git_remote_create_anonymous(&remote, c->repo, c->o.url) < 0)
		return git_failed(c, "opening");
	r = -1;
	if (*c->o.ref) {
		snprintf(spec, sizeof(spec), "+%s:%s", c->o.ref, c->o.ref);
		r = fetch_specs(c, remote, one, 1);
	}
	if (r < 0 || (*c->o.ref && !have_ref(c)))
		r = fetch_specs(c, remote, all, 2);
	git_remote_free(remote);
	return r < 0 ? git_failed(c, "fetching from") : 0;
}

/* A name of --rev: a commit, a branch or a tag. "" = the only or first branch. */
static int resolve(struct child *c, git_commit **out)
{
	const char *name = c->o.commit;
	git_object *found = NULL, *peeled = NULL;
	char full[512];
	int r = -1;

	for (int i = 0; i < 3 && r < 0; i++) {
		static const char *const forms[] = {"%s", "refs/heads/%s", "refs/tags/%s"};

		snprintf(full, sizeof(full), forms[i], name);
		r = git_revparse_single(&found, c->repo, full);
	}
	if (r == 0)
		r = git_object_peel(&peeled, found, GIT_OBJECT_COMMIT);
	git_object_free(found);
	if (r < 0)
		return err_set(c->e, EXIT_HASH_MISMATCH, "%s has no commit, branch or tag \"%s\"",
			       c->o.url, name);
	*out = (git_commit *)peeled;
	return 0;
}

static void tree_hex(const git_commit *commit, char hex[41])
{
	git_oid_tostr(hex, 41, git_commit_tree_id(commit));
}

/* Another commit with the locked tree is the same source: a tag rewritten, a squashed bundle. */
static int same_tree(struct child *c, git_commit **out)
{
	git_reference_iterator *it = NULL;
	git_reference *ref = NULL;
	char hex[41], other[41] = "";

	if (git_reference_iterator_new(&it, c->repo) < 0)
		return git_failed(c, "reading the branches of");
	while (!*out && git_reference_next(&ref, it) == 0) {
		git_object *o = NULL;

		if (git_reference_peel(&o, ref, GIT_OBJECT_COMMIT) == 0) {
			tree_hex((git_commit *)o, hex);
			git_oid_tostr(other, sizeof(other), git_object_id(o));
			if (*c->o.tree && strcmp(hex, c->o.tree) == 0) {
				*out = (git_commit *)o;
				o = NULL;
			}
		}
		git_object_free(o);
		git_reference_free(ref);
	}
	git_reference_iterator_free(it);
	if (*out)
		return 0;
	return err_set(
		c->e, EXIT_HASH_MISMATCH,
		"%s drifted from the lock: commit %s is pinned and not there; the repository "
		"has %s",
		c->o.url, c->o.commit, *other ? other : "no branch and no tag");
}

static int find_commit(struct child *c, git_commit **out)
{
	char hex[41];
	git_oid id;
	int r;

	if (c->o.any_commit)
		return resolve(c, out);
	if (!have_commit(c, c->o.commit))
		return same_tree(c, out);
	if (git_oid_fromstr(&id, c->o.commit) < 0 || git_commit_lookup(out, c->repo, &id) < 0)
		return git_failed(c, "reading the commit of");
	tree_hex(*out, hex);
	if (!*c->o.tree || strcmp(hex, c->o.tree) == 0)
		return 0;
	r = err_set(c->e, EXIT_HASH_MISMATCH, "commit %s has tree %s, the lock says %s",
		    c->o.commit, hex, c->o.tree);
	git_commit_free(*out);
	*out = NULL;
	return r;
}

/* ---- writing the tree ------------------------------------------------------------------- */

static bool name_ok(const char *name)
{
	return references_lock_path_ok(name) && !strchr(name, '/');
}

/*
 * A link must stay in the tree: relative, and never above its root. It may climb only before it
 * goes down: what it goes down through may be links itself, and behind those ".." is elsewhere.
 */
static bool link_ok(const char *target, size_t n, int depth)
{
	bool down = false;

	if (n == 0 || n > 1000 || target[0] == '/' || memchr(target, 0, n))
		return false;
	for (size_t i = 0; i < n;) {
		size_t len = 0;

		while (i + len < n && target[i + len] != '/')
			len++;
		if (len == 2 && target[i] == '.' && target[i + 1] == '.') {
			if (down || --depth < 0)
				return false;
		} else if (len > 0 && !(len == 1 && target[i] == '.')) {
			down = true;
		}
		i += len + 1;
	}
	return true;
}

static int write_file(struct child *c, int dir, const char *name, const void *bytes, size_t n,
		      mode_t mode)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	const char *p = bytes;

	if (fd < 0)
		return paths_errno(c->e, "creating", name);
	while (n > 0) {
		ssize_t w = write(fd, p, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0) {
			int r = paths_errno(c->e, "writing", name);

			close(fd);
			return r;
		}
		p += w;
		n -= (size_t)w;
	}
	return close(fd) == 0 ? 0 : paths_errno(c->e, "closing", name);
}

static int write_blob(struct child *c, int dir, const git_tree_entry *t, const char *path,
		      int depth)
{
	git_filemode_t mode = git_tree_entry_filemode(t);
	const char *name = git_tree_entry_name(t);
	git_blob *blob = NULL;
	size_t n;
	int r;

	if (git_blob_lookup(&blob, c->repo, git_tree_entry_id(t)) < 0)
		return git_failed(c, "reading a file of");
	n = (size_t)git_blob_rawsize(blob);
	c->bytes += n;
	c->files++;
	if (c->bytes > CLONE_BYTES_MAX) {
		r = err_set(c->e, EXIT_NO_SPACE, "%s: the tree has more than %llu bytes", c->o.url,
			    CLONE_BYTES_MAX);
	} else if (mode == GIT_FILEMODE_LINK) {
		char target[1024];

		r = 0;
		if (!link_ok(git_blob_rawcontent(blob), n, depth + c->o.depth))
			r = err_set(c->e, EXIT_HASH_MISMATCH, "link %s leaves the tree", path);
		else {
			memcpy(target, git_blob_rawcontent(blob), n);
			target[n] = '\0';
			if (symlinkat(target, dir, name) != 0)
				r = paths_errno(c->e, "creating link", path);
		}
	} else {
		r = write_file(c, dir, name, git_blob_rawcontent(blob), n,
			       mode == GIT_FILEMODE_BLOB_EXECUTABLE ? 0755 : 0644);
	}
	git_blob_free(blob);
	if (r == 0 && due(c)) {
		printf("files %llu 0\n", (unsigned long long)c->files);
		fflush(stdout);
	}
	return r;
}

static int write_tree(struct child *c, int dir, const git_oid *id, const char *rel, int depth);

static int write_entry(struct child *c, int dir, const git_tree_entry *t, const char *rel,
		       int depth)
{
	const char *name = git_tree_entry_name(t);
	char path[PATH_MAX], hex[41];
	int sub, r;

	r = paths_format(path, sizeof(path), c->e, "%s%s%s", rel, *rel ? "/" : "", name);
	if (r < 0)
		return r;
	/* ".gitattributes" and the like are plain files here; ".git" itself never is */
	if (!name_ok(name))
		return err_set(c->e, EXIT_HASH_MISMATCH, "the tree holds the name \"%s\"", path);
	if (++c->entries > CLONE_ENTRIES_MAX)
		return err_set(c->e, EXIT_NO_SPACE, "%s: the tree has more than %d files and folders",
			       c->o.url, CLONE_ENTRIES_MAX);
	switch (git_tree_entry_type(t)) {
	case GIT_OBJECT_BLOB:
		return write_blob(c, dir, t, path, depth);
	case GIT_OBJECT_COMMIT:
		git_oid_tostr(hex, sizeof(hex), git_tree_entry_id(t));
		printf("link %s %s\n", hex, path);
		return mkdirat(dir, name, 0755) == 0 ? 0 : paths_errno(c->e, "creating", path);
	case GIT_OBJECT_TREE:
		if (mkdirat(dir, name, 0755) != 0)
			return paths_errno(c->e, "creating", path);
		sub = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (sub < 0)
			return paths_errno(c->e, "opening", path);
		r = write_tree(c, sub, git_tree_entry_id(t), path, depth + 1);
		close(sub);
		return r;
	default:
		return err_set(c->e, EXIT_HASH_MISMATCH, "%s: unknown kind of tree entry", path);
	}
}

static int write_tree(struct child *c, int dir, const git_oid *id, const char *rel, int depth)
{
	git_tree *tree = NULL;
	int r = 0;

	if (depth > 60)
		return err_set(c->e, EXIT_HASH_MISMATCH, "%s: folders are nested too deeply", rel);
	if (git_tree_lookup(&tree, c->repo, id) < 0)
		return git_failed(c, "reading a folder of");
	for (size_t i = 0; r == 0 && i < git_tree_entrycount(tree); i++)
		r = write_entry(c, dir, git_tree_entry_byindex(tree, i), rel, depth);
	git_tree_free(tree);
	return r;
}

static int check_out(struct child *c, const git_commit *commit)
{
	int dir, r;

	if (mkdir(c->o.dest, 0755) != 0 && errno != EEXIST)
		return paths_errno(c->e, "creating", c->o.dest);
	dir = open(c->o.dest, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0)
		return paths_errno(c->e, "opening", c->o.dest);
	r = write_tree(c, dir, git_commit_tree_id(commit), "", 0);
	if (r == 0 && syncfs(dir) != 0)
		r = paths_errno(c->e, "writing out", c->o.dest);
	close(dir);
	return r;
}

/* ---- history ------------------------------------------------------------------------------ */

/* Is `older` (7 to 40 hex digits) the commit itself or one of its ancestors? */
static enum clone_answer contains(struct child *c, const git_oid *commit, const char *older)
{
	git_commit *found = NULL;
	size_t n = strlen(older);
	git_oid id;
	int r;

	if (n < 7 || git_oid_fromstrn(&id, older, n) < 0 ||
	    git_commit_lookup_prefix(&found, c->repo, &id, n) < 0)
		return CLONE_UNKNOWN;
	id = *git_commit_id(found);
	git_commit_free(found);
	if (git_oid_equal(&id, commit))
		return CLONE_YES;
	r = git_graph_descendant_of(c->repo, commit, &id);
	return r < 0 ? CLONE_UNKNOWN : r ? CLONE_YES : CLONE_NO;
}

static void answer_ranges(struct child *c, const git_oid *commit)
{
	static const char *const names[] = {"unknown", "no", "yes"};

	for (int i = 0; i < c->o.n_ranges; i++) {
		enum clone_answer a = CLONE_YES, b = CLONE_NO;

		if (*c->o.from[i])
			a = contains(c, commit, c->o.from[i]);
		if (*c->o.until[i])
			b = contains(c, commit, c->o.until[i]);
		if (a == CLONE_NO || b == CLONE_YES)
			a = CLONE_NO;
		else if (a == CLONE_UNKNOWN || b == CLONE_UNKNOWN)
			a = CLONE_UNKNOWN;
		printf("range %d %s\n", i, names[a]);
	}
}

/* ---- the child ---------------------------------------------------------------------------- */

static int read_order(struct order *o, char *text, struct err *e)
{
	*o = (struct order){.url = "", .ref = "", .commit = "", .tree = "", .work = "", .dest = ""};
	for (char *line = text, *next; *line; line = next) {
		char *end = strchr(line, '\n'), *eq = strchr(line, '=');

		if (!end || !eq || eq > end)
			return err_set(e, EXIT_INTERNAL, "a broken line in the clone request");
		*end = *eq++ = '\0';
		next = end + 1;
		if (strcmp(line, "url") == 0)
			o->url = eq;
		else if (strcmp(line, "ref") == 0)
			o->ref = eq;
		else if (strcmp(line, "commit") == 0)
			o->commit = eq;
		else if (strcmp(line, "tree") == 0)
			o->tree = eq;
		else if (strcmp(line, "work") == 0)
			o->work = eq;
		else if (strcmp(line, "dest") == 0)
			o->dest = eq;
		else if (strcmp(line, "any_commit") == 0)
			o->any_commit = *eq == '1';
		else if (strcmp(line, "depth") == 0)
			o->depth = atoi(eq);
		else if (strcmp(line, "fetched") == 0)
			o->fetched = *eq == '1';
		else if (strcmp(line, "from") == 0 && o->n_ranges < CLONE_RANGES_MAX)
			o->from[o->n_ranges++] = eq;
		else if (strcmp(line, "until") == 0 && o->n_ranges > 0)
			o->until[o->n_ranges - 1] = eq;
		else
			return err_set(e, EXIT_INTERNAL, "unknown key \"%s\" in the request", line);
	}
	return *o->work == '/' && *o->dest == '/'
		       ? clone_url_check(o->url, e)
		       : err_set(e, EXIT_INTERNAL, "the request has no folders");
}

static int start_git(struct child *c)
{
	static const int levels[] = {GIT_CONFIG_LEVEL_SYSTEM, GIT_CONFIG_LEVEL_XDG,
				     GIT_CONFIG_LEVEL_GLOBAL, GIT_CONFIG_LEVEL_PROGRAMDATA};
	git_repository_init_options options;

	git_libgit2_init();
	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
		git_libgit2_opts(GIT_OPT_SET_SEARCH_PATH, levels[i], "");
	git_libgit2_opts(GIT_OPT_SET_TEMPLATE_PATH, "");
	git_libgit2_opts(GIT_OPT_SET_PACK_MAX_OBJECTS, (size_t)CLONE_OBJECTS_MAX);
	/* a local source may belong to somebody else: it is only read, and checked by its hash */
	git_libgit2_opts(GIT_OPT_SET_OWNER_VALIDATION, 0);
	if (c->o.fetched)
		return git_repository_open_bare(&c->repo, c->o.work) < 0
			       ? git_failed(c, "opening what git fetched of")
			       : 0;
	git_repository_init_options_init(&options, GIT_REPOSITORY_INIT_OPTIONS_VERSION);
	options.flags = GIT_REPOSITORY_INIT_BARE | GIT_REPOSITORY_INIT_MKDIR;
	if (git_repository_init_ext(&c->repo, c->o.work, &options) < 0)
		return git_failed(c, "preparing to fetch");
	return 0;
}

static int work(struct child *c)
{
	git_commit *commit = NULL;
	char hex[41], tree[41];
	int r = start_git(c);

	if (r == 0 && !c->o.fetched)
		r = fetch(c);
	if (r == 0)
		r = find_commit(c, &commit);
	if (r < 0)
		return r;
	answer_ranges(c, git_commit_id(commit));
	r = check_out(c, commit);
	git_oid_tostr(hex, sizeof(hex), git_commit_id(commit));
	tree_hex(commit, tree);
	git_commit_free(commit);
	if (r == 0)
		printf("files %llu %llu\ndone %s %s\n", (unsigned long long)c->files,
		       (unsigned long long)c->files, hex, tree);
	return r;
}

/* What a stranger's repository names ends no line and moves no cursor. */
static void one_line(char *text)
{
	for (char *p = text; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 127)
			*p = '?';
}

int clone_child_main(void)
{
	char text[REQUEST_BYTES_MAX], parent[PATH_MAX], layers[128];
	struct err e = ERR_NONE;
	struct child c = {.e = &e};
	size_t n = fread(text, 1, sizeof(text) - 1, stdin);
	int r;

	text[n] = '\0';
	r = read_order(&c.o, text, &e);
	if (r == 0) {
		snprintf(parent, sizeof(parent), "%s", c.o.work);
		*strrchr(parent, '/') = '\0';
		r = clone_give_up_rights(c.o.url, parent, false, layers, sizeof(layers), &e);
	}
	if (r == 0) {
		printf("layers %s\n", layers);
		fflush(stdout);
		r = work(&c);
		git_repository_free(c.repo);
		git_libgit2_shutdown();
	}
	if (r < 0) {
		one_line(e.msg);
		printf("fail %d %s\n", e.code, e.msg);
	}
	return fflush(stdout) == 0 && r == 0 ? 0 : 1;
}
