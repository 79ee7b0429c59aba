#include "jinja.h"
#include "template.h"
#include "test.h"

#include <jansson.h>

struct expect {
	const char *name, *system, *text;
	bool add_bos, parse_special;
	const char *stops[3];
};

static const struct expect named[] = {
	{"raw", NULL, "Hi", true, false, {NULL}},
	{"instruct", NULL, "Q: Hi\nA:", true, false, {"\n\nQ:", "\n\nHuman:"}},
	{"instruct", "Be brief.", "System: Be brief.\n\nQ: Hi\nA:", true, false,
	 {"\n\nQ:", "\n\nHuman:"}},
	{"llama3-chat", NULL,
	 "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
	 "<|start_header_id|>assistant<|end_header_id|>\n\n", false, true,
	 {"<|eot_id|>", "<|end_of_text|>"}},
	{"llama3-chat", "Be brief.",
	 "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
	 "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
	 "<|start_header_id|>assistant<|end_header_id|>\n\n", false, true,
	 {"<|eot_id|>", "<|end_of_text|>"}},
	{"bitnet-chat", NULL, "<|begin_of_text|>User: Hi<|eot_id|>Assistant: ", false, true,
	 {"<|eot_id|>"}},
	{"bitnet-chat", "Be brief.",
	 "<|begin_of_text|>System: Be brief.<|eot_id|>User: Hi<|eot_id|>Assistant: ", false, true,
	 {"<|eot_id|>"}},
	{"chatml", "Be brief.",
	 "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
	 "<|im_start|>assistant\n", true, true, {"<|im_end|>"}},
};

static void test_named(void)
{
	for (size_t i = 0; i < sizeof(named) / sizeof(named[0]); i++) {
		const struct expect *x = &named[i];
		struct template_result r = {0};
		struct err e = ERR_NONE;
		int code = template_render(&r, x->name, NULL, x->system, "Hi", &e);
		int stops = 0;

		CHECK_STR(r.text, x->text, "%s%s", x->name,
			  x->system ? " with a system prompt" : "");
		while (stops < 3 && x->stops[stops])
			stops++;
		CHECK(code == 0 && r.bytes == strlen(x->text) && r.add_bos == x->add_bos &&
		      r.parse_special == x->parse_special && r.n_stops == stops &&
		      strcmp(r.name, x->name) == 0, "%s: flags, stops and name", x->name);
		for (int k = 0; k < stops && k < r.n_stops; k++)
			CHECK_STR(r.stops[k], x->stops[k], "%s: stop %d", x->name, k);
		template_free(&r);
	}
}

static void test_unknown(void)
{
	struct template_result r = {0};
	struct err e = ERR_NONE;

	CHECK(template_render(&r, "llama9", NULL, NULL, "Hi", &e) == -EXIT_TEMPLATE,
	      "an unknown template is exit code 4");
	CHECK_STR(e.msg, "unknown template \"llama9\"; known: raw, instruct, llama3-chat, "
		  "bitnet-chat, chatml, auto", "and names the known ones");
	CHECK(r.text == NULL, "on failure the result is untouched");
}

/* ---- against Python's jinja2 -------------------------------------------------------------- */

static int render_talk(const char *source, const json_t *talk, char **out, struct err *e)
{
	struct jinja_message messages[8];
	struct jinja_input in = {messages, 0, true, "<BOS>", "<EOS>"};
	json_t *m;
	size_t i, n;

	json_array_foreach(talk, i, m) messages[in.n_messages++] = (struct jinja_message){
		json_string_value(json_array_get(m, 0)), json_string_value(json_array_get(m, 1))};
	return jinja_render(source, strlen(source), &in, out, &n, e);
}

/* null is expected where Python raises. */
static void compare(const char *name, const char *source, const json_t *talks, const json_t *expect)
{
	size_t i;
	json_t *want;

	json_array_foreach(expect, i, want) {
		char *got = NULL;
		struct err e = ERR_NONE;
		int r = render_talk(source, json_array_get(talks, i), &got, &e);

		if (json_is_null(want))
			CHECK(r == -EXIT_TEMPLATE && !got && e.msg[0], "%.60s: fails (talk %zu)",
			      name, i);
		else
			CHECK_STR(got ? got : e.msg, json_string_value(want), "%.60s: talk %zu",
				  name, i);
		free(got);
	}
}

static char *read_template(const char *name)
{
	const char *dir = getenv("ASSAY_CHAT_TEMPLATES");
	char path[500], *s;
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir ? dir : "", name);
	f = dir ? fopen(path, "rb") : NULL;
	if (!f)
		return NULL;
	s = calloc(1, JINJA_SOURCE_BYTES_MAX + 1);
	n = fread(s, 1, JINJA_SOURCE_BYTES_MAX, f);
	s[n] = '\0';
	fclose(f);
	return s;
}

static void test_python(void)
{
	json_error_t je;
	json_t *root = json_load_file("tests/vectors/templates.json", 0, &je), *c;
	json_t *talks = json_object_get(root, "talks");
	int skipped = 0;
	size_t i;

	CHECK(root != NULL, "tests/vectors/templates.json is read");
	json_array_foreach(json_object_get(root, "cases"), i, c) {
		const char *source = json_string_value(json_object_get(c, "source"));
		const char *file = json_string_value(json_object_get(c, "file"));
		char *read = file ? read_template(file) : NULL, name[70];

		snprintf(name, sizeof(name), "%s", file ? file : source);
		for (char *p = name; *p; p++)
			*p = *p == '\n' ? ' ' : *p;
		if (source || read)
			compare(name, source ? source : read, talks, json_object_get(c, "expect"));
		else
			skipped++;
		free(read);
	}
	if (skipped)
		SKIP("published chat templates", "ASSAY_CHAT_TEMPLATES names no folder with them");
	json_decref(root);
}

/* ---- failures and limits ------------------------------------------------------------------ */

static void fails(const char *source, const char *want)
{
	struct jinja_message m = {"user", "Hi"};
	struct jinja_input in = {&m, 1, true, NULL, NULL};
	struct err e = ERR_NONE;
	char *out = NULL;
	size_t n;

	CHECK(jinja_render(source, strlen(source), &in, &out, &n, &e) == -EXIT_TEMPLATE && !out,
	      "fails: %s", want);
	CHECK_STR(e.msg, want, "and says why");
	free(out);
}

/* As Llama 3.2's template asks for the date. */
static void test_day(void)
{
	const char *source = "{%- if not date_string is defined %}"
			     "{%- if strftime_now is defined %}"
			     "{%- set date_string = strftime_now(\"%d %b %Y\") %}"
			     "{%- else %}{%- set date_string = \"26 Jul 2024\" %}{%- endif %}"
			     "{%- endif %}{{- \"Today Date: \" + date_string }}";
	struct jinja_message m = {"user", "Hi"};
	struct jinja_input in = {&m, 1, true, NULL, NULL};
	struct err e = ERR_NONE;
	char *out = NULL;
	size_t n;

	CHECK(jinja_render(source, strlen(source), &in, &out, &n, &e) == 0 &&
		      strcmp(out, "Today Date: 26 Jul 2024") == 0,
	      "a template that tests for strftime_now takes its fixed date: %s", e.msg);
	free(out);
}

static void test_errors(void)
{
	fails("a\nb{{ x.y }}", "line 2: \"x\" is undefined");
	fails("{{ raise_exception('not so') }}", "line 1: the template raises \"not so\"");
	fails("\n\n{% if x %}", "line 3: this block has no {% elif %}");
	fails("{% for %}", "line 1: expected a name before the end of the tag");
	fails("{{ 'a' + 1 }}", "line 1: '+' does not work on a string and an integer");
	fails("{{ 1 | shout }}", "line 1: unknown filter \"shout\"");
	fails("{{ 1 is loud }}", "line 1: unknown test \"loud\"");
	fails("{{ 'a'.shout() }}", "line 1: a string has no method \"shout\"");
	fails("{% include 'x' %}", "line 1: the tag {% include %} is not supported here");
	fails("{{ 'a }}", "line 1: a string has no closing '");
	fails("{# a", "line 1: a comment {# has no #}");
	fails("{{ 1", "line 1: a tag is not closed");
	fails("{{ ? }}", "line 1: unexpected character '?'");
	fails("{{ strftime_now('%d') }}",
	      "line 1: \"strftime_now\" is undefined: a prompt must not depend on the day; give "
	      "the formatted prompt itself with --prompt-template raw");
	fails("{% for a in range(60000) %}{% if 1+1+1+1+1+1+1+1+1+1 == 2+2+2+2+2+2+2+2+2+2 %}{% endif %}"
	      "{% endfor %}",
	      "line 1: more than 1048576 steps");
	fails("{{ range(99999) }}", "a list has more than 65536 items");
	fails("{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
	      "line 1: evaluation is nested more than 1000 deep");
	fails("{% set s = 'x' * 1048576 %}{% for i in range(20) %}{{ s }}{% endfor %}",
	      "a text grows over 16 MiB");
	fails("{% set ns = namespace(l=[]) %}{% for i in range(4000) %}{% set ns.l = ns.l + [i] %}"
	      "{% endfor %}", "rendering needs more than 128 MiB");
	fails("{{ 9223372036854775807 + 1 }}", "line 1: an integer overflows");
}

static void test_auto(void)
{
	struct template_model m = {"llama",
				   "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}"
				   "\n{{ m.content }}<|im_end|>{% endfor %}",
				   "<s>", "</s>"};
	struct template_result r = {0};
	struct err e = ERR_NONE;

	CHECK(template_render(&r, "auto", &m, "S", "Hi", &e) == 0 && !r.add_bos && r.parse_special,
	      "auto renders the file's template, which brings BOS");
	CHECK_STR(r.text, "<s><|im_start|>system\nS<|im_end|><|im_start|>user\nHi<|im_end|>",
		  "its text");
	CHECK_STR(r.why, "auto: the file's own tokenizer.chat_template", "and says so");
	CHECK(r.n_stops == 2 && strcmp(r.stops[0], "<|im_end|>") == 0 &&
		      strcmp(r.stops[1], "</s>") == 0,
	      "stops from the template and EOS");
	template_free(&r);
	m.chat_template = "x\n{{ messages.a.b }}";
	CHECK(template_render(&r, "auto", &m, NULL, "Hi", &e) == -EXIT_TEMPLATE,
	      "a failing one is exit 4");
	CHECK_STR(e.msg, "tokenizer.chat_template: line 2: \"a\" is undefined",
		  "with line and reason");
	m = (struct template_model){.arch = "bitnet-b1.58"};
	CHECK(template_render(&r, "auto", &m, NULL, "Hi", &e) == 0, "auto without a template");
	CHECK_STR(r.name, "bitnet-chat", "goes by the architecture");
	CHECK_STR(r.why, "auto: the file has no tokenizer.chat_template; by architecture "
		  "\"bitnet-b1.58\"", "and says so");
	template_free(&r);
	m.arch = "gptneox";
	CHECK(template_render(&r, "auto", &m, NULL, "Hi", &e) == 0 && strcmp(r.name, "raw") == 0,
	      "else raw");
	CHECK_STR(r.why,
		  "auto: the file has no tokenizer.chat_template and no template is known for "
		  "architecture \"gptneox\"",
		  "and says so");
	template_free(&r);
}

int main(void)
{
	test_named();
	test_unknown();
	test_python();
	test_day();
	test_errors();
	test_auto();
	return TEST_END();
}
