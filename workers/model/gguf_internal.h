/* What gguf.c (opening, lookups) and gguf_parse.c (structure) share; nobody else includes it. */
#ifndef ASSAY_GGUF_INTERNAL_H
#define ASSAY_GGUF_INTERNAL_H

#include "gguf.h"

enum {
	GGUF_ALIGNMENT_MAX = 65536,
	GGUF_NAME_MAX = 64,         /* bytes of a tensor's name, as the format says */
	GGUF_KV_BYTES_MIN = 14,     /* key length, one byte of key, type, one byte of value */
	GGUF_TENSOR_BYTES_MIN = 33, /* name length, one byte, n_dims, one dimension, type, offset */
};

/* Open addressing over names; an entry is 0 (free) or a position in kv or tensors plus 1. */
struct gguf_table { uint64_t mask; uint32_t *slots; };
struct gguf_index { struct gguf_table kv, tensors; };

uint64_t gguf_hash(const char *s, size_t n);

/* Bytes of a scalar type, 0 for strings, arrays and unknown types. */
size_t gguf_scalar_bytes(enum gguf_type t);

uint32_t gguf_u32_at(const uint8_t *p);
uint64_t gguf_u64_at(const uint8_t *p);

/* Integers and bools (0, 1) of type t at p; floats are cut. */
int64_t gguf_integer_at(enum gguf_type t, const uint8_t *p);

/* Known keys: types, ranges, arrays of equal length. After kv and the index are filled. */
int gguf_check_keys(const struct gguf *g, struct err *e);

/* A name as a sentence can show it: cut, control characters and broken bytes replaced. */
struct gguf_shown { char s[72]; };
struct gguf_shown gguf_show(struct gguf_str name);

#endif
