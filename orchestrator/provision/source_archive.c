#include "source_archive.h"

#include "fetch.h"
#include "paths.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SAY_EVERY_S = 2 };

struct listener {
	clone_note_fn *note;
	void *ctx;
	time_t said;
};

bool source_archive_is_url(const char *archive)
{
	return strstr(archive, "://") != NULL;
}

int source_archive_url(const struct lock_entry *x, char *out, size_t size, struct err *e)
{
	static const char github[] = "https://github.com/", mark[] = "{commit}";
	const char *at = x->archive ? strstr(x->archive, mark) : NULL;
	int n;

	if (at)
		n = snprintf(out, size, "%.*s%s%s", (int)(at - x->archive), x->archive, x->commit,
			     at + sizeof(mark) - 1);
	else if (x->archive)
		n = snprintf(out, size, "%s", x->archive);
	else if (strncmp(x->url, github, sizeof(github) - 1) == 0) {
		const char *name = x->url + sizeof(github) - 1;
		size_t len = strlen(name);

		len -= len > 4 && strcmp(name + len - 4, ".git") == 0 ? 4 : 0;
		n = snprintf(out, size, "https://codeload.github.com/%.*s/tar.gz/%s", (int)len,
			     name, x->commit);
	} else
		return err_set(e, EXIT_USAGE,
			       "%s: the lock names no archive and %s is not on GitHub; name one "
			       "with --archive",
			       x->name, x->url);
	return n > 0 && (size_t)n < size
		       ? 0
		       : err_set(e, EXIT_USAGE, "%s: the archive's URL is too long", x->name);
}

static void on_event(void *ctx, const struct fetch_event *ev)
{
	struct listener *l = ctx;
	time_t now = time(NULL);
	char line[ERR_MSG_MAX];

	if (!l->note)
		return;
	if (ev->kind == FETCH_TROUBLE) {
		l->note(l->ctx, ev->text);
	} else if (ev->kind == FETCH_PROGRESS && now - l->said >= SAY_EVERY_S) {
		l->said = now;
		snprintf(line, sizeof(line), "%s: %.1f MB, %.1f MB/s", ev->id,
			 (double)ev->held / 1e6, ev->rate / 1e6);
		l->note(l->ctx, line);
	}
}

int source_archive_fetch(const char *url, const char *dir, clone_note_fn *note, void *ctx,
			 char *path, size_t size, struct err *e)
{
	struct fetch_request *q = calloc(1, sizeof(*q));
	struct listener listener = {.note = note, .ctx = ctx};
	struct fetch_result *got = calloc(1, sizeof(*got));
	const char *tune = getenv("ASSAY_FETCH_TUNE");
	struct hub *nobody = calloc(1, sizeof(*nobody)); /* no token goes anywhere */
	struct fetch_options o;
	char hex[DIGEST_HEX];
	uint8_t sha256[DIGEST_BYTES];
	struct digest d;
	struct store s;
	int r;

	assert(q && got && nobody);
	fetch_defaults(&o);
	o.event = on_event;
	o.ctx = &listener;
	*q = (struct fetch_request){.id = "archive", .store = &s, .size = -1, .n_sources = 1};
	snprintf(q->sources[0], sizeof(q->sources[0]), "%s", url);
	snprintf(q->meta.file, sizeof(q->meta.file), "source.tar.gz");
	digest_init(&d); /* its hash is not known: the part is named by the address */
	digest_update(&d, url, strlen(url));
	digest_final(&d, sha256);
	digest_hex(sha256, hex);
	r = clone_url_check(url, e);
	if (r == 0 && (strlen(url) >= HUB_URL_MAX || url[0] == '/' || url[0] == 'f'))
		r = err_set(e, EXIT_USAGE, "an archive comes over https, not from %s", url);
	if (r == 0 && tune)
		r = fetch_tune(&o, tune, e);
	if (r == 0)
		r = store_open(&s, dir, e);
	if (r == 0)
		r = store_blob(&s, hex, q->meta.file, &q->blob, e);
	if (r == 0)
		r = fetch_run(q, 1, &o, nobody, got, e);
	if (r == 0)
		r = paths_format(path, size, e, "%s", got->path);
	free(q);
	free(got);
	free(nobody);
	return r;
}
