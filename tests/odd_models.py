#!/usr/bin/env python3
"""Models that are sound but unusual: what `native` does with each is computed rightly, or refused by name.

usage: odd_models.py ASSAY FOLDER [--reference NAME] [CASE …]

Computed means every bit of a reference's logits where one is named, and else the float64 oracle's
within what its formats explain. Prints ok/not ok lines, one per case.
"""
import os
import random
import struct
import subprocess
import sys

from gguf_file import (ARR, BOOL, F32, F64, I16, I32, I64, STR, U16, U32, U64, U8, WEIGHT_BF16, WEIGHT_F16,
                       WEIGHT_F32, Model)


# ---- changes to a model -------------------------------------------------------------------------
def values(n, centre=0.0, sigma=0.3, seed=1):
    rng = random.Random(seed * 1000003 + n)
    return [centre + sigma * rng.gauss(0, 1) for _ in range(n)]


def f32(v):
    return struct.pack("<%df" % len(v), *v)


def add(m, name, v, dims=None, kind=WEIGHT_F32):
    """Another tensor, of these values."""
    data = {WEIGHT_F32: f32, WEIGHT_F16: lambda v: struct.pack("<%de" % len(v), *v),
            WEIGHT_BF16: lambda v: b"".join(f32([x])[2:] for x in v)}[kind](v)
    m.place(m.pieces() + [(name.encode(), dims or [len(v)], kind, data)])


def drop(m, *names):
    m.place([p for p in m.pieces() if p[0].decode() not in names])


def recast(m, name, kind):
    """A float32 tensor in another float type."""
    v = struct.unpack("<%df" % (len(m.payload(name)) // 4), m.payload(name))
    drop(m, name)
    add(m, name, v, None, kind)


def cut(m, name, ne0, ne1):
    """The first ne1 rows of a tensor, and of each the first ne0 values (of float32)."""
    out = []
    for n, dims, kind, data in m.pieces():
        if n.decode() == name:
            row = len(data) // dims[1]
            keep = row if ne0 == dims[0] else 4 * ne0
            data = b"".join(data[i * row:i * row + keep] for i in range(ne1))
            dims = [ne0, ne1]
        out.append((n, dims, kind, data))
    m.place(out)


def key(name, kind, value):
    return lambda m: m.kv.__setitem__(name.replace("*", m.kv["general.architecture"][1].decode()), (kind, value))


def lack(name):
    return lambda m: m.kv.pop(name.replace("*", m.kv["general.architecture"][1].decode()))


def vocabulary(n):
    def change(m):
        cut(m, "token_embd.weight", m.tensor("token_embd.weight")[1][0], n)
        if any(t[0] == b"output.weight" for t in m.tensors):
            cut(m, "output.weight", m.tensor("output.weight")[1][0], n)
        for k in ("tokens", "token_type", "scores"):
            if "tokenizer.ggml." + k in m.kv:
                kind, (elem, v) = m.kv["tokenizer.ggml." + k]
                m.kv["tokenizer.ggml." + k] = (kind, [elem, v[:n]])
        for k in list(m.kv):
            if k.endswith("_token_id"):
                m.kv[k] = (U32, 0)
    return change


def narrow_heads(size):
    """Heads that together are narrower than the embeddings."""
    def change(m):
        heads, kv = (m.kv["llama.attention.head_count" + s][1] for s in ("", "_kv"))
        for i in range(m.kv["llama.block_count"][1]):
            name = "blk.%d.attn_" % i
            embd = m.tensor(name + "q.weight")[1][0]
            cut(m, name + "q.weight", embd, heads * size)
            cut(m, name + "k.weight", embd, kv * size)
            cut(m, name + "v.weight", embd, kv * size)
            cut(m, name + "output.weight", heads * size, embd)
        for k in ("attention.key_length", "attention.value_length", "rope.dimension_count"):
            m.kv["llama." + k] = (U32, size)
    return change


def each_layer(suffix, n, centre=0.0, sigma=0.3):
    def change(m):
        arch = m.kv["general.architecture"][1].decode()
        for i in range(m.kv[arch + ".block_count"][1]):
            add(m, "blk.%d.%s" % (i, suffix), values(n, centre, sigma, i + len(suffix)))
    return change


def tensor(name, n, centre=0.0, sigma=0.3, kind=WEIGHT_F32, dims=None):
    return lambda m: add(m, name, values(n, centre, sigma), dims, kind)


def of_types(*presets):
    """Tensors in turn from the same model in other weight types, seeds and all."""
    def change(m):
        at = m.options.index("--weights") + 1
        others = [Model(generate(*m.options[:at], w, *m.options[at + 1:])) for w in presets]
        out = []
        for i, (name, dims, kind, data) in enumerate(m.pieces()):
            o = others[i % len(others)]
            if len(dims) == 2:
                kind, data = o.tensor(name.decode())[2], o.payload(name.decode())
            out.append((name, dims, kind, data))
        m.place(out)
    return change


def aligned(n):
    def change(m):
        pieces = m.pieces()
        m.kv["general.alignment"], m.alignment = (U32, n), n
        m.place(pieces)
    return change


def both(*changes):
    def change(m):
        for c in changes:
            c(m)
    return change


def nothing(m):
    pass


# ---- the cases ----------------------------------------------------------------------------------
L = "--preset tiny-llama --layers 2 "
F = L + "--weights f32 "
SMALL = "--embd 128 --heads 4 --kv-heads 2 --ff 160 "
B = "--preset tiny-bitnet-silu --layers 2 --weights f32 "
Q2, Q3 = "--preset tiny-qwen2 --layers 2 --weights f32 ", "--preset tiny-qwen3 --layers 2 --weights f32 "
WIDE = Q3 + "--arch llama "
YARN = "--preset tiny-llama-yarn --weights f32 "
# name: options of gen-fixtures, change, "" or the words of the refusal
CASES = {
    # shapes
    "heads 7 to 1": (F + "--embd 224 --heads 7 --kv-heads 1 --ff 96", nothing, ""),
    "heads 5 to 5, feed-forward 13 · 32": (F + "--embd 160 --heads 5 --kv-heads 5 --ff 416", nothing, ""),
    "heads 3 to 1 in q8_0": (L + "--weights q8_0 --embd 96 --heads 3 --kv-heads 1 --ff 224", nothing, ""),
    "heads 6 to 2 in q4_1": (L + "--weights q4_1 --embd 192 --heads 6 --kv-heads 2 --ff 352", nothing, ""),
    "head of 2": (F + "--embd 8 --heads 4 --kv-heads 4 --ff 7", nothing, ""),
    "head of 6, odd feed-forward": (F + "--embd 30 --heads 5 --kv-heads 5 --ff 77", nothing, ""),
    "head of 6 in f16": (L + "--weights f16 --embd 30 --heads 5 --kv-heads 1 --ff 77", nothing, ""),
    "head of 10 in bf16": (L + "--weights bf16 --embd 50 --heads 5 --kv-heads 1 --ff 33", nothing, ""),
    "head of 14, qwen2": (Q2 + "--embd 70 --heads 5 --kv-heads 1 --ff 45", nothing, ""),
    "head of 80": (F + "--embd 320 --heads 4 --kv-heads 2 --ff 96", nothing, ""),
    "head of 130": (F + "--embd 260 --heads 2 --kv-heads 1 --ff 100", nothing, ""),
    "head of 256": (F + "--embd 512 --heads 2 --kv-heads 1 --ff 64", nothing, ""),
    "head of 512": (F + "--embd 512 --heads 1 --kv-heads 1 --ff 64", nothing, ""),
    "one layer": ("--preset tiny-llama --layers 1 --weights f32 " + SMALL, nothing, ""),
    "heads wider than the embeddings": (WIDE, nothing, ""),
    "heads narrower than the embeddings": (F + SMALL, narrow_heads(24), ""),
    "vocabulary of 77": (F + SMALL, vocabulary(77), ""),
    "vocabulary of 3": (F + SMALL, vocabulary(3), ""),
    "vocabulary of 77 in q8_0, tied": ("--preset tiny-qwen2 --weights q8_0 " + SMALL, vocabulary(77), ""),
    "tied llama": (F + SMALL, lambda m: drop(m, "output.weight"), ""),
    "qwen2 with an output of its own": (Q2 + SMALL, lambda m: add(
        m, "output.weight", values(128 * 480, 0, .2), [128, m.tensor("token_embd.weight")[1][1]]), ""),
    "head counts as equal arrays": (F + SMALL, both(
        key("*.attention.head_count", ARR, [I32, [4, 4]]), key("*.attention.head_count_kv", ARR, [U32, [2, 2]]),
        key("*.feed_forward_length", ARR, [I32, [160, 160]])), ""),
    "head counts by layer": (F + SMALL, key("*.attention.head_count_kv", ARR, [I32, [2, 1]]),
                             "llama.attention.head_count_kv differs between layers (2 in layer 0, 1 in layer 1)"),
    "an array of another length": (F + SMALL, key("*.attention.head_count_kv", ARR, [I32, [2, 2, 2]]),
                                   "llama.attention.head_count_kv has 3 values for 2 layers"),
    "values of another size than keys": (F + SMALL, key("*.attention.value_length", U32, 16),
                                         "head size is 32 for keys and 16 for values"),
    "an odd head": (F + SMALL, key("*.attention.key_length", U32, 33), "one even size is supported"),
    # weights
    "q4_0 embeddings, q8_0, q6_k and f16 layers": (L + "--weights q4_0 --embd 256 --heads 4",
                                                   of_types("q4_0", "q8_0", "q6_k", "f16", "bf16"), ""),
    "q2_k, q3_k, q5_1, q4_1 and f32 mixed": (L + "--weights q2_k --embd 256 --heads 4",
                                             of_types("q2_k", "q3_k", "q5_1", "f32", "q4_1", "q5_k"), ""),
    "q4_k, q5_0, tq1_0 and tq2_0 mixed": (L + "--weights q4_k --embd 256 --heads 4",
                                          of_types("q4_k", "q5_0", "tq1_0", "tq2_0"), ""),
    "a norm in f16": (F + SMALL, lambda m: recast(m, "output_norm.weight", WEIGHT_F16),
                      "tensor output_norm.weight is stored as f16; expected aligned f32"),
    "a norm in bf16": (F + SMALL, lambda m: recast(m, "blk.1.ffn_norm.weight", WEIGHT_BF16),
                       "tensor blk.1.ffn_norm.weight is stored as bf16; expected aligned f32"),
    "a bias in f16": (F + SMALL, tensor("blk.0.attn_q.bias", 128, kind=WEIGHT_F16),
                      "tensor blk.0.attn_q.bias is stored as f16"),
    "an output in two types": (F + SMALL, lambda m: recast(m, "output.weight", WEIGHT_F16), "tensor output.weight is"),
    # biases and scales
    "llama with all biases": (F + SMALL, both(*(each_layer(s + ".bias", n) for s, n in (
        ("attn_q", 128), ("attn_k", 64), ("attn_v", 64), ("attn_output", 128), ("ffn_gate", 160), ("ffn_up", 160),
        ("ffn_down", 128)))), ""),
    "qwen2 without biases": (Q2 + SMALL, lambda m: drop(m, *[
        "blk.%d.attn_%s.bias" % (i, s) for i in (0, 1) for s in "qkv"]), ""),
    "qwen3 with biases": (Q3 + SMALL, both(*(each_layer("attn_%s.bias" % s, n) for s, n in (
        ("q", 128), ("k", 64), ("v", 64)))), ""),
    "qwen2 with a bias of the output": (Q2 + SMALL, tensor("output.bias", 480), ""),
    "scales in llama": (F + SMALL, both(*(each_layer(s + ".scale", 1, 1.5) for s in (
        "attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"))), ""),
    "scales and biases of the attention": (F + SMALL, both(*(each_layer(s, n, 1.5) for s, n in (
        ("attn_q.bias", 128), ("attn_q.scale", 1), ("attn_output.bias", 128), ("attn_output.scale", 1)))), ""),
    "scales and biases of the feed-forward": (F + SMALL, both(*(each_layer(s, n, 1.5) for s, n in (
        ("ffn_up.bias", 160), ("ffn_up.scale", 1), ("ffn_down.bias", 128), ("ffn_down.scale", 1)))), ""),
    # rotation
    "linear by 2.5": (F + SMALL, both(key("*.rope.scaling.type", STR, b"linear"),
                                      key("*.rope.scaling.factor", F32, 2.5)), ""),
    "linear by the old key": (F + SMALL, key("*.rope.scale_linear", F32, 3.0), ""),
    "type none with a factor": (F + SMALL, both(key("*.rope.scaling.type", STR, b"none"),
                                                key("*.rope.scaling.factor", F32, 4)), ""),
    "attn_factor without scaling": (F + SMALL, key("*.rope.scaling.attn_factor", F32, 1.3), ""),
    "attn_factor with none": (F + SMALL, both(key("*.rope.scaling.type", STR, b"none"),
                                              key("*.rope.scaling.attn_factor", F32, 0.7)), ""),
    "YaRN with attn_factor": (YARN + SMALL, key("*.rope.scaling.attn_factor", F32, 1.3), ""),
    "YaRN by 1.7, base 1e6": (YARN + SMALL, both(key("*.rope.scaling.factor", F32, 1.7),
                                                 key("*.rope.freq_base", F32, 1e6)), ""),
    "YaRN that shortens": (YARN + SMALL, key("*.rope.scaling.factor", F32, 0.5), ""),
    "YaRN without a factor": (YARN + SMALL, lack("*.rope.scaling.factor"), ""),
    "YaRN without the first context": (YARN + SMALL, lack("*.rope.scaling.original_context_length"), ""),
    "YaRN of few positions": (YARN + SMALL, key("*.rope.scaling.original_context_length", U32, 20), ""),
    "YaRN in qwen2": (Q2 + SMALL, both(key("*.rope.scaling.type", STR, b"yarn"),
                                       key("*.rope.scaling.factor", F32, 4),
                                       key("*.rope.scaling.original_context_length", U32, 512)), ""),
    "YaRN in qwen3": (Q3 + SMALL, both(key("*.rope.scaling.type", STR, b"yarn"),
                                       key("*.rope.scaling.factor", F32, 4),
                                       key("*.rope.scaling.original_context_length", U32, 512)), ""),
    "base 10000.5": (F + SMALL, key("*.rope.freq_base", F32, 10000.5), ""),
    "base 1.5": (F + SMALL, key("*.rope.freq_base", F32, 1.5), ""),
    "base 1e9": (F + SMALL, key("*.rope.freq_base", F32, 1e9), ""),
    "no base": (F + SMALL, lack("*.rope.freq_base"), ""),
    "factors of the frequencies": (F + SMALL, tensor("rope_freqs.weight", 16, 3, 0.9), ""),
    "factors and linear scaling": (F + SMALL, both(tensor("rope_freqs.weight", 16, 3, 0.9),
                                                   key("*.rope.scaling.factor", F32, 2)), ""),
    "too few factors": (F + SMALL, tensor("rope_freqs.weight", 8), "tensor rope_freqs.weight is 8; expected 16"),
    "half of each head turns, bitnet": (B + "--embd 256 --heads 4", key("*.rope.dimension_count", U32, 32), ""),
    "half of each head turns, llama": (F + SMALL, key("*.rope.dimension_count", U32, 16), ""),
    "half of each head turns, qwen2": (Q2 + SMALL, key("*.rope.dimension_count", U32, 16), ""),
    "longrope": (F + SMALL, key("*.rope.scaling.type", STR, b"longrope"), "is \"longrope\"; known are none, linear and yarn"),
    "dynamic scaling": (F + SMALL, key("*.rope.scaling.type", STR, b"dynamic"), "is \"dynamic\"; known are"),
    "first context as a float": (YARN + SMALL, key("*.rope.scaling.original_context_length", F32, 512),
                                 "key 'llama.rope.scaling.original_context_length' is f32, an integer is needed"),
    "attn_factor as an integer": (F + SMALL, key("*.rope.scaling.attn_factor", I32, 2),
                                  "key 'llama.rope.scaling.attn_factor' is i32, a float is needed"),
    "a negative dimension count": (F + SMALL, key("*.rope.dimension_count", I32, -32),
                                   "key 'llama.rope.dimension_count' is -32"),
    # what a key changes
    "no experts": (F + SMALL, key("*.expert_count", U32, 0), ""),
    "experts": (F + SMALL, both(key("*.expert_count", U32, 4), key("*.expert_used_count", U32, 2)),
                "llama.expert_count is 4"),
    "causal": (F + SMALL, key("*.attention.causal", BOOL, 1), ""),
    "not causal": (F + SMALL, key("*.attention.causal", BOOL, 0), "llama.attention.causal is false"),
    "no layers for drafts": (F + SMALL, key("*.nextn_predict_layers", U32, 0), ""),
    "layers for drafts": (F + SMALL, key("*.nextn_predict_layers", U32, 1), "llama.nextn_predict_layers is 1"),
    "scales of granite": (F + SMALL, both(*(key("*." + k, F32, v) for k, v in (
        ("attention.scale", 0.5), ("logit_scale", 4), ("residual_scale", 0.22), ("embedding_scale", 12)))), ""),
    "a sliding window": (F + SMALL, key("*.attention.sliding_window", U32, 8), ""),
    "caps of logits": (F + SMALL, both(key("*.attn_logit_softcapping", F32, 5),
                                       key("*.final_logit_softcapping", F32, 3),
                                       key("*.attention.clamp_kqv", F32, 0.1)), ""),
    "YaRN with other betas": (YARN + SMALL, both(key("*.rope.scaling.yarn_beta_fast", F32, 8),
                                                 key("*.rope.scaling.yarn_ext_factor", F32, 0.5)), ""),
    "a context of 16": (F + SMALL, key("*.context_length", U32, 16), ""),
    "a pooling type": (F + SMALL, key("*.pooling_type", U32, 1), ""),
    # tensors nobody asks for
    "norms of q and k in llama": (F + SMALL, both(tensor("blk.0.attn_q_norm.weight", 32, 1),
                                                  tensor("blk.0.attn_k_norm.weight", 32, 1)),
                                  "tensor blk.0.attn_q_norm.weight is not one that architecture llama has"),
    "a norm behind the attention": (Q2 + SMALL, tensor("blk.1.post_attention_norm.weight", 128, 1),
                                    "tensor blk.1.post_attention_norm.weight is not one that architecture qwen2 has"),
    "sub-norms in llama": (F + SMALL, tensor("blk.0.attn_sub_norm.weight", 128, 1),
                           "tensor blk.0.attn_sub_norm.weight is not one that architecture llama has"),
    "a layer too many": (F + SMALL, key("*.block_count", U32, 1),
                         "tensor blk.1.attn_norm.weight is not one that architecture llama has"),
    "any other tensor": (F + SMALL, tensor("extra.weight", 5), "tensor extra.weight is not one that"),
    "q, k and v in one": (F + SMALL, both(lambda m: drop(m, *["blk.0.attn_%s.weight" % s for s in "qkv"]), tensor(
        "blk.0.attn_qkv.weight", 128 * 256, dims=[128, 256])), "tensor blk.0.attn_q.weight is missing"),
    # the file
    "alignment of 64": (F + SMALL, aligned(64), ""),
    "alignment of 8": (F + "--embd 30 --heads 5 --kv-heads 5 --ff 77", aligned(8), ""),
    "alignment of 4096": (F + SMALL, aligned(4096), ""),
    "version 2": (F + SMALL, lambda m: setattr(m, "version", 2), ""),
    "version 1": (F + SMALL, lambda m: setattr(m, "version", 1), "GGUF version 1 is not supported"),
    "head counts of 8 and 16 bits": (F + SMALL, both(key("*.attention.head_count", U8, 4),
                                                     key("*.attention.head_count_kv", I16, 2)), ""),
    "sizes of 64 bits": (F + SMALL, both(key("*.embedding_length", I64, 128),
                                         key("*.block_count", U64, 2)), ""),
    "an epsilon of 64 bits": (F + SMALL, key("*.attention.layer_norm_rms_epsilon", F64, 1e-5), ""),
    "one part of a split": (F + SMALL, key("split.count", U16, 2), "part of a model split into 2 files"),
    "one part that is all": (F + SMALL, both(key("split.count", U16, 1), key("split.no", U16, 0)), ""),
    "vocabulary none": (F + SMALL, both(key("tokenizer.ggml.model", STR, b"none"), lack("tokenizer.ggml.tokens"),
                                        key("*.vocab_size", U32, 480)), ""),
}
# what llama.cpp v0.5.0 refuses, stricter than the file's meaning needs, or ends at an assertion
REFERENCE_REFUSES = {
    "half of each head turns, llama", "half of each head turns, qwen2", "head counts of 8 and 16 bits",
    "sizes of 64 bits", "an epsilon of 64 bits", "alignment of 8",
}


def pieces(*first):
    """A SentencePiece vocabulary that begins with these, scored by integers, later ones lower."""
    def change(m):
        tokens = [p.encode() for p in ("<unk>", "<s>", "</s>") + first]
        tokens += [b"<0x%02X>" % i for i in range(256)]
        tokens += [b"x%d" % i for i in range(480 - len(tokens))]
        m.kv["tokenizer.ggml.model"] = (STR, b"llama")
        m.kv["tokenizer.ggml.tokens"] = (ARR, [STR, tokens])
        m.kv["tokenizer.ggml.scores"] = (ARR, [I32, [-i for i in range(480)]])
        m.kv["tokenizer.ggml.token_type"] = (ARR, [I32, [2, 3, 3] + [1] * 477])
        for k in ("merges", "pre", "bos_token_id", "eos_token_id", "add_bos_token"):
            m.kv.pop("tokenizer.ggml." + k, None)
    return change


def token(i, text, kind):
    def change(m):
        m.kv["tokenizer.ggml.tokens"][1][1][i] = text
        m.kv["tokenizer.ggml.token_type"][1][1][i] = kind
    return change


# name: change, text, its ids or the words of the refusal; NORMAL 1, UNKNOWN 2, CONTROL 3, USER 4
TEXTS = {
    "scores that are integers": (pieces("▁", "a", "b", "ab", "▁a", "▁ab"), "ab", "1,8"),
    "no space in front": (both(pieces("▁", "a", "b", "ab", "▁a", "▁ab"),
                               key("tokenizer.ggml.add_space_prefix", BOOL, 0)), "ab", "1,6"),
    "EOS and no BOS": (both(pieces("▁", "a", "b", "ab"), key("tokenizer.ggml.add_bos_token", BOOL, 0),
                            key("tokenizer.ggml.add_eos_token", BOOL, 1)), "b", "3,5,2"),
    "bytes where no piece is": (pieces("▁", "a"), "ä", "1,3,200,169"),
    "a token that looks like one for the middle": (token(400, b"<|fim_prefix|>", 4), "<|fim_prefix|>", "!400"),
    "… which the file names": (both(token(400, b"<|fim_prefix|>", 4), key("tokenizer.ggml.fim_pre_token_id", U32, 400)),
                               "<|fim_prefix|>", "475,400"),
    "a vocabulary that is none": (both(key("tokenizer.ggml.model", STR, b"none"), lack("tokenizer.ggml.tokens")),
                                  "a", "the model has no vocabulary"),
}


# ---- running ------------------------------------------------------------------------------------
ASSAY, FOLDER = os.path.abspath(sys.argv[1]), sys.argv[2]
made = {}


def generate(*options):
    if options not in made:
        made[options] = os.path.join(FOLDER, "base-%d.gguf" % len(made))
        subprocess.run([ASSAY, "gen-fixtures", *options, "--out", made[options]], check=True,
                       stdout=subprocess.DEVNULL)
    return made[options]


def logits(engine, model, ids, *options):
    out = os.path.join(FOLDER, "out.f32")
    p = subprocess.run([ASSAY, "logits", "--engine", engine, "--model", model, "--tokens", ids, "--out", out,
                        *(options or ("--threads", "2"))], stdin=subprocess.DEVNULL, capture_output=True,
                       timeout=300)
    said = p.stderr.decode("utf-8", "replace")
    return p.returncode, said, open(out, "rb").read() if p.returncode == 0 else b""


def far(a, b):
    """The normalised mean square error of a to b."""
    x, y = (struct.unpack("<%df" % (len(v) // 4), v) for v in (a, b))
    return sum((p - q) ** 2 for p, q in zip(x, y)) / (sum(q * q for q in y) or 1)


def judge(name, words, model, ids, reference):
    code, said, ours = logits("native", model, ids)
    if words:
        good = code in (10, 15) and words in said
        return None if good else "exit %d, not refused with \"%s\": %s" % (code, words, said.strip())
    if code != 0:
        return "exit %d: %s" % (code, said.strip())
    plain = logits("native", model, ids, "--threads", "1", "--isa", "c", "--batch", "7")
    if plain[2] != ours:
        return "plain C in batches of 7 gives other bits: exit %d: %s" % plain[:2]
    other = reference if reference and name not in REFERENCE_REFUSES else "oracle"
    code, said, theirs = logits(other, model, ids)
    if code != 0:
        return "%s says exit %d: %s" % (other, code, said.strip()[-600:])
    if other == "oracle":
        nmse = far(ours, theirs)
        return None if nmse < 1e-3 else "NMSE %g to the oracle" % nmse
    return None if ours == theirs else "other bits than %s, NMSE %g" % (other, far(ours, theirs))


def texts(only):
    base, path, bad = generate(*(F + SMALL).split()), os.path.join(FOLDER, "odd.gguf"), False
    for name, (change, text, want) in TEXTS.items():
        if only and name not in only:
            continue
        m = Model(base)
        change(m)
        with open(path, "wb") as f:
            f.write(m.bytes())
        p = subprocess.run([ASSAY, "tokenize", "--model", path, "--ids", text], stdin=subprocess.DEVNULL,
                           capture_output=True, timeout=300)
        ids, said = p.stdout.decode().strip(), p.stderr.decode("utf-8", "replace")
        if want[0] == "!":
            good = p.returncode == 0 and want[1:] not in ids.split(",")
        else:
            good = ids == want if want[0].isdigit() else p.returncode == 15 and want in said
        print("%sok - %s" % ("" if good else "not ", name), flush=True)
        if not good:
            bad = True
            print("    exit %d, \"%s\": %s" % (p.returncode, ids, said))
    return bad


def main():
    rest = sys.argv[3:]
    reference = None
    if rest[:1] == ["--reference"]:
        reference, rest = rest[1], rest[2:]
    bad = False
    for name, (options, change, words) in CASES.items():
        if rest and name not in rest:
            continue
        m = Model(generate(*options.split()))
        m.options = options.split()
        change(m)
        path = os.path.join(FOLDER, "odd.gguf")
        with open(path, "wb") as f:
            f.write(m.bytes())
        n_vocab = m.tensor("token_embd.weight")[1][1]
        rng = random.Random(5)
        why = judge(name, words, path, ",".join(str(rng.randrange(n_vocab)) for _ in range(41)), reference)
        print("%sok - %s%s" % ("not " if why else "", name, ": refused by name" if words else ""), flush=True)
        if why:
            bad = True
            print("    " + why.replace("\n", "\n    "))
    return texts(rest) or bad


sys.exit(main())
