/*
 * The subset of Jinja that chat templates use, bounded in size, depth and steps.
 *
 * As Hugging Face's apply_chat_template sets it up: trim_blocks and lstrip_blocks on; variables
 * messages, add_generation_prompt, bos_token, eos_token, tools and documents (none); functions
 * raise_exception, namespace, range, dict. strftime_now is left undefined, so that a prompt is
 * the same tomorrow (templates that ask for it have a fixed date in reserve).
 */
#ifndef ASSAY_JINJA_H
#define ASSAY_JINJA_H

#include "err.h"

#include <stdbool.h>
#include <stddef.h>

enum {
	JINJA_SOURCE_BYTES_MAX = 256 << 10,
	JINJA_OUTPUT_BYTES_MAX = 16 << 20,
	JINJA_MEMORY_BYTES_MAX = 128 << 20,
	JINJA_STEPS_MAX = 1 << 20,
	JINJA_DEPTH_MAX = 100,		/* nesting of blocks, parentheses and macro calls */
	JINJA_LIST_MAX = 1 << 16,
};

struct jinja_message { const char *role, *content; };

struct jinja_input {
	const struct jinja_message *messages;
	int n_messages;
	bool add_generation_prompt;
	const char *bos_token, *eos_token;	/* NULL: undefined in the template */
};

/* *out is allocated, NUL-terminated, caller frees. On failure EXIT_TEMPLATE with "line N: what". */
int jinja_render(const char *source, size_t bytes, const struct jinja_input *in, char **out,
		 size_t *out_bytes, struct err *e);

#endif
