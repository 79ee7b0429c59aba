/*
 * Any bytes as a chat template either render, within the limits of jinja.h, or fail with a
 * sentence and exit code 4.
 */
#include "jinja.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct jinja_message messages[] = {{"system", " S "}, {"user", "Hi\n"}};
	struct jinja_input in = {messages, 2, true, "<s>", "</s>"};
	struct err e = ERR_NONE;
	char *out = NULL;
	size_t n = 0;
	int r = jinja_render((const char *)data, size, &in, &out, &n, &e);

	if (r == 0)
		assert(n <= JINJA_OUTPUT_BYTES_MAX && out[n] == '\0');
	else
		assert(r == -EXIT_TEMPLATE && !out && e.msg[0]);
	free(out);
	return 0;
}
