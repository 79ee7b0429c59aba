#include "reference_store.h"

#include "paths.h"
#include "reference.h"
#include "store.h"

#include <assert.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAMED_MAX = 64 };

struct named {
	char name[REFERENCE_NAME_MAX + 8], key[REFERENCE_KEY_HEX];
};

struct looking {
	char root[PATH_MAX];		/* <cache>/references */
	struct named named[NAMED_MAX];
	int n_named;
	json_t *libraries, *commits;	/* needed ones, as keys */
	bool building;			/* somebody does, now */
	bool all_needed;		/* a needed manifest cannot be read: what it needs is not known */
	reference_item_fn *fn;
	void *ctx;
	struct err *e;
};

const char *reference_part_name(enum reference_part p)
{
	static const char *const names[] = {"build", "libraries", "sources", "unfinished"};

	return names[p];
}

/* ---- who holds it ------------------------------------------------------------------------- */

static bool is_key(const char *name)
{
	return strlen(name) == 64 && strspn(name, "0123456789abcdef") == 64;
}

/* An open descriptor on the lock file that begins with prefix, locked; −1: none is there; −2: somebody has it. */
static int take_lock(const char *dir, const char *prefix, size_t n)
{
	DIR *list = opendir(dir);
	const struct dirent *d;
	char path[PATH_MAX];
	int fd = -1;

	while (fd == -1 && list && (d = readdir(list))) {
		size_t len = strlen(d->d_name);

		if (strncmp(d->d_name, prefix, n) != 0 || len < 5 ||
		    strcmp(d->d_name + len - 5, ".lock") != 0)
			continue;
		snprintf(path, sizeof(path), "%.3800s/%.255s", dir, d->d_name);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0) {
			close(fd);
			fd = -2;
		}
	}
	if (list)
		closedir(list);
	return fd;
}

/* Of an unfinished one the first word says what made it, its number whose key that was. */
static int take_lock_of(const char *root, enum reference_part part, const char *key)
{
	static const char *const folders[] = {"work", "libs", "sources"};
	const char *hex = strchr(key, '-'), *pid = strrchr(key, '-');
	const char *folder = part < REFERENCE_UNFINISHED      ? folders[part] :
			     strncmp(key, "build-", 6) == 0   ? "libs" :
			     strncmp(key, "source-", 7) == 0  ? "sources" : "work";
	char dir[PATH_MAX];

	snprintf(dir, sizeof(dir), "%.3900s/%s", root, folder);
	if (part < REFERENCE_UNFINISHED)
		return take_lock(dir, key, strlen(key));
	if (strncmp(key, "check-", 6) == 0 && pid > hex && atoi(pid + 1) > 0)
		return kill(atoi(pid + 1), 0) == 0 || errno == EPERM ? -2 : -1;
	return hex ? take_lock(dir, hex + 1, strcspn(hex + 1, "-")) : -1;
}

static bool is_held(const char *root, enum reference_part part, const char *key)
{
	int fd = take_lock_of(root, part, key);

	if (fd >= 0)
		close(fd);
	return fd == -2;
}

/* Between its libraries and its name a build has a lock of its own only: whoever builds may need them all. */
static bool somebody_builds(const char *root)
{
	static const char *const folders[] = {"work", "libs", "sources"};
	char dir[PATH_MAX], path[PATH_MAX];
	bool found = false;

	for (int i = 0; i < 3; i++) {
		DIR *list;
		const struct dirent *d;

		snprintf(dir, sizeof(dir), "%.3700s/%s", root, folders[i]);
		list = opendir(dir);
		while (!found && list && (d = readdir(list))) {
			size_t n = strlen(d->d_name);
			int fd = -1;

			snprintf(path, sizeof(path), "%.3800s/%.255s", dir, d->d_name);
			if (n > 5 && strcmp(d->d_name + n - 5, ".lock") == 0)
				fd = open(path, O_RDWR | O_CLOEXEC);
			if (fd >= 0) {
				found = flock(fd, LOCK_EX | LOCK_NB) != 0;
				close(fd);
			}
		}
		if (list)
			closedir(list);
	}
	return found;
}

/* Whether a process runs a program of this folder. */
static bool is_running(const char *path)
{
	DIR *all = opendir("/proc");
	const struct dirent *d;
	char link[64], exe[PATH_MAX], real[PATH_MAX];
	size_t n = realpath(path, real) ? strlen(real) : 0;
	bool found = false;

	while (!found && n && all && (d = readdir(all))) {
		ssize_t got;

		if (!isdigit((unsigned char)d->d_name[0]))
			continue;
		snprintf(link, sizeof(link), "/proc/%.20s/exe", d->d_name);
		got = readlink(link, exe, sizeof(exe) - 1);
		found = got > (ssize_t)n && strncmp(exe, real, n) == 0 && exe[n] == '/';
	}
	if (all)
		closedir(all);
	return found;
}

/* ---- what is needed ----------------------------------------------------------------------- */

static void need_what_it_needs(struct looking *l, const char *key)
{
	char path[PATH_MAX];
	const char *library, *commit;
	json_t *m;

	snprintf(path, sizeof(path), "%.3900s/%s/manifest.json", l->root, key);
	m = json_load_file(path, 0, NULL);
	library = json_string_value(json_object_get(m, "library_key"));
	commit = json_string_value(json_object_get(m, "commit"));
	if (library && commit) {
		json_object_set_new(l->libraries, library, json_true());
		json_object_set_new(l->commits, commit, json_true());
	} else {
		l->all_needed = true;
	}
	json_decref(m);
}

static void read_names(struct looking *l)
{
	char dir[PATH_MAX], path[PATH_MAX], target[PATH_MAX];
	const struct dirent *d;
	DIR *list;

	snprintf(dir, sizeof(dir), "%.3900s/by-name", l->root);
	list = opendir(dir);
	while (list && (d = readdir(list)) && l->n_named < NAMED_MAX) {
		struct named *n = &l->named[l->n_named];
		const char *key;
		ssize_t got;

		snprintf(path, sizeof(path), "%.3800s/%.255s", dir, d->d_name);
		got = readlink(path, target, sizeof(target) - 1);
		if (got <= 0)
			continue;
		target[got] = '\0';
		key = strrchr(target, '/') ? strrchr(target, '/') + 1 : target;
		if (!is_key(key))
			continue;
		snprintf(n->name, sizeof(n->name), "%.70s", d->d_name);
		snprintf(n->key, sizeof(n->key), "%.64s", key);
		need_what_it_needs(l, n->key);
		l->n_named++;
	}
	if (list)
		closedir(list);
}

static bool source_is_needed(const struct looking *l, const char *path)
{
	char record[PATH_MAX + 32];
	const char *commit;
	json_t *o;
	bool needed;

	snprintf(record, sizeof(record), "%s/source.json", path);
	o = json_load_file(record, 0, NULL);
	commit = json_string_value(json_object_get(o, "commit"));
	needed = l->all_needed || (commit && json_object_get(l->commits, commit));
	json_decref(o);
	return needed;
}

/* ---- looking ------------------------------------------------------------------------------ */

static void name_build(const struct looking *l, struct reference_item *item)
{
	struct reference *r = malloc(sizeof(*r));
	struct err ignored = ERR_NONE;
	char name[REFERENCE_NAME_MAX];

	assert(r);
	for (int i = 0; i < l->n_named; i++) {
		const struct named *n = &l->named[i];
		size_t at = strlen(item->names);

		if (strcmp(n->key, item->key) != 0)
			continue;
		item->needed = true;
		snprintf(item->names + at, sizeof(item->names) - at, "%s%s", at ? ", " : "",
			 n->name);
		bool speed = reference_is_speed(n->name, name);

		snprintf(item->state, sizeof(item->state), "%s",
			 reference_look(r, name, speed, &ignored) < 0 ? "needed" :
			 reference_state_name(r->state));
	}
	free(r);
}

static int one_item(struct looking *l, enum reference_part part, const char *key, const char *path)
{
	struct reference_item *item = calloc(1, sizeof(*item));
	int rc;

	assert(item);
	item->part = part;
	snprintf(item->key, sizeof(item->key), "%.127s", key);
	snprintf(item->path, sizeof(item->path), "%s", path);
	item->bytes = store_tree_bytes(path);
	item->in_use = is_held(l->root, part, key) ||
		       (part == REFERENCE_BUILD && is_running(path)) ||
		       ((part == REFERENCE_LIBRARIES || part == REFERENCE_SOURCES) && l->building);
	if (part == REFERENCE_BUILD) {
		name_build(l, item);
		if (item->in_use && !item->needed)	/* as long as it runs */
			need_what_it_needs(l, key);
	} else if (part == REFERENCE_LIBRARIES) {
		item->needed = l->all_needed || json_object_get(l->libraries, key);
	} else if (part == REFERENCE_SOURCES) {
		item->needed = source_is_needed(l, path);
	}
	if (!*item->state)
		snprintf(item->state, sizeof(item->state), "%s",
			 part == REFERENCE_UNFINISHED ? "unfinished" : item->needed ? "needed" : "old");
	rc = l->fn(l->ctx, item, l->e);
	free(item);
	return rc;
}

static int look_into(struct looking *l, enum reference_part part)
{
	static const char *const folders[] = {".", "libs", "sources", "work"};
	char dir[PATH_MAX], path[PATH_MAX];
	struct dirent **names = NULL;
	struct stat st;
	int n, rc = 0;

	snprintf(dir, sizeof(dir), "%.3900s/%s", l->root, folders[part]);
	n = scandir(dir, &names, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		const char *name = names[i]->d_name;

		snprintf(path, sizeof(path), "%.3800s/%.255s", part ? dir : l->root, name);
		if (rc == 0 && name[0] != '.' && lstat(path, &st) == 0 && S_ISDIR(st.st_mode) &&
		    (part == REFERENCE_UNFINISHED || is_key(name)))
			rc = one_item(l, part, name, path);
		free(names[i]);
	}
	free(names);
	return rc;
}

int reference_each(const char *root, reference_item_fn *fn, void *ctx, struct err *e)
{
	struct looking *l = calloc(1, sizeof(*l));
	int rc = 0;

	assert(l);
	snprintf(l->root, sizeof(l->root), "%.3900s/references", root);
	l->libraries = json_object();
	l->commits = json_object();
	l->fn = fn;
	l->ctx = ctx;
	l->e = e;
	l->building = somebody_builds(l->root);
	read_names(l);
	for (int part = 0; part < REFERENCE_PARTS && rc == 0; part++)
		rc = look_into(l, (enum reference_part)part);
	json_decref(l->libraries);
	json_decref(l->commits);
	free(l);
	return rc;
}

int reference_delete(const char *root, const struct reference_item *item, bool *busy, struct err *e)
{
	char dir[PATH_MAX];
	int lock, rc = 0;

	snprintf(dir, sizeof(dir), "%.3900s/references", root);
	lock = take_lock_of(dir, item->part, item->key);
	*busy = lock == -2 || (item->part == REFERENCE_BUILD && is_running(item->path));
	if (!*busy)
		rc = paths_remove(item->path, e);
	if (lock >= 0)
		close(lock);
	return rc;
}
