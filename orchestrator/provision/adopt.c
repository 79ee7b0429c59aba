#include "adopt.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool hub_folder(char out[STORE_PATH_MAX])
{
	const char *hub = getenv("HF_HUB_CACHE"), *hf = getenv("HF_HOME");
	const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	struct err e = ERR_NONE;

	if (hub && *hub)
		return store_path(out, &e, "%s", hub) == 0;
	if (hf && *hf)
		return store_path(out, &e, "%s/hub", hf) == 0;
	if (xdg && *xdg)
		return store_path(out, &e, "%s/huggingface/hub", xdg) == 0;
	return home && store_path(out, &e, "%s/.cache/huggingface/hub", home) == 0;
}

struct search {
	const struct lock_model *m;
	digest_step_fn *step;
	void *ctx;
	char found[STORE_PATH_MAX];
	int stopped; /* what step answered */
};

static bool is_it(struct search *s, const char *path)
{
	uint8_t sha256[DIGEST_BYTES];
	struct err e = ERR_NONE;
	struct stat st;
	int r;

	if (s->stopped || stat(path, &st) != 0 || !S_ISREG(st.st_mode) ||
	    (s->m->size >= 0 && st.st_size != s->m->size))
		return false;
	r = digest_file(path, sha256, s->step, s->ctx, &e);
	if (r < 0 && e.code == 0)
		s->stopped = r;
	if (r != 0 || memcmp(sha256, s->m->sha256, DIGEST_BYTES) != 0)
		return false;
	return store_path(s->found, &e, "%s", path) == 0;
}

static bool in_blobs(struct search *s, const char *hub)
{
	DIR *d = opendir(hub);
	struct dirent *f;
	bool found = false;

	while (d && !found && (f = readdir(d))) {
		char path[STORE_PATH_MAX];
		struct err e = ERR_NONE;

		if (strncmp(f->d_name, "models--", 8) == 0 &&
		    store_path(path, &e, "%s/%s/blobs/%s", hub, f->d_name, s->m->sha256_hex) == 0)
			found = is_it(s, path);
	}
	if (d)
		closedir(d);
	return found;
}

static bool in_snapshots(struct search *s, const char *hub)
{
	const char *slash = s->m->repository ? strchr(s->m->repository, '/') : NULL;
	char path[STORE_PATH_MAX], file[STORE_PATH_MAX];
	struct err e = ERR_NONE;
	struct dirent *f;
	bool found = false;
	DIR *d;

	if (!slash || store_path(path, &e, "%s/models--%.*s--%s/snapshots", hub,
				 (int)(slash - s->m->repository), s->m->repository, slash + 1) < 0)
		return false;
	d = opendir(path);
	while (d && !found && (f = readdir(d)))
		if (f->d_name[0] != '.' &&
		    store_path(file, &e, "%s/%s/%s", path, f->d_name, s->m->file) == 0)
			found = is_it(s, file);
	if (d)
		closedir(d);
	return found;
}

int adopt_find(const struct store_blob *b, const struct lock_model *m, struct store_meta *meta,
	       enum place_how *how, digest_step_fn *step, void *ctx, struct err *e)
{
	struct search s = {.m = m, .step = step, .ctx = ctx};
	char hub[STORE_PATH_MAX], staging[STORE_PATH_MAX], real[4096];
	int r;

	if (!hub_folder(hub) || (!in_blobs(&s, hub) && !in_snapshots(&s, hub)))
		return s.stopped;
	if ((r = store_make_dir(b, e)) < 0 ||
	    (r = store_path(staging, e, "%s.adopted", b->part)) < 0 ||
	    (r = place_file(realpath(s.found, real) ? real : s.found, staging, how, e)) < 0)
		return r;
	snprintf(meta->origin, sizeof(meta->origin), "adopted");
	snprintf(meta->source, sizeof(meta->source), "%s", s.found);
	r = store_commit(b, staging, meta, e);
	return r < 0 ? r : 1;
}
