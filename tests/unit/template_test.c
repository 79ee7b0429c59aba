#include "template.h"
#include "test.h"

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

		CHECK_STR(r.text, x->text, "%s%s", x->name, x->system ? " with a system prompt" : "");
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

int main(void)
{
	test_named();
	test_unknown();
	return TEST_END();
}
