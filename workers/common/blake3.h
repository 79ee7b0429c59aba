/*
 * BLAKE3 of bytes in memory, in one call. Specification: the BLAKE3 paper (O'Connor, Aumasson,
 * Neves, Wilcox-O'Hearn, 2020), hash mode, 32 bytes of output. Up to eight chunks are compressed
 * side by side, one per vector lane; allocates nothing.
 */
#ifndef ASSAY_BLAKE3_H
#define ASSAY_BLAKE3_H

#include <stddef.h>
#include <stdint.h>

enum { BLAKE3_BYTES = 32 };

void blake3(const void *bytes, size_t n, uint8_t out[BLAKE3_BYTES]);
void blake3_hex(const void *bytes, size_t n, char out[2 * BLAKE3_BYTES + 1]);

#endif
