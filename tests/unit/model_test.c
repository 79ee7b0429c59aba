/* Opening models: what a file says wins, overrides win over it, and what is wrong is one sentence
 * that names the thing. */
#include "fixtures.h"
#include "model.h"
#include "sample.h"
#include "test.h"

#include <math.h>
#include <unistd.h>

static char path[] = "/tmp/model_test.XXXXXX";

static void make(const char *preset, const char *weights)
{
	struct err e = ERR_NONE;
	if (fixture_write(path, &(struct fixture_options){.preset = preset, .weights = weights},
			  &e) != 0)
		CHECK(0, "%s: %s", preset, e.msg);
}

/* Replaces every occurrence of one text of the file by another of the same length. */
static int patch(const char *from, const char *to)
{
	FILE *f = fopen(path, "r+b");
	fseek(f, 0, SEEK_END);
	size_t n = (size_t)ftell(f), k = strlen(from);
	char *all = malloc(n);
	rewind(f);
	int found = 0;
	if (fread(all, 1, n, f) == n)
		for (size_t i = 0; i + k <= n; i++)
			if (memcmp(all + i, from, k) == 0) {
				memcpy(all + i, to, k);
				found++;
			}
	rewind(f);
	fwrite(all, 1, n, f);
	fclose(f);
	free(all);
	return found;
}

static void check_refused(const char *override, int code, const char *sentence)
{
	struct model m;
	struct err e = ERR_NONE;
	struct overrides o = {&override, override ? 1 : 0};
	int rc = model_open(&m, path, &o, &e);
	if (rc == 0)
		model_close(&m);
	const char *text =
		strncmp(e.msg, path, strlen(path)) == 0 ? e.msg + strlen(path) + 2 : e.msg;
	CHECK(rc == -code, "refused with %d", code);
	CHECK_STR(text, sentence, "%s", sentence);
}

static void check_files(void)
{
	make("tiny-llama", "f16");
	check_refused("general.architecture=str:mamba", EXIT_MODEL_LOAD,
		      "architecture \"mamba\" is not supported; known are bitnet-b1.58, bitnet-25, "
		      "bitnet, llama, qwen2, qwen3");
	check_refused("general.architecture=str:qwen2", EXIT_MODEL_LOAD,
		      "the model file lacks qwen2.block_count");
	check_refused("llama.block_count=int:4", EXIT_MODEL_LOAD,
		      "tensor blk.3.attn_norm.weight is missing; architecture llama needs it");
	check_refused("llama.block_count=int:0", EXIT_MODEL_LOAD,
		      "llama.block_count is 0; expected 1 to 512");
	check_refused("llama.feed_forward_length=int:500", EXIT_MODEL_LOAD,
		      "tensor blk.0.ffn_gate.weight is 256 × 512; expected 256 × 500");
	check_refused("llama.attention.head_count_kv=int:3", EXIT_MODEL_LOAD,
		      "4 attention heads cannot share 3 key/value heads");
	check_refused("llama.attention.value_length=int:32", EXIT_MODEL_LOAD,
		      "head size is 64 for keys and 32 for values; one even size is supported");
	check_refused("llama.rope.scaling.type=str:longrope", EXIT_MODEL_LOAD,
		      "llama.rope.scaling.type is \"longrope\"; known are none, linear and yarn");
	check_refused(
		"llama.rope.dimension_count=int:66", EXIT_MODEL_LOAD,
		"llama.rope.dimension_count is 66; expected an even number up to the head size 64");
	check_refused("llama.hidden_activation=str:gelu", EXIT_MODEL_LOAD,
		      "llama.hidden_activation is \"gelu\"; known activations are silu and relu2");
	check_refused(
		"llama.block_count", EXIT_USAGE,
		"override \"llama.block_count\" is not of the form KEY=TYPE:VALUE with TYPE int, "
		"float, bool or str");
	check_refused(
		"llama.block_count=int:3x", EXIT_USAGE,
		"override \"llama.block_count=int:3x\" is not of the form KEY=TYPE:VALUE with TYPE "
		"int, float, bool or str");
	CHECK(patch("blk.1.ffn_up.weight", "blk.1.ffn_uq.weight") == 1, "a tensor renamed");
	check_refused(NULL, EXIT_MODEL_LOAD,
		      "tensor blk.1.ffn_up.weight is missing; architecture llama needs it");
	make("tiny-qwen3", "f16");
	CHECK(patch("attn_q_norm", "attn_q_nxrm") == 3, "q norms renamed");
	check_refused(NULL, EXIT_MODEL_LOAD,
		      "tensor blk.0.attn_q_norm.weight is missing; architecture qwen3 needs it");
	FILE *f = fopen(path, "wb");
	fclose(f);
	struct model m;
	struct err e = ERR_NONE;
	CHECK(model_open(&m, path, NULL, &e) != 0 && e.msg[0], "an empty file: %s",
	      e.msg[0] ? "refused with a sentence" : "no sentence");
}

static bool open_with(struct model *m, const char *override)
{
	struct err e = ERR_NONE;
	struct overrides o = {&override, override ? 1 : 0};
	if (model_open(m, path, &o, &e) == 0)
		return true;
	CHECK(0, "opens: %s", e.msg);
	return false;
}

static void check_hparams(void)
{
	struct model m;
	make("tiny-bitnet", "i2_s");
	if (open_with(&m, NULL)) {
		CHECK(m.hp.activation == ACTIVATION_RELU2 && m.hp.neox && m.tied &&
			      m.bitnet_family && m.layers[2].ffn_sub_norm && m.layers[2].q.w.tail &&
			      !m.layers[0].q.bias,
		      "bitnet-b1.58: squared ReLU, split halves, sub-norms, tied");
		CHECK(m.hp.head_dim == 64 && m.hp.n_head == 4 && m.hp.n_kv_head == 2 &&
			      m.hp.n_vocab == 480 && m.hp.attn_scale == 0.125f &&
			      m.hp.rope.base == 5e5f,
		      "its numbers");
		CHECK_STR(m.weights, "f32:13 f16:1 i2_s:21", "its weights");
		model_close(&m);
	}
	if (open_with(&m, "bitnet-b1.58.hidden_activation=str:silu")) {
		CHECK(m.hp.activation == ACTIVATION_SILU && m.hp.activation_from_file,
		      "hidden_activation wins over the architecture");
		model_close(&m);
	}
	make("tiny-llama", "f16");
	if (open_with(&m, NULL)) {
		CHECK(m.hp.activation == ACTIVATION_SILU && !m.hp.neox && !m.tied &&
			      !m.bitnet_family && !m.layers[0].ffn_sub_norm &&
			      m.hp.rope_scaling == ROPE_NONE,
		      "llama: SiLU, neighbouring pairs, its own output");
		model_close(&m);
	}
	if (open_with(&m, "llama.rope.scaling.factor=float:4")) {
		CHECK(m.hp.rope_scaling == ROPE_LINEAR && m.hp.rope.freq_scale == 0.25f,
		      "a factor without a kind is linear");
		model_close(&m);
	}
	if (open_with(&m, "llama.rope.freq_base=float:250000")) {
		CHECK(m.hp.rope.base == 250000.0f, "a float override");
		model_close(&m);
	}
	make("tiny-llama-yarn", "f16");
	if (open_with(&m, NULL)) {
		CHECK(m.hp.rope_scaling == ROPE_YARN && m.hp.rope.ext_factor == 1 &&
		      m.hp.rope.freq_scale < 1 && m.hp.rope.corr_high > m.hp.rope.corr_low &&
		      fabsf(m.hp.rope.attn_factor - 1) < 1e-6f, "YaRN's numbers");
		model_close(&m);
	}
	make("tiny-llama3", "f16");
	if (open_with(&m, NULL)) {
		CHECK(m.hp.rope.freq_factors && m.tied, "llama3: frequency factors, tied");
		model_close(&m);
	}
	make("tiny-qwen2", "f16");
	if (open_with(&m, NULL)) {
		CHECK(m.layers[0].q.bias && m.layers[0].v.bias && m.hp.neox, "qwen2: biases");
		model_close(&m);
	}
	make("tiny-qwen3", "f16");
	if (open_with(&m, NULL)) {
		CHECK(m.layers[1].q_norm && m.layers[1].k_norm && m.hp.head_dim == 128 &&
			      m.hp.n_head * m.hp.head_dim != m.hp.n_embd,
		      "qwen3: q and k norms, its own head size");
		model_close(&m);
	}
}

static void check_sampling(void)
{
	const float x[6] = {1, 3, NAN, 3, -INFINITY, 2};
	const float nans[3] = {NAN, NAN, 1};
	struct err e = ERR_NONE;
	CHECK(sample_greedy(x, 6) == 1 && sample_greedy(nans, 3) == 2,
	      "greedy: the first maximum, never NaN");
	int count[6] = {0}, same = 1;
	struct sampler a, b;
	sampler_init(&a, 6, 1, 0, 1, 42, &e);
	sampler_init(&b, 6, 1, 0, 1, 42, &e);
	for (int i = 0; i < 30000; i++) {
		int32_t id = sampler_choose(&a, x);
		count[id]++;
		same &= id == sampler_choose(&b, x);
	}
	/* e^1 : e^3 : e^3 : e^2 */
	const double z = exp(1) + 2 * exp(3) + exp(2);
	CHECK(same, "the same seed draws the same ids");
	CHECK(fabs(count[1] / 30000.0 - exp(3) / z) < 0.01 &&
		      fabs(count[0] / 30000.0 - exp(1) / z) < 0.01 && count[2] == 0 &&
		      count[4] == 0,
	      "frequencies are the softmax's");
	sampler_free(&a);
	sampler_free(&b);
	sampler_init(&a, 6, 1, 2, 1, 1, &e);
	sampler_init(&b, 6, 1, 0, 0.5f, 1, &e);
	memset(count, 0, sizeof(count));
	for (int i = 0; i < 1000; i++) {
		count[sampler_choose(&a, x)]++;
		count[sampler_choose(&b, x)]++;
	}
	CHECK(count[1] + count[3] == 2000 && count[1] > 0 && count[3] > 0,
	      "top-k 2 and top-p 0.5 keep the two best");
	sampler_free(&a);
	sampler_free(&b);
	CHECK(sampler_init(&a, 6, 1, 0, 2, 1, &e) == -EXIT_USAGE, "top-p 2 is refused");
}

int main(void)
{
	close(mkstemp(path));
	check_hparams();
	check_files();
	check_sampling();
	unlink(path);
	return TEST_END();
}
