#include "recording.h"

#include "canonical.h"
#include "digest.h"
#include "output.h"

#include <archive.h>
#include <archive_entry.h>
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char manifest_name[] = "manifest.json";

/* ---- writing ------------------------------------------------------------------------------ */

struct spooled {
	char name[RECORDING_NAME_MAX];
	int64_t bytes;
	struct digest digest;
};

struct spool {
	FILE *f;
	struct spooled *members; /* [n] */
	int n, cap;
};

struct recording_writer {
	char path[PATH_MAX], temporary[PATH_MAX];
	struct spool spools[RECORDING_KINDS];
};

static int cannot(const char *what, const char *path, struct err *e)
{
	return err_set(e, errno == ENOSPC || errno == EDQUOT ? EXIT_NO_SPACE : EXIT_INTERNAL,
		       "%s %s: %s", what, path, strerror(errno));
}

static FILE *open_spool(const struct recording_writer *w, struct err *e)
{
	char name[PATH_MAX];
	int fd;
	FILE *f;

	snprintf(name, sizeof(name), "%.4000s.XXXXXX", w->path);
	fd = mkstemp(name);
	if (fd < 0) {
		cannot("writing beside", w->path, e);
		return NULL;
	}
	unlink(name);
	f = fdopen(fd, "w+b");
	assert(f);
	return f;
}

int recording_create(struct recording_writer **out, const char *path, struct err *e)
{
	struct recording_writer *w;
	int r = output_check(path, e);

	if (r < 0)
		return r;
	w = calloc(1, sizeof(*w));
	assert(w);
	snprintf(w->path, sizeof(w->path), "%.4000s", path);
	snprintf(w->temporary, sizeof(w->temporary), "%.4000s.%d.part", path, (int)getpid());
	for (int i = 0; i < RECORDING_KINDS; i++) {
		w->spools[i].f = open_spool(w, e);
		if (!w->spools[i].f) {
			recording_discard(w);
			return -e->code;
		}
	}
	*out = w;
	return 0;
}

int recording_begin(struct recording_writer *w, enum recording_kind kind, const char *name,
		    struct err *e)
{
	struct spool *s = &w->spools[kind];

	if (strlen(name) >= RECORDING_NAME_MAX || s->n == RECORDING_MEMBERS_MAX)
		return err_set(e, EXIT_USAGE, "%s: too many members, or a name too long: %.60s",
			       w->path, name);
	if (s->n == s->cap) {
		s->cap = s->cap ? 2 * s->cap : 64;
		s->members = realloc(s->members, (size_t)s->cap * sizeof(*s->members));
		assert(s->members);
	}
	s->members[s->n] = (struct spooled){.bytes = 0};
	snprintf(s->members[s->n].name, RECORDING_NAME_MAX, "%s", name);
	digest_init(&s->members[s->n++].digest);
	return 0;
}

int recording_append(struct recording_writer *w, enum recording_kind kind, const void *bytes,
		     size_t n, struct err *e)
{
	struct spool *s = &w->spools[kind];
	struct spooled *m = &s->members[s->n - 1];

	assert(s->n > 0);
	if (n == 0)
		return 0;
	if (fwrite(bytes, 1, n, s->f) != n)
		return cannot("writing beside", w->path, e);
	digest_update(&m->digest, bytes, n);
	m->bytes += (int64_t)n;
	return 0;
}

int recording_add(struct recording_writer *w, enum recording_kind kind, const char *name,
		  const void *bytes, size_t n, struct err *e)
{
	int rc = recording_begin(w, kind, name, e);

	return rc < 0 ? rc : recording_append(w, kind, bytes, n, e);
}

static void list_members(const struct recording_writer *w, json_t *manifest)
{
	json_t *list = json_array();
	uint8_t sha[DIGEST_BYTES];
	char hex[DIGEST_HEX];

	for (int k = 0; k < RECORDING_KINDS; k++)
		for (int i = 0; i < w->spools[k].n; i++) {
			const struct spooled *m = &w->spools[k].members[i];

			digest_final(&m->digest, sha);
			digest_hex(sha, hex);
			json_array_append_new(list,
					      json_pack("{s:s, s:I, s:s}", "name", m->name, "bytes",
							(json_int_t)m->bytes, "sha256", hex));
		}
	canonical_set(manifest, "members", list);
	canonical_seal(manifest);
}

static int archive_failed(struct archive *a, const char *path, struct err *e)
{
	const char *why = archive_error_string(a);

	return err_set(e, archive_errno(a) == ENOSPC ? EXIT_NO_SPACE : EXIT_INTERNAL,
		       "writing %s: %s", path, why ? why : "unknown error");
}

static int put_head(struct archive *a, const char *name, int64_t bytes, const char *path,
		    struct err *e)
{
	struct archive_entry *entry = archive_entry_new();
	int r;

	archive_entry_set_pathname(entry, name);
	archive_entry_set_size(entry, bytes);
	archive_entry_set_filetype(entry, AE_IFREG);
	archive_entry_set_perm(entry, 0644);
	r = archive_write_header(a, entry);
	archive_entry_free(entry);
	return r == ARCHIVE_OK ? 0 : archive_failed(a, path, e);
}

static int put_bytes(struct archive *a, const void *bytes, size_t n, const char *path,
		     struct err *e)
{
	return archive_write_data(a, bytes, n) == (la_ssize_t)n ? 0 : archive_failed(a, path, e);
}

static int put_spool(struct archive *a, struct spool *s, const char *path, struct err *e)
{
	static const size_t piece = 1 << 18;
	uint8_t *buf = malloc(piece);
	int rc = 0;

	assert(buf);
	rewind(s->f);
	for (int i = 0; rc == 0 && i < s->n; i++) {
		int64_t left = s->members[i].bytes;

		rc = put_head(a, s->members[i].name, left, path, e);
		while (rc == 0 && left > 0) {
			size_t n = left < (int64_t)piece ? (size_t)left : piece;

			if (fread(buf, 1, n, s->f) != n)
				rc = cannot("reading what was kept for", path, e);
			else
				rc = put_bytes(a, buf, n, path, e);
			left -= (int64_t)n;
		}
	}
	free(buf);
	return rc;
}

static int write_archive(struct recording_writer *w, const char *manifest, struct err *e)
{
	struct archive *a = archive_write_new();
	int rc = 0;

	archive_write_set_format_pax_restricted(a);
	if (archive_write_add_filter_zstd(a) != ARCHIVE_OK ||
	    archive_write_open_filename(a, w->temporary) != ARCHIVE_OK)
		rc = archive_failed(a, w->path, e);
	if (rc == 0)
		rc = put_head(a, manifest_name, (int64_t)strlen(manifest), w->path, e);
	if (rc == 0)
		rc = put_bytes(a, manifest, strlen(manifest), w->path, e);
	for (int k = 0; rc == 0 && k < RECORDING_KINDS; k++)
		rc = put_spool(a, &w->spools[k], w->path, e);
	if (archive_write_close(a) != ARCHIVE_OK && rc == 0)
		rc = archive_failed(a, w->path, e);
	archive_write_free(a);
	return rc;
}

int recording_finish(struct recording_writer *w, json_t *manifest, struct err *e)
{
	char *text;
	FILE *f;
	int rc = 0;

	list_members(w, manifest);
	text = canonical_indented(manifest);
	json_decref(manifest);
	if (strlen(text) > RECORDING_MANIFEST_MAX)
		rc = err_set(e, EXIT_USAGE, "%s: too much for one recording", w->path);
	if (rc == 0)
		rc = write_archive(w, text, e);
	free(text);
	f = rc == 0 ? fopen(w->temporary, "rbe") : NULL;
	if (rc == 0 && (!f || fsync(fileno(f)) < 0 || rename(w->temporary, w->path) < 0))
		rc = cannot("writing", w->path, e);
	if (f)
		fclose(f);
	if (rc < 0)
		unlink(w->temporary);
	return rc;
}

void recording_discard(struct recording_writer *w)
{
	for (int i = 0; w && i < RECORDING_KINDS; i++) {
		if (w->spools[i].f)
			fclose(w->spools[i].f);
		free(w->spools[i].members);
	}
	free(w);
}

/* ---- reading ------------------------------------------------------------------------------ */

static int unreadable(const struct recording *r, struct archive *a, struct err *e)
{
	const char *why = archive_error_string(a);

	return err_set(e, EXIT_HASH_MISMATCH, "%s cannot be read as a recording: %s", r->path,
		       why ? why : "it ends too early");
}

static int begin_archive(const struct recording *r, struct archive **out, struct err *e)
{
	struct archive *a = archive_read_new();
	int rc = 0;

	archive_read_support_filter_zstd(a);
	archive_read_support_format_tar(a);
	if (archive_read_open_filename(a, r->path, 1 << 18) != ARCHIVE_OK)
		rc = err_set(e, EXIT_NO_REFERENCE,
			     "%s cannot be read as a recording: %s; `assay record` makes one",
			     r->path, archive_error_string(a));
	if (rc < 0)
		archive_read_free(a);
	else
		*out = a;
	return rc;
}

/* The next member's name must be the one the manifest tells. */
static int next_head(const struct recording *r, struct archive *a, const char *name, struct err *e)
{
	struct archive_entry *entry;
	int got = archive_read_next_header(a, &entry);

	if (got == ARCHIVE_EOF)
		return err_set(e, EXIT_HASH_MISMATCH, "%s ends before member %s", r->path, name);
	if (got != ARCHIVE_OK)
		return unreadable(r, a, e);
	if (!archive_entry_pathname(entry) || strcmp(archive_entry_pathname(entry), name) != 0)
		return err_set(e, EXIT_HASH_MISMATCH,
			       "%s has member \"%.100s\" where its manifest "
			       "says %s",
			       r->path, archive_entry_pathname(entry), name);
	return 0;
}

static int read_manifest(struct recording *r, struct archive *a, struct err *e)
{
	size_t cap = 1 << 16, n = 0;
	char *text = malloc(cap + 1);
	json_error_t why;
	la_ssize_t got;

	assert(text);
	while ((got = archive_read_data(a, text + n, cap - n)) > 0 && n < RECORDING_MANIFEST_MAX) {
		n += (size_t)got;
		if (n == cap) {
			text = realloc(text, (cap *= 2) + 1);
			assert(text);
		}
	}
	if (got == 0)
		r->manifest = json_loadb(text, n, JSON_REJECT_DUPLICATES, &why);
	free(text);
	if (got != 0)
		return unreadable(r, a, e);
	if (!r->manifest)
		return err_set(e, EXIT_HASH_MISMATCH, "%s: manifest.json:%d: %s", r->path, why.line,
			       why.text);
	return 0;
}

static int read_members(struct recording *r, struct err *e)
{
	json_t *list = json_object_get(r->manifest, "members"), *m;
	size_t i;

	if (!canonical_sealed(r->manifest))
		return err_set(e, EXIT_HASH_MISMATCH, "%s: the manifest was changed", r->path);
	if (json_array_size(list) > RECORDING_MEMBERS_MAX)
		return err_set(e, EXIT_HASH_MISMATCH, "%s: too many members", r->path);
	r->members = calloc(json_array_size(list) + 1, sizeof(*r->members));
	assert(r->members);
	json_array_foreach(list, i, m)
	{
		struct recording_member *to = &r->members[r->n++];
		const char *name, *sha;
		json_int_t bytes;

		if (json_unpack(m, "{s:s, s:I, s:s}", "name", &name, "bytes", &bytes, "sha256",
				&sha) < 0 ||
		    strlen(name) >= RECORDING_NAME_MAX || strlen(sha) != 64 || bytes < 0)
			return err_set(e, EXIT_HASH_MISMATCH, "%s: member %d of the manifest",
				       r->path, (int)i);
		snprintf(to->name, sizeof(to->name), "%s", name);
		snprintf(to->sha256, sizeof(to->sha256), "%s", sha);
		to->bytes = bytes;
	}
	return 0;
}

int recording_open(struct recording *r, const char *path, struct err *e)
{
	struct recording found = {.n = 0};
	struct archive *a;
	int rc;

	snprintf(found.path, sizeof(found.path), "%.4000s", path);
	rc = begin_archive(&found, &a, e);
	if (rc < 0)
		return rc;
	rc = next_head(&found, a, manifest_name, e);
	if (rc == 0)
		rc = read_manifest(&found, a, e);
	archive_read_free(a);
	if (rc == 0)
		rc = read_members(&found, e);
	if (rc < 0)
		recording_close(&found);
	else
		*r = found;
	return rc;
}

static int read_member(const struct recording *r, struct archive *a,
		       const struct recording_member *m, recording_fn *fn, void *ctx, struct err *e)
{
	static const size_t piece = 1 << 18;
	uint8_t *buf = malloc(piece), sha[DIGEST_BYTES];
	char hex[DIGEST_HEX];
	struct digest d;
	int64_t n = 0;
	la_ssize_t got;
	int rc = 0;

	assert(buf);
	digest_init(&d);
	while (rc == 0 && (got = archive_read_data(a, buf, piece)) != 0) {
		if (got < 0) {
			rc = unreadable(r, a, e);
			break;
		}
		digest_update(&d, buf, (size_t)got);
		n += got;
		rc = n <= m->bytes && fn ? fn(ctx, buf, (size_t)got, e) : 0;
	}
	free(buf);
	digest_final(&d, sha);
	digest_hex(sha, hex);
	if (rc == 0 && (n != m->bytes || strcmp(hex, m->sha256) != 0))
		rc = err_set(e, EXIT_HASH_MISMATCH,
			     "%s: member %s is not what was recorded (SHA-256 %.16s…, the manifest "
			     "says %.16s…)",
			     r->path, m->name, hex, m->sha256);
	return rc;
}

int recording_read(const struct recording *r, recording_choose_fn *choose, void *ctx, struct err *e)
{
	struct archive *a;
	int rc = begin_archive(r, &a, e);

	if (rc < 0)
		return rc;
	rc = next_head(r, a, manifest_name, e);
	for (int i = 0; rc == 0 && i < r->n; i++) {
		const struct recording_member *m = &r->members[i];
		recording_fn *fn = choose(ctx, m);

		rc = next_head(r, a, m->name, e);
		if (rc == 0 && fn)
			rc = read_member(r, a, m, fn, ctx, e);
	}
	archive_read_free(a);
	return rc;
}

struct verifying {
	struct recording_member *at;
	size_t n;
};

static int keep_piece(void *ctx, const void *bytes, size_t n, struct err *e)
{
	struct verifying *v = ctx;

	(void)e;
	if (v->at->content && v->n + n <= (size_t)v->at->bytes)
		memcpy(v->at->content + v->n, bytes, n);
	v->n += n;
	return 0;
}

static recording_fn *keep_member(void *ctx, const struct recording_member *m)
{
	struct verifying *v = ctx;
	bool large = strstr(m->name, "/logits.") || strstr(m->name, "/trace/");

	v->at = (struct recording_member *)m; /* the caller's own list */
	v->n = 0;
	if (!large && m->bytes <= RECORDING_SMALL_MAX && !m->content) {
		v->at->content = malloc((size_t)m->bytes + 1);
		assert(v->at->content);
		v->at->content[m->bytes] = 0;
	}
	return keep_piece;
}

int recording_verify(struct recording *r, struct err *e)
{
	struct verifying v = {.n = 0};

	return recording_read(r, keep_member, &v, e);
}

const struct recording_member *recording_find(const struct recording *r, const char *name)
{
	for (int i = 0; i < r->n; i++)
		if (strcmp(r->members[i].name, name) == 0)
			return &r->members[i];
	return NULL;
}

void recording_close(struct recording *r)
{
	for (int i = 0; i < r->n; i++)
		free(r->members[i].content);
	free(r->members);
	json_decref(r->manifest);
	*r = (struct recording){.n = 0};
}
