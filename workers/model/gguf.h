/*
 * GGUF files, versions 2 and 3, little-endian: a bounded reader over a read-only mapping.
 * Format: ggml-org/ggml docs/gguf.md.
 *
 * Opening checks the whole structure once: every length, count, offset and type against the file
 * (FACTS-class malformed files are refused with one sentence, exit code 15; an unreadable file
 * is code 10). After that all accessors are total. Iteration allocates nothing per entry.
 * Unknown tensor types are kept by number; who needs the data refuses them by name.
 */
#ifndef ASSAY_GGUF_H
#define ASSAY_GGUF_H

#include "err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum gguf_type {
	GGUF_U8, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL,
	GGUF_STRING, GGUF_ARRAY, GGUF_U64, GGUF_I64, GGUF_F64, GGUF_TYPE_END,
};

enum { GGUF_DIMS_MAX = 4, GGUF_KEY_MAX = 65535, GGUF_BLOCKS_MAX = 512 };

struct gguf_str { const char *s; size_t n; };	/* borrows the mapping; not NUL-terminated */

struct gguf_kv {
	struct gguf_str key;
	enum gguf_type type;
	enum gguf_type elem;	/* of an array */
	uint64_t count;		/* elements of an array, else 1 */
	const uint8_t *data;	/* value bytes in the file, unaligned: a string with its length, an
				 * array's elements */
	size_t bytes;		/* of data */
};

struct gguf_tensor {
	struct gguf_str name;
	uint32_t type;			/* ggml type number, kernels/weight_type.h */
	int n_dims;
	int64_t ne[GGUF_DIMS_MAX];	/* ne[0] varies fastest; unused are 1 */
	uint64_t offset;		/* from data_offset */
	uint64_t bytes;			/* 0 when the type is unknown */
	const uint8_t *data;		/* in the mapping */
};

struct gguf {
	const uint8_t *map;
	size_t size;
	uint32_t version, alignment;
	uint64_t n_kv, n_tensors, data_offset;
	struct gguf_kv *kv;		/* [n_kv] */
	struct gguf_tensor *tensors;	/* [n_tensors] */
	void *index;			/* hash index of names */
	int fd;				/* 0 when over borrowed memory */
};

int gguf_open(struct gguf *g, const char *path, struct err *e);
/* The same over bytes in memory (tests, fuzzers); borrows them until gguf_close. */
int gguf_parse(struct gguf *g, const void *bytes, size_t n, struct err *e);
void gguf_close(struct gguf *g);	/* accepts zeroed */

const struct gguf_kv *gguf_find(const struct gguf *g, const char *key);		/* or NULL */
const struct gguf_tensor *gguf_tensor(const struct gguf *g, const char *name);	/* or NULL */

/* Scalars with conversion between integer widths; false when absent or of another kind. */
bool gguf_u64(const struct gguf *g, const char *key, uint64_t *out);
bool gguf_f64(const struct gguf *g, const char *key, double *out);
bool gguf_bool(const struct gguf *g, const char *key, bool *out);
bool gguf_string(const struct gguf *g, const char *key, struct gguf_str *out);

/* Array elements by forward iteration over strings (they have no fixed size). *at starts 0. */
bool gguf_next_string(const struct gguf_kv *kv, size_t *at, struct gguf_str *out);
int64_t gguf_array_i64(const struct gguf_kv *kv, uint64_t i);	/* integers and bools */
double gguf_array_f64(const struct gguf_kv *kv, uint64_t i);	/* floats and integers */

const char *gguf_type_name(enum gguf_type t);
/* Of a tensor's type, also of those that no engine here computes with; "unknown". */
const char *gguf_weight_name(uint32_t type);

#endif
