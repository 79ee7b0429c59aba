#include "template.h"

#include "jinja.h"

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

/* End texts that a reply of this template can have. */
static void find_stops(struct template_result *r, const char *chat_template, const char *eos)
{
	static const char *const ends[] = {
		"<|eot_id|>", "<|im_end|>", "<|end|>", "<|end_of_text|>", "<|endoftext|>",
		"<end_of_turn>", "<｜end▁of▁sentence｜>", "</s>",
	};

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		if (r->n_stops < TEMPLATE_STOPS_MAX &&
		    (strstr(chat_template, ends[i]) || (eos && strcmp(eos, ends[i]) == 0)))
			r->stops[r->n_stops++] = ends[i];
}

/* BOS is added by the model's rule unless the text has it already, as llama.cpp does. */
static int render_own(struct template_result *r, const struct template_model *m,
		      const char *system, const char *user, struct err *e)
{
	struct jinja_message messages[2];
	struct jinja_input in = {.messages = messages, .add_generation_prompt = true,
				 .bos_token = m->bos_token, .eos_token = m->eos_token};
	size_t n = m->bos_token ? strlen(m->bos_token) : 0;
	int code;

	if (system && *system)
		messages[in.n_messages++] = (struct jinja_message){"system", system};
	messages[in.n_messages++] = (struct jinja_message){"user", user};
	code = jinja_render(m->chat_template, strlen(m->chat_template), &in, &r->text, &r->bytes,
			    e);
	if (code < 0) {
		err_prefix(e, "tokenizer.chat_template");
		return code;
	}
	r->add_bos = !(n && strncmp(r->text, m->bos_token, n) == 0);
	r->parse_special = true;
	snprintf(r->name, sizeof(r->name), "chat_template");
	snprintf(r->why, sizeof(r->why), "auto: the file's own tokenizer.chat_template");
	find_stops(r, m->chat_template, m->eos_token);
	return 0;
}

static const char *by_architecture(const struct template_model *m, char *why, size_t size)
{
	const char *arch = m && m->arch ? m->arch : "", *name = "raw";

	if (strcmp(arch, "bitnet-b1.58") == 0 || strcmp(arch, "bitnet-25") == 0)
		name = "bitnet-chat";
	else if (strcmp(arch, "qwen2") == 0 || strcmp(arch, "qwen3") == 0)
		name = "chatml";
	else if (strcmp(arch, "llama") == 0 && m->bos_token &&
		 strcmp(m->bos_token, "<|begin_of_text|>") == 0)
		name = "llama3-chat";
	if (strcmp(name, "raw") == 0)
		snprintf(why, size,
			 "auto: the file has no tokenizer.chat_template and no template is "
			 "known for architecture \"%.60s\"",
			 arch);
	else
		snprintf(why, size,
			 "auto: the file has no tokenizer.chat_template; by architecture "
			 "\"%.60s\"",
			 arch);
	return name;
}

int template_render(struct template_result *out, const char *name, const struct template_model *m,
		    const char *system, const char *user, struct err *e)
{
	struct template_result r = {0};
	const struct form *f = find_form(name);
	int code;

	snprintf(r.why, sizeof(r.why), "asked for by name");
	if (!f && strcmp(name, "auto") == 0) {
		if (m && m->chat_template && *m->chat_template) {
			code = render_own(&r, m, system, user, e);
			if (code == 0)
				*out = r;
			return code;
		}
		f = find_form(by_architecture(m, r.why, sizeof(r.why)));
	}
	if (!f)
		return err_set(e, EXIT_TEMPLATE, "unknown template \"%s\"; known: raw, instruct, "
			       "llama3-chat, bitnet-chat, chatml, auto", name);
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
