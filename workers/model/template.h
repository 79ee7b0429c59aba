/*
 * Prompt templates: raw, instruct, llama3-chat, bitnet-chat, chatml, and auto: the file's own
 * tokenizer.chat_template rendered by a bounded subset of Jinja, else by architecture, else raw.
 */
#ifndef ASSAY_TEMPLATE_H
#define ASSAY_TEMPLATE_H

#include "err.h"

#include <stdbool.h>
#include <stddef.h>

enum { TEMPLATE_STOPS_MAX = 4 };

struct template_result {
	char *text; /* formatted prompt, NUL-terminated; caller frees by template_free */
	size_t bytes;
	char name[32];		/* the template that was used ("auto" resolved) */
	char why[256];		/* why this one, for people and the receipt */
	bool add_bos;		/* to be given to both tokenizers */
	bool parse_special;
	const char *stops[TEMPLATE_STOPS_MAX];	/* texts that end a reply; n_stops of them */
	int n_stops;
};

/* What auto needs to know about the model; all may be NULL. */
struct template_model {
	const char *arch;
	const char *chat_template;	/* tokenizer.chat_template, NUL-terminated */
	const char *bos_token, *eos_token;	/* their texts */
};

/* Unknown or failing template: EXIT_TEMPLATE, naming the known ones, or line and what failed. */
int template_render(struct template_result *out, const char *name, const struct template_model *m,
		    const char *system, const char *user, struct err *e);
void template_free(struct template_result *r);

#endif
