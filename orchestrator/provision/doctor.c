#include "doctor.h"

#include "models_lock.h"
#include "paths.h"
#include "process.h"
#include "reference.h"
#include "references_lock.h"
#include "sandbox.h"
#include "store.h"
#include "toolchain.h"

#include <assert.h>
#include <glob.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

const char *doctor_mark_name(enum doctor_mark m)
{
	static const char *const names[] = {"ok", "note", "missing", "bad"};

	return names[m];
}

__attribute__((format(printf, 5, 6))) static void add(struct doctor *d, const char *section,
						      const char *item, enum doctor_mark mark,
						      const char *fmt, ...)
{
	struct doctor_row *row = &d->rows[d->n];
	va_list ap;

	if (d->n == DOCTOR_ROWS_MAX)
		return;
	d->n++;
	row->section = section;
	row->mark = mark;
	snprintf(row->item, sizeof(row->item), "%s", item);
	va_start(ap, fmt);
	vsnprintf(row->detail, sizeof(row->detail), fmt, ap);
	va_end(ap);
}

/* ---- libraries ---------------------------------------------------------------------------- */

/* Weaknesses that touch what this program does with the library; distributions patch without
 * changing the number, so this is a note and not a verdict. */
static const struct {
	const char *library, *below, *what;
} weaknesses[] = {
	{"libgit2", "1.6.5",
	 "CVE-2024-24577 (index), CVE-2024-24575 (revparse loops); cloning runs in a "
	 "sandboxed child"},
	{"libcurl", "8.4.0", "CVE-2023-38545 (SOCKS5 host names); no SOCKS proxy is ever used"},
	{"libarchive", "3.7.5",
	 "CVE-2024-48957, -48958, CVE-2024-26256 (RAR readers); only tar and zip "
	 "are read"},
	{"libuv", "1.48.0", "CVE-2024-24806 (long host names); names are resolved by libcurl"},
	{"jansson", "2.13.0", "CVE-2020-36325 (disputed)"},
	{"openssl", "3.0.15", "CVE-2024-6119 (names in certificates), CVE-2023-5363"},
	{NULL, NULL, NULL},
};

static int compare_versions(const char *a, const char *b)
{
	for (int i = 0; i < 4; i++) {
		long x = strtol(a, (char **)&a, 10), y = strtol(b, (char **)&b, 10);

		if (x != y)
			return x < y ? -1 : 1;
		a += *a == '.';
		b += *b == '.';
	}
	return 0;
}

static void look_at_libraries(struct doctor *d, const struct doctor_library *libraries, int n)
{
	for (int i = 0; i < n; i++) {
		const char *what = NULL, *below = NULL;

		for (int k = 0; weaknesses[k].library; k++)
			if (strcmp(weaknesses[k].library, libraries[i].name) == 0 &&
			    compare_versions(libraries[i].version, weaknesses[k].below) < 0) {
				what = weaknesses[k].what;
				below = weaknesses[k].below;
			}
		if (what)
			add(d, "libraries", libraries[i].name, DOCTOR_NOTE,
			    "%s; before %s, unless your distribution has patched it: %s",
			    libraries[i].version, below, what);
		else
			add(d, "libraries", libraries[i].name, DOCTOR_OK, "%s",
			    libraries[i].version);
	}
}

/* ---- machine ------------------------------------------------------------------------------ */

static void look_at_compilers(struct doctor *d)
{
	struct toolchain *t = calloc(1, sizeof(*t));
	struct err e = ERR_NONE;

	assert(t);
	if (toolchain_probe(t, "clang gcc", &e) < 0) {
		add(d, "compilers", "C and C++", DOCTOR_MISSING, "%s", e.msg);
	} else {
		add(d, "compilers", "C and C++", DOCTOR_OK, "%s", t->version);
		add(d, "compilers", "tried", DOCTOR_OK, "%s", t->tried);
		add(d, "compilers", "cmake", DOCTOR_OK, "%s", t->cmake_version);
		add(d, "compilers", "builder", DOCTOR_OK, "%s", t->ninja[0] ? t->ninja : t->make);
		add(d, "compilers", "ccache", t->ccache[0] ? DOCTOR_OK : DOCTOR_NOTE, "%s",
		    t->ccache[0] ? t->ccache : "not here: a rebuild compiles everything again");
	}
	free(t);
}

static void look_at_gpus(struct doctor *d)
{
	char line[400] = "";
	glob_t g = {0};
	FILE *f = fopen("/proc/driver/nvidia/version", "re");

	if (f && fgets(line, sizeof(line), f))
		line[strcspn(line, "\n")] = '\0';
	if (f)
		fclose(f);
	if (glob("/dev/nvidia[0-9]*", 0, NULL, &g) == 0 || line[0])
		add(d, "machine", "gpu", DOCTOR_OK,
		    "%zu NVIDIA device(s); %s. References are built for the "
		    "CPU; a GPU engine is compared through exec:",
		    g.gl_pathc, line);
	else if (glob("/dev/kfd", 0, NULL, &g) == 0)
		add(d, "machine", "gpu", DOCTOR_OK,
		    "an AMD device; compared through exec: engines only");
	else
		add(d, "machine", "gpu", DOCTOR_OK, "none; nothing here needs one");
	globfree(&g);
}

/* Whether the nearest folder above that is there can be written. */
static bool can_be_made(const char *path)
{
	char part[PATH_MAX];
	char *slash;

	snprintf(part, sizeof(part), "%s", path);
	while (!paths_exists(part) && (slash = strrchr(part, '/')))
		slash[slash == part] = '\0';
	return access(part, W_OK | X_OK) == 0;
}

static void look_at_machine(struct doctor *d)
{
	char features[512], layers[160], root[PATH_MAX];
	long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
	struct statvfs fs;
	struct err e = ERR_NONE;

	toolchain_cpu_features(features, sizeof(features));
	add(d, "machine", "cpu", DOCTOR_OK, "%ld processors; %s", sysconf(_SC_NPROCESSORS_ONLN),
	    features);
#if defined(__x86_64__)
	{
		char lacks[64];
		const char *missing = toolchain_cpu_lacks("avx2 fma f16c", lacks, sizeof(lacks));

		if (missing)
			add(d, "machine", "parity configuration", DOCTOR_MISSING,
			    "needs %s, which this CPU lacks: references cannot run here; use recordings",
			    missing);
	}
#endif
	add(d, "machine", "memory", DOCTOR_OK, "%.1f GiB; %d compile job(s) at once",
	    (double)pages * (double)page / 1073741824.0, toolchain_jobs());
	look_at_gpus(d);
	sandbox_layers(layers, sizeof(layers));
	add(d, "machine", "sandbox", strstr(layers, "landlock") ? DOCTOR_OK : DOCTOR_NOTE, "%s%s",
	    layers,
	    strstr(layers, "landlock") ? ""
				       : "; no Landlock in this kernel: clones are confined less");
	if (paths_cache(root, sizeof(root), &e) < 0) {
		add(d, "cache", "folder", DOCTOR_MISSING, "%s", e.msg);
		return;
	}
	if (!paths_exists(root)) {
		bool can = can_be_made(root);

		add(d, "cache", "folder", can ? DOCTOR_OK : DOCTOR_BAD, "%s (%s)", root,
		    can ? "not made yet" : "cannot be made: set ASSAY_CACHE to a folder of your own");
	} else if (access(root, W_OK) != 0) {
		add(d, "cache", "folder", DOCTOR_BAD, "%s cannot be written", root);
	} else if (statvfs(root, &fs) == 0) {
		double gib = (double)fs.f_bavail * (double)fs.f_frsize / 1073741824.0;

		add(d, "cache", "folder", gib < 2 ? DOCTOR_NOTE : DOCTOR_OK, "%s, %.1f GiB free%s",
		    root, gib,
		    gib < 2 ? ": a reference and the integration model need about 3" : "");
	}
}

/* ---- references and models ---------------------------------------------------------------- */

static void look_at_reference(struct doctor *d, const struct lock_entry *x, bool speed)
{
	struct reference *r = calloc(1, sizeof(*r));
	struct err e = ERR_NONE;
	char item[80];

	assert(r);
	snprintf(item, sizeof(item), "%s%s", x->name, speed ? " (speed)" : "");
	if (reference_look(r, x->name, speed, &e) < 0)
		add(d, "references", item, DOCTOR_BAD, "%s", e.msg);
	else if (r->state == REFERENCE_READY)
		add(d, "references", item, DOCTOR_OK,
		    "%s; commit %.12s%s; profile %s; %s; right: %s", x->summary,
		    r->commit[0] ? r->commit : "unknown", r->pinned ? "" : " (NOT the pinned one)",
		    r->profile[0] ? r->profile : "none of native's", r->compiler, r->capabilities);
	else if (r->state == REFERENCE_ABSENT && (speed || x->bad))
		;	/* nobody has to have these */
	else if (r->state == REFERENCE_ABSENT)
		add(d, "references", item, DOCTOR_NOTE, "%s; not built here: assay fetch-cpp %s",
		    x->summary, x->name);
	else
		add(d, "references", item, r->state == REFERENCE_STALE ? DOCTOR_NOTE : DOCTOR_BAD,
		    "%s: %s", reference_state_name(r->state), r->why);
	free(r);
}

static void look_at_references(struct doctor *d)
{
	struct references_lock *lock = calloc(1, sizeof(*lock));
	static const char *const own[] = {"bitnet", "llama"};
	struct err e = ERR_NONE;

	assert(lock);
	if (references_lock_load(lock, NULL, &e) < 0)
		add(d, "references", "lockfile", DOCTOR_BAD, "%s", e.msg);
	for (int i = 0; i < lock->n; i++) {
		look_at_reference(d, &lock->entries[i], false);
		look_at_reference(d, &lock->entries[i], true);
	}
	references_lock_free(lock);
	free(lock);
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		const char *variable = reference_own_variable(own[i]), *dir = getenv(variable);

		if (dir && *dir)
			add(d, "references", variable, paths_exists(dir) ? DOCTOR_OK : DOCTOR_BAD,
			    paths_exists(dir) ? "%s (used for %s when it passes its self-check)"
					      : "%s: there is no such folder, so %s cannot be made of it",
			    dir, own[i]);
	}
}

static void look_at_models(struct doctor *d)
{
	struct models_lock lock = {0};
	struct err e = ERR_NONE;
	char path[STORE_PATH_MAX];

	if (models_lock_open(&lock, NULL, &e) < 0) {
		add(d, "models", "lockfile", DOCTOR_BAD, "%s", e.msg);
		return;
	}
	for (int i = 0; i < lock.n; i++) {
		if (store_find(lock.models[i].id, path, &e) == 0)
			add(d, "models", lock.models[i].id, DOCTOR_OK, "%s", path);
		else
			add(d, "models", lock.models[i].id, DOCTOR_NOTE, "not in the cache: assay "
			    "fetch-models %s", lock.models[i].id);
	}
	models_lock_free(&lock);
}

void doctor_collect(struct doctor *d, const struct doctor_library *libraries, int n, bool fast)
{
	d->n = 0;
	look_at_libraries(d, libraries, n);
	if (!fast)
		look_at_compilers(d);
	look_at_machine(d);
	look_at_references(d);
	look_at_models(d);
}

int doctor_backend(const char *name, struct err *e)
{
	struct reference *r = calloc(1, sizeof(*r));
	int status;

	assert(r);
	status = reference_find(r, name, false, false, e);
	free(r);
	if (status < 0 && status != -EXIT_INTERNAL && status != -EXIT_USAGE)
		return -(e->code = EXIT_NO_REFERENCE);
	return status;
}
