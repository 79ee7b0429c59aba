#include "gguf_write.h"

#include "output.h"
#include "weight_type.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	ALIGNMENT = 32,
	COUNTS_AT = 8,
	LEGACY_OFFSET_AT = 28,
	BUFFER = 2 << 20 /* whole huge pages of the page cache */
};

static void fail(struct gguf_writer *w, const char *what)
{
	int why = errno;

	if (w->failed.code == 0)
		err_set(&w->failed, why == ENOSPC || why == EDQUOT ? EXIT_NO_SPACE : EXIT_INTERNAL,
			"cannot %s %s: %s", what, w->path, strerror(why));
}

static void misused(struct gguf_writer *w, const char *what)
{
	if (w->failed.code == 0)
		err_set(&w->failed, EXIT_INTERNAL, "writing %s: %s", w->path, what);
}

static void put(struct gguf_writer *w, const void *bytes, uint64_t n)
{
	if (w->failed.code == 0 && n > 0 && fwrite(bytes, 1, n, w->f) != n)
		fail(w, "write");
	w->at += n;
}

static void put_u32(struct gguf_writer *w, uint32_t v)
{
	put(w, &v, sizeof(v));
}

static void put_u64(struct gguf_writer *w, uint64_t v)
{
	put(w, &v, sizeof(v));
}

static void put_str(struct gguf_writer *w, const char *s, uint64_t n)
{
	put_u64(w, n);
	put(w, s, n);
}

static void put_padding(struct gguf_writer *w, uint64_t to)
{
	static const uint8_t zeros[256];

	while (w->at < to) {
		uint64_t n = to - w->at < sizeof(zeros) ? to - w->at : sizeof(zeros);

		put(w, zeros, n);
	}
}

static uint64_t aligned(uint64_t n)
{
	return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* Without a name, where the file system can: then a kill at any moment leaves nothing behind. */
static FILE *open_unnamed(const char *path)
{
	const char *slash = strrchr(path, '/');
	char folder[PATH_MAX];
	FILE *f;
	int fd;

	if (!slash)
		snprintf(folder, sizeof(folder), ".");
	else
		snprintf(folder, sizeof(folder), "%.*s", (int)(slash - path + 1), path);
	fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
	f = fd >= 0 ? fdopen(fd, "wb") : NULL;
	if (fd >= 0 && !f)
		close(fd);
	return f;
}

static void give_name(struct gguf_writer *w)
{
	char self[64];

	snprintf(self, sizeof(self), "/proc/self/fd/%d", fileno(w->f));
	if (fflush(w->f) != 0)
		fail(w, "write");
	else if (linkat(AT_FDCWD, self, AT_FDCWD, w->temporary, AT_SYMLINK_FOLLOW) != 0)
		fail(w, "name");
	w->unnamed = false;
}

int gguf_write_open(struct gguf_writer *w, const char *path, uint32_t version, struct err *e)
{
	int r = output_check(path, e);

	*w = (struct gguf_writer){ .alignment = ALIGNMENT };
	if (r < 0)
		return r;
	w->path = strdup(path);
	if (!w->path || asprintf(&w->temporary, "%s.%ld.tmp", path, (long)getpid()) < 0) {
		w->temporary = NULL;
		gguf_write_abort(w);
		return err_set(e, EXIT_INTERNAL, "out of memory");
	}
	w->f = open_unnamed(path);
	w->unnamed = w->f != NULL;
	if (!w->f)
		w->f = fopen(w->temporary, "wbx");
	if (!w->f) {
		r = output_failed(e, "creating", path);
		gguf_write_abort(w);
		return r;
	}
	w->buffer = malloc(BUFFER);	/* glibc would ignore the size without one */
	if (w->buffer)
		setvbuf(w->f, w->buffer, _IOFBF, BUFFER);
	put(w, "GGUF", 4);
	put_u32(w, version);
	put_u64(w, 0);
	put_u64(w, 0);
	return 0;
}

void gguf_write_legacy_head(struct gguf_writer *w)
{
	w->legacy = true;
	put_u32(w, ALIGNMENT);
	put_u64(w, 0);
}

/* ---- metadata ----------------------------------------------------------------------------- */

static void put_key(struct gguf_writer *w, const char *key, uint32_t type)
{
	if (w->n_tensors > 0)
		misused(w, "a key after the first tensor");
	w->n_kv++;
	put_str(w, key, strlen(key));
	put_u32(w, type);
}

void gguf_put_u32(struct gguf_writer *w, const char *key, uint32_t v)
{
	put_key(w, key, GGUF_U32);
	put_u32(w, v);
}

void gguf_put_f32(struct gguf_writer *w, const char *key, float v)
{
	put_key(w, key, GGUF_F32);
	put(w, &v, sizeof(v));
}

void gguf_put_bool(struct gguf_writer *w, const char *key, bool v)
{
	uint8_t byte = v;

	put_key(w, key, GGUF_BOOL);
	put(w, &byte, 1);
}

void gguf_put_string(struct gguf_writer *w, const char *key, const char *v)
{
	put_key(w, key, GGUF_STRING);
	put_str(w, v, strlen(v));
}

void gguf_put_array(struct gguf_writer *w, const char *key, enum gguf_type elem, const void *v,
		    uint64_t n)
{
	static const uint8_t bytes[GGUF_TYPE_END] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };

	put_key(w, key, GGUF_ARRAY);
	put_u32(w, elem);
	put_u64(w, n);
	put(w, v, n * bytes[elem]);
}

void gguf_put_strings(struct gguf_writer *w, const char *key, const struct gguf_str *v, uint64_t n)
{
	put_key(w, key, GGUF_ARRAY);
	put_u32(w, GGUF_STRING);
	put_u64(w, n);
	for (uint64_t i = 0; i < n; i++)
		put_str(w, v[i].s, v[i].n);
}

void gguf_put_copy(struct gguf_writer *w, const struct gguf_kv *kv)
{
	if (w->n_tensors > 0)
		misused(w, "a key after the first tensor");
	w->n_kv++;
	put_str(w, kv->key.s, kv->key.n);
	put_u32(w, kv->type);
	if (kv->type == GGUF_ARRAY) {
		put_u32(w, kv->elem);
		put_u64(w, kv->count);
	}
	put(w, kv->data, kv->bytes);
}

/* ---- tensors ------------------------------------------------------------------------------ */

void gguf_put_tensor(struct gguf_writer *w, const char *name, uint32_t type, int n_dims,
		     const int64_t *ne)
{
	const struct weight_type *t = weight_type_by_id(type);
	int64_t rows = 1;

	for (int d = 1; d < n_dims; d++)
		rows *= ne[d];
	uint64_t bytes = t ? weight_type_bytes(t, ne[0], rows) : 0;
	uint64_t *ends = realloc(w->ends, (w->n_tensors + 1) * sizeof(*ends));

	if (ends)
		w->ends = ends;
	if (!ends || bytes == 0 || w->data_start) {
		misused(w, !ends        ? "out of memory"
			   : bytes == 0 ? "a tensor whose size its type cannot hold"
					: "a tensor after the first data");
		return;
	}
	put_str(w, name, strlen(name));
	put_u32(w, (uint32_t)n_dims);
	for (int d = 0; d < n_dims; d++)
		put_u64(w, (uint64_t)ne[d]);
	put_u32(w, type);
	put_u64(w, w->data_end);
	w->ends[w->n_tensors++] = w->data_end + bytes;
	w->data_end = aligned(w->data_end + bytes);
}

void gguf_write_data(struct gguf_writer *w, const void *bytes, uint64_t n)
{
	const uint8_t *p = bytes;

	if (w->data_start == 0) {
		w->data_start = aligned(w->at);
		put_padding(w, w->data_start);
	}
	while (n > 0) {
		if (w->current == w->n_tensors) {
			misused(w, "more data than the tensors take");
			return;
		}
		uint64_t left = w->data_start + w->ends[w->current] - w->at;
		uint64_t part = n < left ? n : left;

		put(w, p, part);
		p += part;
		n -= part;
		if (part == left) {
			put_padding(w, w->data_start + aligned(w->ends[w->current]));
			w->current++;
		}
	}
}

/* ---- the end ------------------------------------------------------------------------------ */

static void patch_counts(struct gguf_writer *w)
{
	uint64_t counts[2] = { w->n_tensors, w->n_kv };

	if (fseeko(w->f, COUNTS_AT, SEEK_SET) != 0 || fwrite(counts, sizeof(counts), 1, w->f) != 1)
		fail(w, "write");
	uint64_t start = w->data_start ? w->data_start : aligned(w->at);

	if (w->legacy && (fseeko(w->f, LEGACY_OFFSET_AT, SEEK_SET) != 0 ||
			  fwrite(&start, sizeof(start), 1, w->f) != 1))
		fail(w, "write");
}

int gguf_write_finish(struct gguf_writer *w, struct err *e)
{
	if (w->current != w->n_tensors)
		misused(w, "a tensor's data is missing");
	put_padding(w, aligned(w->at));
	if (w->failed.code == 0)
		patch_counts(w);
	if (w->failed.code == 0 && w->unnamed)
		give_name(w);
	if (w->f && fclose(w->f) != 0)
		fail(w, "write");
	w->f = NULL;
	if (w->failed.code == 0 && rename(w->temporary, w->path) != 0)
		fail(w, "rename the finished file to");
	if (w->failed.code == 0) {
		free(w->temporary);
		w->temporary = NULL;
	}
	struct err failed = w->failed;

	gguf_write_abort(w);
	return failed.code ? err_set(e, (enum exit_code)failed.code, "%s", failed.msg) : 0;
}

void gguf_write_abort(struct gguf_writer *w)
{
	if (w->f)
		fclose(w->f);
	if (w->temporary && !w->unnamed)
		unlink(w->temporary);
	free(w->buffer);
	free(w->temporary);
	free(w->path);
	free(w->ends);
	*w = (struct gguf_writer){0};
}
