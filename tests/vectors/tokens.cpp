/*
 * Writes tokens.tsv from a real llama.cpp (v0.5.0): texts on standard input, one per line in hex.
 *
 *	c++ -O1 tests/vectors/tokens.cpp -I$LLAMA/include -I$LLAMA/ggml/include -L$BUILD/bin \
 *		-lllama -lggml -lggml-base -Wl,-rpath,$BUILD/bin -o /tmp/tokens
 *	grep -v '^[#@]' tests/vectors/tokens.tsv | cut -f1 | sort -u > /tmp/texts
 *	/tmp/tokens ../shared/vocab < /tmp/texts > tests/vectors/tokens.tsv
 */
#include "llama.h"

#include <cstdio>
#include <cstring>
#include <iostream>
#include <string>
#include <vector>

static void quiet(ggml_log_level, const char *, void *) {}

static std::string unhex(const std::string &h)
{
	std::string s;

	for (size_t i = 0; i + 1 < h.size(); i += 2)
		s += (char)std::stoi(h.substr(i, 2), nullptr, 16);
	return s;
}

static void print_ids(const llama_vocab *v, const std::string &s, bool special, bool parse)
{
	std::vector<llama_token> ids(s.size() * 3 + 16);
	int n = llama_tokenize(v, s.data(), (int)s.size(), ids.data(), (int)ids.size(), special, parse);

	putchar('\t');
	for (int i = 0; i < n; i++)
		printf("%s%d", i ? " " : "", ids[i]);
}

static void block(const std::string &dir, const char *name, const char *pre,
		  const std::vector<std::string> &texts)
{
	llama_model_params p = llama_model_default_params();
	llama_model_kv_override kv[2] = {};
	llama_model *m;

	p.vocab_only = true;
	if (*pre) {
		strcpy(kv[0].key, "tokenizer.ggml.pre");
		kv[0].tag = LLAMA_KV_OVERRIDE_TYPE_STR;
		strcpy(kv[0].val_str, pre);
		p.kv_overrides = kv;
	}
	m = llama_model_load_from_file((dir + "/ggml-vocab-" + name + ".gguf").c_str(), p);
	if (!m)
		exit(1);
	printf("@ %s %s\n", name, *pre ? pre : "-");
	for (const std::string &h : texts) {
		printf("%s", h.c_str());
		print_ids(llama_model_get_vocab(m), unhex(h), false, false);
		print_ids(llama_model_get_vocab(m), unhex(h), true, true);
		putchar('\n');
	}
	llama_model_free(m);
}

int main(int, char **argv)
{
	static const char *const sets[][2] = {
		{"llama-bpe", ""}, {"gpt-2", ""}, {"qwen2", ""}, {"deepseek-llm", ""}, {"phi-3", ""},
		{"llama-spm", ""}, {"llama-bpe", "default"}, {"llama-bpe", "falcon3"},
		{"llama-bpe", "falcon"}, {"llama-bpe", "starcoder"}, {"llama-bpe", "qwen35"},
		{"llama-bpe", "deepseek-coder"}, {"llama-bpe", "deepseek-v3"}, {"llama-bpe", "tekken"},
		{"llama-bpe", "gpt-4o"}, {"llama-bpe", "seed-coder"},
	};
	std::vector<std::string> texts;
	std::string line;

	llama_log_set(quiet, nullptr);
	while (std::getline(std::cin, line))
		texts.push_back(line);
	printf("# text in hex, ids as text without BOS, ids with special tokens parsed and BOS by the\n"
	       "# model's rule; \"@ vocabulary pre-tokenizer\". Written by tests/vectors/tokens.cpp.\n");
	for (auto &s : sets)
		block(argv[1], s[0], s[1], texts);
}
