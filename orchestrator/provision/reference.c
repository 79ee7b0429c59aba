#include "reference.h"

#include "build.h"
#include "build_files.h"
#include "paths.h"
#include "reference_locked.h"
#include "references_lock.h"
#include "toolchain.h"

#include <errno.h>
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *reference_state_name(enum reference_state s)
{
	static const char *const names[] = {"absent", "damaged", "stale", "failed",
					    "wrong CPU", "ready"};

	return names[s];
}

const char *reference_own_variable(const char *name)
{
	if (strncmp(name, "bitnet", 6) == 0)
		return "BITNET_CPP_DIR";
	return strncmp(name, "llama", 5) == 0 ? "LLAMA_CPP_DIR" : NULL;
}

bool reference_known(const char *name)
{
	struct references_lock lock;
	struct err ignored;
	bool known;

	if (references_lock_load(&lock, NULL, &ignored) < 0)
		return false;
	known = references_lock_entry(&lock, name) != NULL;
	references_lock_free(&lock);
	return known;
}

static void take(char *out, size_t size, json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	snprintf(out, size, "%s", s ? s : "");
}

static void read_manifest(struct reference *r, json_t *m)
{
	take(r->key, sizeof(r->key), m, "key");
	take(r->commit, sizeof(r->commit), m, "commit");
	take(r->tree, sizeof(r->tree), m, "tree");
	take(r->profile, sizeof(r->profile), m, "profile");
	take(r->compiler, sizeof(r->compiler), m, "compiler");
	take(r->cpu_features, sizeof(r->cpu_features), m, "cpu_features");
	take(r->self_check, sizeof(r->self_check), m, "self_check");
	take(r->capabilities, sizeof(r->capabilities), m, "capabilities");
	take(r->libraries, sizeof(r->libraries), m, "lib_dir");
	r->pinned = json_is_true(json_object_get(m, "pinned"));
}

/* Its own libraries by their record, those of somebody's own build as they were when checked. */
static bool libraries_are_whole(const struct reference *r, const json_t *m,
				const struct lock_entry *x, char *what, size_t size)
{
	const json_t *own = json_object_get(m, "own_files");
	char dir[PATH_MAX];
	const char *folder;
	json_t *files;

	if (!json_is_true(json_object_get(m, "own_build"))) {
		snprintf(dir, sizeof(dir), "%.4000s/..", r->libraries);
		return build_is_whole(dir, x->library, what, size);
	}
	json_object_foreach((json_t *)(uintptr_t)own, folder, files)
		if (build_files_changed(files, folder, what, size))
			return false;
	return true;
}

static void judge(struct reference *r, json_t *m, const struct lock_entry *x)
{
	char worker[65], used[65], locked[65], lacks[64], why[900], parts[600];
	const char *speed = r->speed ? " --for speed" : "";

	build_worker_version(worker);
	take(used, sizeof(used), m, "worker_version");
	take(locked, sizeof(locked), m, "locked_commit");
	take(why, sizeof(why), m, "self_check_why");
	r->state = REFERENCE_READY;
	if (toolchain_cpu_lacks(r->cpu_features, lacks, sizeof(lacks))) {
		r->state = REFERENCE_WRONG_CPU;
		snprintf(
			r->why, sizeof(r->why),
			"reference %s was built for a CPU with %s, which this one lacks: it would end "
			"with SIGILL; build it here: assay fetch-cpp %s%s",
			r->name, lacks, r->name, speed);
	} else if (access(r->worker, X_OK) != 0) {
		r->state = REFERENCE_DAMAGED;
		snprintf(r->why, sizeof(r->why),
			 "reference %s: its worker is gone from %.500s; run: assay "
			 "fetch-cpp %s%s",
			 r->name, r->dir, r->name, speed);
	} else if (x && !libraries_are_whole(r, m, x, parts, sizeof(parts))) {
		bool own = json_is_true(json_object_get(m, "own_build"));

		r->state = own ? REFERENCE_STALE : REFERENCE_DAMAGED;
		snprintf(r->why, sizeof(r->why), "reference %s: %.500s%s; run: assay fetch-cpp %s%s%s%s%s",
			 r->name, parts, own ? " when its self-check passed" : "", r->name, speed,
			 own ? " (with " : "", own ? reference_own_variable(r->name) : "",
			 own ? ", to use that build)" : "");
	} else if (x && strcmp(locked, x->commit) != 0) {
		r->state = REFERENCE_STALE;
		snprintf(
			r->why, sizeof(r->why),
			"reference %s is from commit %s, the lock pins %s; run: assay fetch-cpp %s%s",
			r->name, locked, x->commit, r->name, speed);
	} else if (x && reference_locked_changed(m, x, r->speed, parts, sizeof(parts))) {
		r->state = REFERENCE_STALE;
		snprintf(r->why, sizeof(r->why),
			 "reference %s was built when the lock said otherwise (%s); run: assay "
			 "fetch-cpp %s%s",
			 r->name, parts, r->name, speed);
	} else if (strcmp(used, worker) != 0) {
		r->state = REFERENCE_STALE;
		snprintf(
			r->why, sizeof(r->why),
			"reference %s has a worker of another assay version (%.12s, this one is %.12s); "
			"run: assay fetch-cpp %s%s",
			r->name, used, worker, r->name, speed);
	} else if (strcmp(r->self_check, "passed") != 0) {
		r->state = REFERENCE_FAILED;
		snprintf(r->why, sizeof(r->why), "reference %s: self-check %s: %.800s", r->name,
			 *r->self_check ? r->self_check : "not run", why);
	}
}

bool reference_is_speed(const char *engine, char name[REFERENCE_NAME_MAX])
{
	static const char suffix[] = ".speed";
	size_t n = strlen(engine), k = sizeof(suffix) - 1;
	bool speed = n > k && strcmp(engine + n - k, suffix) == 0;

	snprintf(name, REFERENCE_NAME_MAX, "%.*s", (int)(speed ? n - k : n), engine);
	return speed;
}

int reference_look(struct reference *r, const char *name, bool speed, struct err *e)
{
	struct references_lock lock;
	const struct lock_entry *x;
	char root[PATH_MAX], link[PATH_MAX], path[PATH_MAX];
	json_t *m = NULL;
	bool there = false;
	int status;

	memset(r, 0, sizeof(*r));
	r->speed = speed;
	snprintf(r->name, sizeof(r->name), "%s", name);
	status = references_lock_load(&lock, NULL, e);
	if (status < 0)
		return status;
	x = references_lock_entry(&lock, name);
	if (!x) {
		references_lock_free(&lock);
		return err_set(
			e, EXIT_NO_REFERENCE,
			"no engine and no reference is called \"%s\"; `assay doctor` lists the "
			"references, exec:COMMAND runs any program",
			name);
	}
	status = paths_cache(root, sizeof(root), e);
	if (status == 0)
		status = paths_format(link, sizeof(link), e, "%s/references/by-name/%s%s", root,
				      name, speed ? ".speed" : "");
	there = status == 0 && realpath(link, r->dir);
	if (there) {
		status = paths_format(path, sizeof(path), e, "%s/manifest.json", r->dir);
		m = status == 0 ? json_load_file(path, JSON_REJECT_DUPLICATES, NULL) : NULL;
	}
	if (m) {
		read_manifest(r, m);
		status = paths_format(r->worker, sizeof(r->worker), e, "%s/bin/assay-worker-%s",
				      r->dir, name);
		if (status == 0)
			judge(r, m, x);
		json_decref(m);
	} else if (status == 0 && there && paths_exists(path)) {
		r->state = REFERENCE_DAMAGED;
		snprintf(r->why, sizeof(r->why), "reference %s: %.500s cannot be read; run: assay "
			 "fetch-cpp %s%s", name, path, name, speed ? " --for speed" : "");
	} else if (status == 0) {
		r->state = REFERENCE_ABSENT;
		r->dir[0] = '\0';
		snprintf(r->why, sizeof(r->why),
			 "the reference \"%s\"%s is not built here; run: assay "
			 "fetch-cpp %s%s",
			 name, speed ? " (for speed)" : "", name, speed ? " --for speed" : "");
	}
	references_lock_free(&lock);
	return status;
}

int reference_find(struct reference *r, const char *name, bool speed, bool allow_bad,
		   struct err *e)
{
	const char *env = getenv("ASSAY_ALLOW_BAD_REFERENCE");
	int status = reference_look(r, name, speed, e);

	if (status < 0)
		return status;
	if (env && strcmp(env, "1") == 0)
		allow_bad = true;
	if (r->state == REFERENCE_READY || (r->state == REFERENCE_FAILED && allow_bad))
		return 0;
	if (r->state == REFERENCE_FAILED)
		return err_set(e, EXIT_REFERENCE_BUILD,
			       "%s (--allow-bad-reference uses it all the same)", r->why);
	return err_set(e, EXIT_NO_REFERENCE, "%s", r->why);
}
