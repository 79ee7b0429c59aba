/* Any .gitmodules is read as submodules that stay in the tree, or is refused with a sentence. */
#include "provision/clone.h"
#include "provision/references_lock.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct clone_module out[4];
	char *text = malloc(size + 1);
	struct err e = ERR_NONE;
	int n = -1;

	assert(text);
	memcpy(text, data, size);
	text[size] = '\0';
	if (clone_modules_parse(text, out, 4, &n, &e) == 0) {
		assert(n >= 0 && n <= 4);
		for (int i = 0; i < n; i++) {
			assert(references_lock_path_ok(out[i].path));
			assert(out[i].path[0] != '/' && out[i].url[0] && out[i].url[0] != '-');
			assert(!strstr(out[i].url, "::"));
		}
	} else {
		assert(e.code == EXIT_HASH_MISMATCH && e.msg[0] && n == -1);
	}
	free(text);
	return 0;
}
