#include "gguf.h"

#include "gguf_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- opening ------------------------------------------------------------------------------ */

static int open_failed(struct err *e, const char *path, int why)
{
	if (why == ENOENT)
		return err_set(
			e, EXIT_MODEL_LOAD,
			"model file %s does not exist; `assay fetch-models` fetches the models "
			"of the lockfile and prints their paths",
			path);
	return err_set(e, EXIT_MODEL_LOAD, "cannot read model file %s: %s", path, strerror(why));
}

/*
 * Aligned to huge pages and advised so: where the page cache holds or may read large folios (ext4
 * and XFS of newer kernels), weights are then mapped by 2 MiB entries and stream faster.
 */
static void *map_file(int fd, size_t size)
{
	const size_t huge = (size_t)2 << 20;
	uint8_t *reserved = MAP_FAILED, *at = NULL;

	if (size >= huge)
		reserved = mmap(NULL, size + huge, PROT_NONE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (reserved == MAP_FAILED)
		return mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	at = (uint8_t *)(((uintptr_t)reserved + huge - 1) & ~(uintptr_t)(huge - 1));

	void *map = mmap(at, size, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0);
	const size_t page = (size_t)sysconf(_SC_PAGESIZE), end = (size + page - 1) / page * page;

	if (map == MAP_FAILED) {
		munmap(reserved, size + huge);
		return map;
	}
	if (at > reserved)
		munmap(reserved, (size_t)(at - reserved));
	if (at + end < reserved + size + huge)
		munmap(at + end, (size_t)(reserved + size + huge - (at + end)));
	madvise(map, size, MADV_HUGEPAGE);
	return map;
}

int gguf_open(struct gguf *g, const char *path, struct err *e)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK); /* a pipe must not wait */

	if (fd < 0)
		return open_failed(e, path, errno);
	if (fd < 3) {	/* 0 means "none" in struct gguf; keep the standard ones free */
		int moved = fcntl(fd, F_DUPFD_CLOEXEC, 3);

		close(fd);
		fd = moved;
	}
	if (fd < 0 || fstat(fd, &st) < 0) {
		int why = errno;

		if (fd >= 0)
			close(fd);
		return open_failed(e, path, why);
	}
	if (!S_ISREG(st.st_mode)) {
		close(fd);
		return err_set(e, EXIT_MODEL_LOAD,
			       "%s is not a regular file, a GGUF model file is needed", path);
	}
	if (st.st_size == 0) {
		close(fd);
		return err_set(e, EXIT_MODEL_INVALID, "%s: the file is empty", path);
	}

	void *map = map_file(fd, (size_t)st.st_size);
	if (map == MAP_FAILED) {
		int why = errno;

		close(fd);
		return open_failed(e, path, why);
	}

	int rc = gguf_parse(g, map, (size_t)st.st_size, e);
	if (rc < 0) {
		munmap(map, (size_t)st.st_size);
		close(fd);
		return err_prefix(e, "%s", path);
	}
	g->fd = fd;
	return 0;
}

void gguf_close(struct gguf *g)
{
	struct gguf_index *index = g->index;

	if (index) {
		free(index->kv.slots);
		free(index->tensors.slots);
		free(index);
	}
	free(g->kv);
	free(g->tensors);
	if (g->fd > 0) {
		munmap((void *)g->map, g->size);
		close(g->fd);
	}
	*g = (struct gguf){0};
}

/* ---- lookups ------------------------------------------------------------------------------ */

uint64_t gguf_hash(const char *s, size_t n)
{
	uint64_t h = 0xcbf29ce484222325;

	for (size_t i = 0; i < n; i++)
		h = (h ^ (uint8_t)s[i]) * 0x100000001b3;
	return h ^ h >> 32;
}

const struct gguf_kv *gguf_find(const struct gguf *g, const char *key)
{
	const struct gguf_index *index = g->index;
	size_t n = strlen(key);

	if (!index)
		return NULL;
	for (uint64_t h = gguf_hash(key, n);; h++) {
		uint32_t slot = index->kv.slots[h & index->kv.mask];

		if (slot == 0)
			return NULL;
		const struct gguf_kv *kv = &g->kv[slot - 1];
		if (kv->key.n == n && memcmp(kv->key.s, key, n) == 0)
			return kv;
	}
}

const struct gguf_tensor *gguf_tensor(const struct gguf *g, const char *name)
{
	const struct gguf_index *index = g->index;
	size_t n = strlen(name);

	if (!index)
		return NULL;
	for (uint64_t h = gguf_hash(name, n);; h++) {
		uint32_t slot = index->tensors.slots[h & index->tensors.mask];

		if (slot == 0)
			return NULL;
		const struct gguf_tensor *t = &g->tensors[slot - 1];
		if (t->name.n == n && memcmp(t->name.s, name, n) == 0)
			return t;
	}
}

/* ---- values ------------------------------------------------------------------------------- */

uint32_t gguf_u32_at(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

uint64_t gguf_u64_at(const uint8_t *p)
{
	return gguf_u32_at(p) | (uint64_t)gguf_u32_at(p + 4) << 32;
}

size_t gguf_scalar_bytes(enum gguf_type t)
{
	switch (t) {
	case GGUF_U8: case GGUF_I8: case GGUF_BOOL: return 1;
	case GGUF_U16: case GGUF_I16: return 2;
	case GGUF_U32: case GGUF_I32: case GGUF_F32: return 4;
	case GGUF_U64: case GGUF_I64: case GGUF_F64: return 8;
	default: return 0;
	}
}

static double float_at(enum gguf_type t, const uint8_t *p)
{
	if (t == GGUF_F32) {
		uint32_t u = gguf_u32_at(p);
		float f;

		memcpy(&f, &u, sizeof(f));
		return (double)f;
	}
	uint64_t u = gguf_u64_at(p);
	double d;

	memcpy(&d, &u, sizeof(d));
	return d;
}

int64_t gguf_integer_at(enum gguf_type t, const uint8_t *p)
{
	switch (t) {
	case GGUF_U8: case GGUF_BOOL: return p[0];
	case GGUF_I8: return (int8_t)p[0];
	case GGUF_U16: return p[0] | p[1] << 8;
	case GGUF_I16: return (int16_t)(p[0] | p[1] << 8);
	case GGUF_U32: return gguf_u32_at(p);
	case GGUF_I32: return (int32_t)gguf_u32_at(p);
	case GGUF_U64: case GGUF_I64: return (int64_t)gguf_u64_at(p);
	default: break;
	}
	double d = float_at(t, p);

	return d > -0x1p62 && d < 0x1p62 ? (int64_t)d : 0;
}

static bool is_integer(enum gguf_type t)
{
	return t <= GGUF_I32 || t == GGUF_U64 || t == GGUF_I64;
}

bool gguf_u64(const struct gguf *g, const char *key, uint64_t *out)
{
	const struct gguf_kv *kv = gguf_find(g, key);

	if (!kv || !is_integer(kv->type))
		return false;
	int64_t v = gguf_integer_at(kv->type, kv->data);
	if (v < 0 && kv->type != GGUF_U64)
		return false;
	*out = (uint64_t)v;
	return true;
}

bool gguf_f64(const struct gguf *g, const char *key, double *out)
{
	const struct gguf_kv *kv = gguf_find(g, key);

	if (!kv || (kv->type != GGUF_F32 && kv->type != GGUF_F64))
		return false;
	*out = float_at(kv->type, kv->data);
	return true;
}

bool gguf_bool(const struct gguf *g, const char *key, bool *out)
{
	const struct gguf_kv *kv = gguf_find(g, key);

	if (!kv || kv->type != GGUF_BOOL)
		return false;
	*out = kv->data[0] != 0;
	return true;
}

bool gguf_string(const struct gguf *g, const char *key, struct gguf_str *out)
{
	const struct gguf_kv *kv = gguf_find(g, key);

	if (!kv || kv->type != GGUF_STRING)
		return false;
	out->n = (size_t)gguf_u64_at(kv->data);
	out->s = (const char *)kv->data + 8;
	return true;
}

bool gguf_next_string(const struct gguf_kv *kv, size_t *at, struct gguf_str *out)
{
	if (kv->type != GGUF_ARRAY || kv->elem != GGUF_STRING || *at >= kv->bytes)
		return false;
	out->n = (size_t)gguf_u64_at(kv->data + *at);
	out->s = (const char *)kv->data + *at + 8;
	*at += 8 + out->n;
	return true;
}

int64_t gguf_array_i64(const struct gguf_kv *kv, uint64_t i)
{
	size_t size = gguf_scalar_bytes(kv->elem);

	if (kv->type != GGUF_ARRAY || size == 0 || i >= kv->count)
		return 0;
	return gguf_integer_at(kv->elem, kv->data + i * size);
}

double gguf_array_f64(const struct gguf_kv *kv, uint64_t i)
{
	size_t size = gguf_scalar_bytes(kv->elem);

	if (kv->type != GGUF_ARRAY || size == 0 || i >= kv->count)
		return 0;
	if (kv->elem == GGUF_F32 || kv->elem == GGUF_F64)
		return float_at(kv->elem, kv->data + i * size);
	return (double)gguf_integer_at(kv->elem, kv->data + i * size);
}

const char *gguf_type_name(enum gguf_type t)
{
	static const char *const names[GGUF_TYPE_END] = {
		"u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool",
		"string", "array", "u64", "i64", "f64",
	};

	return (unsigned)t < GGUF_TYPE_END ? names[t] : "unknown";
}
