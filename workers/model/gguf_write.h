/*
 * Writing GGUF files: metadata, then tensor declarations, then the tensors' bytes in the same
 * order, streamed. Counts are patched into the header at the end; the file appears under its
 * name only when it is complete. Errors are sticky: the first one is kept and told by finish.
 *
 *	struct gguf_writer w;
 *	gguf_write_open(&w, path, 3, e);
 *	gguf_put_string(&w, "general.architecture", "llama"); …
 *	gguf_put_tensor(&w, "token_embd.weight", TYPE_F16, 2, ne); …
 *	gguf_write_data(&w, bytes, n); …	tensor after tensor, in pieces of any size
 *	gguf_write_finish(&w, e);
 */
#ifndef ASSAY_GGUF_WRITE_H
#define ASSAY_GGUF_WRITE_H

#include "err.h"
#include "gguf.h"

#include <stdint.h>
#include <stdio.h>

struct gguf_writer {
	FILE *f;
	char *buffer;			/* of f, owned; NULL = f's own */
	char *path, *temporary;		/* owned */
	uint64_t n_kv, n_tensors;
	uint64_t at;			/* bytes written */
	uint64_t alignment;
	uint64_t data_start;		/* 0 until the first data */
	uint64_t data_end;		/* where the tensors declared so far end, padded */
	uint64_t *ends; /* [n_tensors] end of each tensor's bytes, from data_start */
	uint64_t current;		/* tensor that is being written */
	bool legacy;
	bool unnamed;			/* f has no name in the file system yet */
	struct err failed;		/* sticky */
};

/* EXIT_USAGE where no such file can be, EXIT_NO_SPACE. A file of that name stays until finish. */
int gguf_write_open(struct gguf_writer *w, const char *path, uint32_t version, struct err *e);

/* The head of an older generator that no other reader accepts: after the counts a u32 alignment
 * and a u64 data offset, patched at the end. Right after open only. */
void gguf_write_legacy_head(struct gguf_writer *w);

void gguf_put_u32(struct gguf_writer *w, const char *key, uint32_t v);
void gguf_put_f32(struct gguf_writer *w, const char *key, float v);
void gguf_put_bool(struct gguf_writer *w, const char *key, bool v);
void gguf_put_string(struct gguf_writer *w, const char *key, const char *v);
/* n elements of a scalar type as they lie in memory (little-endian machines only, as ours are). */
void gguf_put_array(struct gguf_writer *w, const char *key, enum gguf_type elem, const void *v,
		    uint64_t n);
void gguf_put_strings(struct gguf_writer *w, const char *key, const struct gguf_str *v, uint64_t n);
/* An entry of another file, byte for byte. */
void gguf_put_copy(struct gguf_writer *w, const struct gguf_kv *kv);

/* Declares a tensor of a type of the registry; its place in the file follows the one before. */
void gguf_put_tensor(struct gguf_writer *w, const char *name, uint32_t type, int n_dims,
		     const int64_t *ne);
/* The next bytes of the tensor data; padding between tensors is added here. */
void gguf_write_data(struct gguf_writer *w, const void *bytes, uint64_t n);

/* Pads, patches the counts, checks that every declared byte came, renames. Frees in every case. */
int gguf_write_finish(struct gguf_writer *w, struct err *e);
void gguf_write_abort(struct gguf_writer *w);	/* accepts finished and zeroed */

#endif
