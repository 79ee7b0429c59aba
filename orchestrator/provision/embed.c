#include "embed.h"

#include <string.h>

const unsigned char *embed_find(const char *path, size_t *bytes)
{
	for (const struct embedded *f = embedded_files; f->path; f++) {
		if (strcmp(f->path, path) == 0) {
			*bytes = f->bytes;
			return f->data;
		}
	}
	return NULL;
}
