#include "references_lock.h"

#include "digest_git.h"
#include "embed.h"
#include "paths.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { LOCK_VERSION = 1 };

/* Where in the file we are, for sentences. */
struct place {
	const char *path, *entry, *part;
	struct err *e;
};

static int bad(const struct place *at, const char *field, const char *what)
{
	return err_set(at->e, EXIT_USAGE, "%s: reference \"%s\"%s%s: \"%s\" %s", at->path,
		       at->entry, *at->part ? ", " : "", at->part, field, what);
}

bool references_lock_commit_ok(const char *commit)
{
	size_t n = commit ? strspn(commit, "0123456789abcdef") : 0;

	return (n == 40 || n == 64) && !commit[n];
}

bool references_lock_path_ok(const char *path)
{
	if (!path || !*path || strlen(path) > 1000)
		return false;
	for (const char *p = path; *p; p++)
		if ((unsigned char)*p < ' ' || *p == '\\' || *p == 127)
			return false;
	for (const char *p = path;;) {
		size_t n = strcspn(p, "/");

		if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && !memcmp(p, "..", 2)) ||
		    (n == 4 && !strncasecmp(p, ".git", 4)))
			return false;
		if (!p[n])
			return true;
		p += n + 1;
	}
}

/* A string field; absent gives NULL unless it is needed. */
static int text(const struct place *at, json_t *o, const char *field, bool needed, const char **out)
{
	json_t *v = json_object_get(o, field);

	*out = json_string_value(v);
	if (v && !json_is_null(v) && !*out)
		return bad(at, field, "must be a string");
	if (needed && (!*out || !**out))
		return bad(at, field, "is missing");
	return 0;
}

static int texts(const struct place *at, json_t *o, const char *field, int max, const char **out,
		 int *n)
{
	json_t *v = json_object_get(o, field), *item;
	size_t i;

	*n = 0;
	if (!v)
		return 0;
	if (!json_is_array(v) || json_array_size(v) > (size_t)max)
		return bad(at, field, "must be a list of strings, and not a long one");
	json_array_foreach(v, i, item) {
		if (!json_is_string(item))
			return bad(at, field, "must hold strings only");
		out[(*n)++] = json_string_value(item);
	}
	return 0;
}

static int known_fields(const struct place *at, json_t *o, const char *const *names)
{
	const char *key;
	json_t *v;

	if (!json_is_object(o))
		return bad(at, "entry", "must be an object");
	json_object_foreach(o, key, v) {
		int i = 0;

		while (names[i] && strcmp(names[i], key) != 0)
			i++;
		if (!names[i])
			return bad(at, key, "is not a field of this file");
	}
	return 0;
}

static int parse_submodule(struct place *at, json_t *o, struct lock_submodule *s)
{
	static const char *const names[] = {"path", "url", "commit", "tree", "skip", NULL};
	int r;

	at->part = "a submodule";
	if ((r = known_fields(at, o, names)) < 0 || (r = text(at, o, "path", true, &s->path)) < 0 ||
	    (r = text(at, o, "url", true, &s->url)) < 0 ||
	    (r = text(at, o, "commit", false, &s->commit)) < 0 ||
	    (r = text(at, o, "tree", false, &s->tree)) < 0 ||
	    (r = text(at, o, "skip", false, &s->skip)) < 0)
		return r;
	at->part = s->path;
	if (!references_lock_path_ok(s->path))
		return bad(at, "path", "must be relative, without \"..\" or \".git\"");
	if (!s->skip && !references_lock_commit_ok(s->commit))
		return bad(at, "commit", "must be 40 hex digits");
	return 0;
}

static void patch_digest(const struct lock_patch *p, char hex[65])
{
	struct digest_key *k = digest_key_new();

	for (int i = 0; i < p->n_edits; i++) {
		digest_key_text(k, p->edits[i].file);
		digest_key_text(k, p->edits[i].find);
		digest_key_text(k, p->edits[i].replace);
	}
	digest_key_finish(k, hex);
}

static int parse_edits(struct place *at, json_t *o, struct lock_patch *p)
{
	static const char *const names[] = {"file", "find", "replace", NULL};
	json_t *list = json_object_get(o, "edits"), *item;
	size_t i;
	int r;

	if (!json_is_array(list) || json_array_size(list) > LOCK_EDITS_MAX)
		return bad(at, "edits", "must be a list of at most 8");
	json_array_foreach(list, i, item) {
		struct lock_edit *d = &p->edits[p->n_edits++];

		if ((r = known_fields(at, item, names)) < 0 ||
		    (r = text(at, item, "file", true, &d->file)) < 0 ||
		    (r = text(at, item, "find", true, &d->find)) < 0 ||
		    (r = text(at, item, "replace", true, &d->replace)) < 0)
			return r;
		if (!references_lock_path_ok(d->file))
			return bad(at, "file", "must be relative, without \"..\" or \".git\"");
	}
	return 0;
}

static int parse_patch(struct place *at, json_t *o, struct lock_patch *p)
{
	static const char *const names[] = {"name", "sha256", "why", "from", "until", "repository",
					    "edits", NULL};
	char hex[65], what[160];
	int r;

	at->part = "a patch";
	if ((r = known_fields(at, o, names)) < 0 || (r = text(at, o, "name", true, &p->name)) < 0)
		return r;
	at->part = p->name;
	if ((r = text(at, o, "sha256", true, &p->sha256)) < 0 ||
	    (r = text(at, o, "why", true, &p->why)) < 0 ||
	    (r = text(at, o, "from", false, &p->from)) < 0 ||
	    (r = text(at, o, "until", false, &p->until)) < 0 ||
	    (r = text(at, o, "repository", false, &p->repository)) < 0 ||
	    (r = parse_edits(at, o, p)) < 0)
		return r;
	if (!p->repository)
		p->repository = "";
	patch_digest(p, hex);
	snprintf(what, sizeof(what), "does not fit the edits, their digest is %s", hex);
	return strcmp(hex, p->sha256) == 0 ? 0 : bad(at, "sha256", what);
}

static int parse_file(struct place *at, json_t *o, struct lock_file *f)
{
	static const char *const names[] = {"path", "copy_of", "text", "why", NULL};
	int r;

	at->part = "a generated file";
	if ((r = known_fields(at, o, names)) < 0 || (r = text(at, o, "path", true, &f->path)) < 0 ||
	    (r = text(at, o, "copy_of", false, &f->copy_of)) < 0 ||
	    (r = text(at, o, "text", false, &f->text)) < 0 ||
	    (r = text(at, o, "why", true, &f->why)) < 0)
		return r;
	if (!references_lock_path_ok(f->path) ||
	    (f->copy_of && !references_lock_path_ok(f->copy_of)))
		return bad(at, "path", "must be relative, without \"..\" or \".git\"");
	if (!f->copy_of == !f->text)
		return bad(at, "copy_of", "or \"text\" is needed, not both");
	return 0;
}

static int parse_lists(struct place *at, json_t *o, struct lock_entry *x)
{
	json_t *item, *list;
	size_t i;
	int r;

	if ((list = json_object_get(o, "submodules"))) {
		if (json_array_size(list) > LOCK_SUBMODULES_MAX)
			return bad(at, "submodules", "are more than 16");
		json_array_foreach(list, i, item)
			if ((r = parse_submodule(at, item, &x->submodules[x->n_submodules++])) < 0)
				return r;
	}
	if ((list = json_object_get(o, "patches"))) {
		if (json_array_size(list) > LOCK_PATCHES_MAX)
			return bad(at, "patches", "are more than 16");
		json_array_foreach(list, i, item)
			if ((r = parse_patch(at, item, &x->patches[x->n_patches++])) < 0)
				return r;
	}
	if ((list = json_object_get(o, "files"))) {
		if (json_array_size(list) > LOCK_FILES_MAX)
			return bad(at, "files", "are more than 16");
		json_array_foreach(list, i, item)
			if ((r = parse_file(at, item, &x->files[x->n_files++])) < 0)
				return r;
	}
	at->part = "";
	return 0;
}

/* Options per platform: "parity": {"x86_64": […], "aarch64": […]}. */
static int parse_platform(const struct place *at, json_t *o, const char *field, const char **out,
			  int *n)
{
	json_t *v = json_object_get(o, field);
#if defined(__aarch64__)
	const char *machine = "aarch64";
#else
	const char *machine = "x86_64";
#endif

	if (v && !json_is_object(v))
		return bad(at, field, "must be an object of lists by machine");
	return texts(at, v, machine, LOCK_OPTIONS_MAX, out, n);
}

static int parse_entry(struct place *at, json_t *o, struct lock_entry *x)
{
	static const char *const names[] = {
		"name", "kind", "summary", "url", "commit", "tree", "ref", "bad", "archive",
		"urls", "submodules", "patches", "files", "target", "library", "include",
		"compilers", "options", "parity", "speed", "cpu_features", "capabilities",
		"canary", NULL};
	int r;

	if ((r = text(at, o, "name", true, &x->name)) < 0)
		return r;
	at->entry = x->name;
	if ((r = known_fields(at, o, names)) < 0 || (r = text(at, o, "kind", true, &x->kind)) < 0 ||
	    (r = text(at, o, "summary", true, &x->summary)) < 0 ||
	    (r = text(at, o, "url", true, &x->url)) < 0 ||
	    (r = text(at, o, "commit", true, &x->commit)) < 0 ||
	    (r = text(at, o, "tree", false, &x->tree)) < 0 ||
	    (r = text(at, o, "ref", false, &x->ref)) < 0 ||
	    (r = text(at, o, "bad", false, &x->bad)) < 0 ||
	    (r = text(at, o, "archive", false, &x->archive)) < 0 ||
	    (r = text(at, o, "target", true, &x->target)) < 0 ||
	    (r = text(at, o, "library", true, &x->library)) < 0 ||
	    (r = text(at, o, "include", true, &x->include)) < 0 ||
	    (r = text(at, o, "compilers", true, &x->compilers)) < 0 ||
	    (r = text(at, o, "cpu_features", false, &x->cpu_features)) < 0 ||
	    (r = text(at, o, "canary", false, &x->canary)) < 0 ||
	    (r = texts(at, o, "urls", LOCK_URLS_MAX, x->urls, &x->n_urls)) < 0 ||
	    (r = texts(at, o, "options", LOCK_OPTIONS_MAX, x->options, &x->n_options)) < 0 ||
	    (r = parse_platform(at, o, "parity", x->parity, &x->n_parity)) < 0 ||
	    (r = parse_platform(at, o, "speed", x->speed, &x->n_speed)) < 0 ||
	    (r = texts(at, o, "capabilities", LOCK_OPTIONS_MAX, x->capabilities,
		       &x->n_capabilities)) < 0)
		return r;
	if (!references_lock_commit_ok(x->commit))
		return bad(at, "commit", "must be 40 hex digits");
	if (x->tree && !references_lock_commit_ok(x->tree))
		return bad(at, "tree", "must be 40 hex digits");
	if (!references_lock_path_ok(x->name) || strlen(x->name) > 40 || strpbrk(x->name, "/. "))
		return bad(at, "name", "must be letters, digits and dashes");
	return parse_lists(at, o, x);
}

static int parse_root(struct references_lock *l, struct place *at, json_t *root)
{
	json_t *list = json_object_get(root, "references"), *item;
	size_t i;
	int r;

	if (json_integer_value(json_object_get(root, "version")) != LOCK_VERSION)
		return err_set(at->e, EXIT_USAGE, "%s: \"version\" must be %d", at->path,
			       LOCK_VERSION);
	if (!json_is_array(list) || json_array_size(list) > LOCK_ENTRIES_MAX)
		return err_set(at->e, EXIT_USAGE, "%s: \"references\" must be a list of at most %d",
			       at->path, LOCK_ENTRIES_MAX);
	json_array_foreach(list, i, item) {
		at->entry = "?";
		at->part = "";
		if ((r = parse_entry(at, item, &l->entries[l->n])) < 0)
			return r;
		if (references_lock_entry(l, l->entries[l->n].name))
			return bad(at, "name", "is there twice");
		l->n++;
	}
	return 0;
}

static int read_lock(const char **path, const char **bytes, size_t *n, char **owned, struct err *e)
{
	int r;

	if (!*path || !**path)
		*path = getenv("ASSAY_REFERENCES_LOCK");
	if (*path && **path) {
		r = paths_read(owned, n, *path, LOCK_BYTES_MAX, e);
		*bytes = *owned;
		return r < 0 ? (e->code = EXIT_USAGE, err_prefix(e, "references lockfile")) : 0;
	}
	*path = "lockfiles/crossval-references.lock.json";
	*bytes = (const char *)embed_find(*path, n);
	return *bytes ? 0 : err_set(e, EXIT_INTERNAL, "%s is not built in", *path);
}

int references_lock_parse(struct references_lock *l, const char *bytes, size_t n, const char *name,
			  struct err *e)
{
	struct place at = {.path = name, .entry = "?", .part = "", .e = e};
	struct digest_key *k;
	json_error_t je;
	int r;

	memset(l, 0, sizeof(*l));
	l->root = json_loadb(bytes, n, JSON_REJECT_DUPLICATES, &je);
	if (!l->root)
		return err_set(e, EXIT_USAGE, "%s:%d: %s", name, je.line, je.text);
	k = digest_key_new();
	digest_key_bytes(k, bytes, n);
	digest_key_finish(k, l->sha256);
	r = parse_root(l, &at, l->root);
	if (r < 0)
		references_lock_free(l);
	return r;
}

int references_lock_load(struct references_lock *l, const char *path, struct err *e)
{
	const char *bytes = NULL;
	char *owned = NULL;
	size_t n = 0;
	int r;

	memset(l, 0, sizeof(*l));
	r = read_lock(&path, &bytes, &n, &owned, e);
	if (r < 0)
		return r;
	r = references_lock_parse(l, bytes, n, path, e);
	free(owned);
	return r;
}

const struct lock_entry *references_lock_entry(const struct references_lock *l, const char *name)
{
	for (int i = 0; i < l->n; i++)
		if (strcmp(l->entries[i].name, name) == 0)
			return &l->entries[i];
	return NULL;
}

void references_lock_free(struct references_lock *l)
{
	json_decref(l->root);
	memset(l, 0, sizeof(*l));
}
