#include "explain_command.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IDS_SHOWN_MAX = 512 };

static void quoted(FILE *f, const char *text)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				    "_-./:=,+@%";

	if (*text && text[strspn(text, plain)] == '\0') {
		fputs(text, f);
		return;
	}
	putc('\'', f);
	for (const char *p = text; *p; p++)
		if (*p == '\'')
			fputs("'\\''", f);
		else
			putc(*p, f);
	putc('\'', f);
}

static void put(FILE *f, const char *option, const char *value)
{
	if (!value || !*value)
		return;
	fprintf(f, " --%s ", option);
	quoted(f, value);
}

static void put_number(FILE *f, const char *option, int value)
{
	if (value)
		fprintf(f, " --%s %d", option, value);
}

/* The very ids where they are the same on both sides; else the text that made them differ. */
static void put_prompt(FILE *f, const struct exchange *x)
{
	const struct exchange_side *s = &x->sides[0];

	if (x->first_difference < 0 && s->n_ids <= IDS_SHOWN_MAX) {
		fprintf(f, " --tokens ");
		for (int i = 0; i < s->n_ids; i++)
			fprintf(f, "%s%d", i ? "," : "", s->ids[i]);
	} else if (x->scenario->prompt) {
		put(f, "prompt", x->scenario->prompt);
		put(f, "system-prompt", x->scenario->system);
		put(f, "prompt-template", x->template_name);
	}
	fprintf(f, " --max-tokens %d", x->scenario->max_new_tokens);
}

char *explain_command(const struct exchange *x)
{
	const struct exchange_setup *u = x->setup;
	char *text = NULL;
	size_t n = 0;
	FILE *f;

	if (x->n_sides != 2 ||
	    (x->verdict != VERDICT_DIVERGED && x->verdict != VERDICT_TOKENS_DIFFER))
		return NULL;
	f = open_memstream(&text, &n);
	assert(f);
	fprintf(f, "assay explain");
	put(f, "model", u->model);
	put(f, "reference-model", u->model_ref);
	put(f, "tokenizer", u->tokenizer);
	put(f, "engine", x->sides[0].engine);
	put(f, "reference", x->sides[1].engine);
	put(f, "profile", u->profile);
	put(f, "isa", u->isa);
	put(f, "kv", u->kv);
	put_number(f, "ctx", u->ctx);
	put_number(f, "ubatch", u->ubatch);
	put_number(f, "batch", u->batch);
	for (int i = 0; i < u->n_overrides; i++)
		put(f, "override-kv", u->overrides[i]);
	for (int i = 0; i < u->n_overrides_ref; i++)
		put(f, "reference-override", u->overrides_ref[i]);
	put_prompt(f, x);
	fclose(f);
	return text;
}
