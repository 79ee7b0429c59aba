#include "template.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Texts around the two parts of a prompt. */
struct form {
	const char *name;
	const char *begin;
	const char *system_open, *system_close;	/* around a system prompt, when there is one */
	const char *user_open, *user_close;
	bool add_bos, parse_special;
	const char *stops[TEMPLATE_STOPS_MAX];
};

static const struct form forms[] = {
	{"raw", "", "", "", "", "", true, false, {NULL}},
	{"instruct", "", "System: ", "\n\n", "Q: ", "\nA:", true, false, {"\n\nQ:", "\n\nHuman:"}},
	{"llama3-chat", "<|begin_of_text|>", "<|start_header_id|>system<|end_header_id|>\n\n",
	 "<|eot_id|>", "<|start_header_id|>user<|end_header_id|>\n\n",
	 "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n", false, true,
	 {"<|eot_id|>", "<|end_of_text|>"}},
	{"bitnet-chat", "<|begin_of_text|>", "System: ", "<|eot_id|>", "User: ",
	 "<|eot_id|>Assistant: ", false, true, {"<|eot_id|>"}},
	{"chatml", "", "<|im_start|>system\n", "<|im_end|>\n", "<|im_start|>user\n",
	 "<|im_end|>\n<|im_start|>assistant\n", true, true, {"<|im_end|>"}},
};

enum { N_FORMS = sizeof(forms) / sizeof(forms[0]) };

static const struct form *find_form(const char *name)
{
	for (int i = 0; i < N_FORMS; i++)
		if (strcmp(forms[i].name, name) == 0)
			return &forms[i];
	return NULL;
}

static int fill(struct template_result *out, const struct form *f, const char *system,
		const char *user, struct err *e)
{
	bool has_system = system && *system;
	int n = asprintf(&out->text, "%s%s%s%s%s%s%s", f->begin, has_system ? f->system_open : "",
			 has_system ? system : "", has_system ? f->system_close : "", f->user_open,
			 user, f->user_close);

	if (n < 0) {
		out->text = NULL;
		return err_set(e, EXIT_INTERNAL, "template %s: out of memory", f->name);
	}
	out->bytes = (size_t)n;
	out->add_bos = f->add_bos;
	out->parse_special = f->parse_special;
	snprintf(out->name, sizeof(out->name), "%s", f->name);
	for (out->n_stops = 0; out->n_stops < TEMPLATE_STOPS_MAX && f->stops[out->n_stops];
	     out->n_stops++)
		out->stops[out->n_stops] = f->stops[out->n_stops];
	return 0;
}

int template_render(struct template_result *out, const char *name, const struct template_model *m,
		    const char *system, const char *user, struct err *e)
{
	struct template_result r = {0};
	const struct form *f = find_form(name);
	int code;

	(void)m;
	if (!f)
		return err_set(e, EXIT_TEMPLATE, "unknown template \"%s\"; known: raw, instruct, "
			       "llama3-chat, bitnet-chat, chatml", name);
	snprintf(r.why, sizeof(r.why), "asked for by name");
	code = fill(&r, f, system, user, e);
	if (code == 0)
		*out = r;
	return code;
}

void template_free(struct template_result *r)
{
	free(r->text);
	*r = (struct template_result){0};
}
