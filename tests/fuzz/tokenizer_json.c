/*
 * Any bytes as tokenizer.json are refused with a sentence, or give a tokenizer that encodes and
 * decodes without touching memory that is not its own.
 */
#include "tokenizer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char text[] = "Hello, a\xC3\xA4\xFF 12 <s></s>\n\xE2\x96\x81";
	struct tokenizer *t = NULL;
	struct err e = ERR_NONE;
	int32_t *ids;
	int n;

	if (tokenizer_from_json_bytes(&t, (const char *)data, size, &e) < 0) {
		assert(!t && e.msg[0]);
		return 0;
	}
	if (tokenizer_encode(t, text, sizeof(text) - 1, true, true, &ids, &n, NULL, &e) == 0) {
		char *back;
		size_t bytes;

		for (int i = 0; i < n; i++)
			assert(ids[i] >= 0 && ids[i] < tokenizer_info(t)->n_vocab);
		assert(tokenizer_decode(t, ids, n, true, &back, &bytes, &e) == 0);
		free(back);
		free(ids);
	}
	tokenizer_free(t);
	return 0;
}
