/* Any text is a build log; the digest stays in its bounds. */
#include "provision/build_log.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), shown[600];
	struct build_digest d;

	assert(text);
	memcpy(text, data, size);
	text[size] = '\0';
	build_log_digest(&d, text, "/work");
	assert(d.n_errors >= 0 && d.n_errors <= BUILD_ERRORS_MAX);
	for (int i = 0; i < d.n_errors; i++)
		assert(strlen(d.errors[i]) < BUILD_ERROR_BYTES);
	build_log_print(&d, shown, sizeof(shown));
	assert(strlen(shown) < sizeof(shown));
	free(text);
	return 0;
}
