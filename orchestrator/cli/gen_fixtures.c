#include "cli.h"

#include "model/fixtures.h"

#include <jansson.h>
#include <stdio.h>
#include <sys/stat.h>

static int print(struct cli *c, const struct fixture_options *o, const char *out, struct err *e)
{
	struct stat st;

	if (stat(out, &st) < 0)
		return err_set(e, EXIT_INTERNAL, "%s is not there after writing it", out);
	if (!cli_json(c)) {
		printf("%s\t%lld bytes\n", out, (long long)st.st_size);
		return 0;
	}
	json_t *j = json_pack("{s:s, s:I, s:s, s:I, s:s?, s:s?}", "path", out, "bytes",
			      (json_int_t)st.st_size, "preset", o->preset, "seed",
			      (json_int_t)o->seed, "weights", o->weights, "vocab", o->vocab_path);
	if (!j)
		return err_set(e, EXIT_INTERNAL, "out of memory");
	json_dumpf(j, stdout, JSON_SORT_KEYS);
	putchar('\n');
	json_decref(j);
	return 0;
}

static int size_of(struct cli *c, const char *name)
{
	int64_t v = cli_int(c, name);

	return v < 0 || v > 1 << 30 ? -1 : (int)v;
}

static int run(struct cli *c, struct err *e)
{
	struct fixture_options o = {
		.preset = cli_str(c, "preset"),
		.weights = cli_str(c, "weights"),
		.vocab_path = cli_str(c, "vocab"),
		.seed = (uint64_t)cli_int(c, "seed"),
		.arch = cli_str(c, "arch"),
		.n_layer = size_of(c, "layers"),
		.n_embd = size_of(c, "embd"),
		.n_ff = size_of(c, "ff"),
		.n_head = size_of(c, "heads"),
		.n_kv_head = size_of(c, "kv-heads"),
		.n_ctx = size_of(c, "ctx"),
	};
	const char *out = cli_str(c, "out");
	char path[256];
	int rc;

	if (!out) {
		snprintf(path, sizeof(path), "%s.gguf", o.preset);
		out = path;
	}
	rc = fixture_write(out, &o, e);
	return rc < 0 ? rc : print(c, &o, out, e);
}

const struct command cmd_gen_fixtures = {
	.name = "gen-fixtures",
	.group = "Models",
	.summary =
		"generate a loadable model with real tensors: the same bytes from the same options",
	.examples = "  assay gen-fixtures --preset tiny-bitnet --out tiny.gguf\n"
		    "  assay gen-fixtures --preset tiny-llama --weights q4_k_m --seed 7\n"
		    "  assay gen-fixtures --preset bitnet-2b4t --vocab ggml-vocab-llama-bpe.gguf\n",
	.opts =
		(const struct opt[]){
			{"preset", OPT_STR, "NAME",
			 "tiny-bitnet, tiny-bitnet-silu, tiny-llama, tiny-llama3, "
			 "tiny-llama-linear, tiny-llama-yarn, tiny-qwen2, tiny-qwen3, llama-1b, bitnet-2b4t",
			 "tiny-bitnet", NULL, NULL, 0},
			{"weights", OPT_STR, "TYPE",
			 "of the linear layers: i2_s, tl2, tq2_0, f16, q8_0, q4_k_m, …", NULL, NULL,
			 NULL, 0},
			{"out", OPT_STR, "FILE", "where to write; PRESET.gguf here when not given",
			 NULL, NULL, NULL, 0},
			{"seed", OPT_INT, "N", "of the random numbers", "0", NULL, NULL, 0},
			{"vocab", OPT_STR, "FILE",
			 "GGUF file whose vocabulary is copied; built-in byte-level BPE "
			 "when not given",
			 NULL, NULL, NULL, 0},
			{"arch", OPT_STR, "NAME", "architecture instead of the preset's", NULL,
			 NULL, NULL, 0},
			{"layers", OPT_INT, "N", "number of layers instead of the preset's", "0",
			 NULL, NULL, 0},
			{"embd", OPT_INT, "N", "size of an embedding", "0", NULL, NULL, 0},
			{"ff", OPT_INT, "N", "size of the feed-forward part", "0", NULL, NULL, 0},
			{"heads", OPT_INT, "N", "number of query heads", "0", NULL, NULL, 0},
			{"kv-heads", OPT_INT, "N", "number of key and value heads", "0", NULL, NULL,
			 0},
			{"ctx", OPT_INT, "N", "context length told in the file", "0", NULL, NULL,
			 0},
			{0},
		},
	.run = run,
};
