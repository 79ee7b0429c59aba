/* Any text is a lockfile that keeps every promise of models_lock.h, or is refused with a sentence.
 */
#include "provision/models_lock.h"
#include "provision/json_line.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool stays_below(const char *path)
{
	size_t n = strlen(path);

	return path[0] != '/' && strcmp(path, "..") != 0 && strncmp(path, "../", 3) != 0 &&
	       !strstr(path, "/../") && (n < 3 || strcmp(path + n - 3, "/..") != 0);
}

static void check(const struct models_lock *l, const struct lock_model *m)
{
	assert(m->id && models_lock_find(l, m->id) == m);
	assert(m->size == -1 || m->size > 0);
	assert(stays_below(m->file));
	assert(!strpbrk(m->file, "\\\"\n\r"));
	assert(strlen(m->sha256_hex) == 64);
	assert(m->repository || m->n_mirrors || m->generate.preset);
	assert(!m->revision || strlen(m->revision) == 40);
	assert(!m->tokenizer || models_lock_find(l, m->tokenizer));
	assert(m->n_chunks == 0 || m->size > (int64_t)(m->n_chunks - 1) * MODELS_LOCK_CHUNK_BYTES);
	for (int i = 0; i < m->n_mirrors; i++)
		assert(strstr(m->mirrors[i], "://") && !strpbrk(m->mirrors[i], " \n\r\t"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	struct models_lock l = {0};
	struct err e = ERR_NONE;

	assert(text);
	memcpy(text, data, size);
	text[size] = '\0';
	if (models_lock_parse(&l, text, "t", &e) == 0) {
		for (int i = 0; i < l.n; i++)
			check(&l, &l.models[i]);
		assert(json_line_of(text, "models") > 0);
	} else {
		assert(e.code == EXIT_USAGE && e.msg[0] && l.n == 0);
	}
	(void)json_line_of(text, "models/1/mirrors/2");
	models_lock_free(&l);
	free(text);
	return 0;
}
