#!/usr/bin/env python3
"""Plants single faults into one side of a comparison, one at a time, and asks `assay explain`: is it
detected, with the right verdict, at the right layer and operation, on the right side, with the right
hypothesis? Then harmless changes, none of which may be called a divergence. Prints the table of
tests/faults/README.md.

usage: faults.py ASSAY BUILD [NAME…]
"""
import json
import os
import struct
import subprocess
import sys
import tempfile

ASSAY, BUILD = sys.argv[1:3]
ONLY = sys.argv[3:]
TMP = tempfile.mkdtemp()
FAULTY = os.path.join(BUILD, "tests", "faulty_worker")
PROMPT = "2+2=4, ok"
SPACES = "It's the    capital's 1234567 of the THE'S  the"  # pre-tokenizers cut this differently


# Of these the lockfile knows the hash: the edited file is at fault. Of others that stays open, for
# both engines compute what their file says.
SEED = ("tiny-bitnet", None, ("--seed", "42"))
LOCKED = {SEED: ("reference",)}


def model(preset, weights=None, extra=()):
    path = os.path.join(TMP, preset + (weights or "") + "".join(extra) + ".gguf")
    if not os.path.exists(path):
        cmd = [ASSAY, "gen-fixtures", "--preset", preset, "--out", path, "-q", *extra]
        subprocess.run(cmd + (["--weights", weights] if weights else []), check=True, stdout=subprocess.DEVNULL)
    return path


# ---- editing a GGUF file ------------------------------------------------------------------------
def tensors(d):
    n_tensors, n_kv = struct.unpack_from("<QQ", d, 8)
    at = 24
    size = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

    def text(at):
        n = struct.unpack_from("<Q", d, at)[0]
        return d[at + 8:at + 8 + n].decode("utf8", "replace"), at + 8 + n
    for _ in range(n_kv):
        _, at = text(at)
        kind = struct.unpack_from("<I", d, at)[0]
        at += 4
        if kind == 8:
            _, at = text(at)
        elif kind == 9:
            kind, n = struct.unpack_from("<IQ", d, at)
            at += 12
            if kind == 8:
                for _ in range(n):
                    _, at = text(at)
            else:
                at += size[kind] * n
        else:
            at += size[kind]
    out = {}
    for _ in range(n_tensors):
        name, at = text(at)
        dims = struct.unpack_from("<I", d, at)[0]
        ne = struct.unpack_from("<%dQ" % dims, d, at + 4)
        kind, offset = struct.unpack_from("<IQ", d, at + 4 + 8 * dims)
        at += 16 + 8 * dims
        out[name] = [offset, ne, kind]
    start = (at + 31) // 32 * 32
    ends = sorted(t[0] for t in out.values()) + [len(d) - start]
    for t in out.values():
        t.append(min(e for e in ends if e > t[0]) - t[0])
        t[0] += start
    return out


def edited(path, edit):
    with open(path, "rb") as f:
        d = bytearray(f.read())
    edit(d, tensors(d))
    out = os.path.join(TMP, "edited.gguf")
    with open(out, "wb") as f:
        f.write(d)
    return out


def flip_code(name, byte):
    def edit(d, t):  # two bits of one byte: a code 0 (−1) or 1 (0) becomes 2 (+1)
        d[t[name][0] + byte] = (d[t[name][0] + byte] & ~3) | (2 if d[t[name][0] + byte] & 3 != 2 else 0)
    return edit


def half_at(name, at, factor):
    def edit(d, t):
        v = struct.unpack_from("<e", d, t[name][0] + at)[0]
        struct.pack_into("<e", d, t[name][0] + at, v * factor)
    return edit


def float_at(name, index, factor):
    def edit(d, t):
        v = struct.unpack_from("<f", d, t[name][0] + 4 * index)[0]
        struct.pack_into("<f", d, t[name][0] + 4 * index, v * factor)
    return edit


def xor_at(name, at, mask):
    def edit(d, t):
        d[t[name][0] + at] ^= mask
    return edit


def move_bytes(name, src, dst, n):
    def edit(d, t):
        at = t[name][0]
        d[at + dst:at + dst + n] = d[at + src:at + src + n]
    return edit


def swap_rows(name, i, j, row_bytes):
    def edit(d, t):
        a, b = t[name][0] + i * row_bytes, t[name][0] + j * row_bytes
        d[a:a + row_bytes], d[b:b + row_bytes] = bytes(d[b:b + row_bytes]), bytes(d[a:a + row_bytes])
    return edit


def tensor_scale(name, factor):
    def edit(d, t):  # I2_S: codes, then one float32 for the whole tensor
        at = t[name][0] + t[name][1][0] * t[name][1][1] // 4
        struct.pack_into("<f", d, at, struct.unpack_from("<f", d, at)[0] * factor)
    return edit


def copy(src, dst):
    def edit(d, t):
        n = min(t[src][3], t[dst][3])
        d[t[dst][0]:t[dst][0] + n] = d[t[src][0]:t[src][0] + n]
    return edit


def swap(a, b):
    def edit(d, t):
        n = min(t[a][3], t[b][3])
        x, y = bytes(d[t[a][0]:t[a][0] + n]), bytes(d[t[b][0]:t[b][0] + n])
        d[t[a][0]:t[a][0] + n], d[t[b][0]:t[b][0] + n] = y, x
    return edit


# ---- the table: name, model, how, what; then expected stage, layer, hypothesis ------------------
B, L = ("tiny-bitnet",), ("tiny-llama",)
Q2, Q3, TQ2 = ("tiny-qwen2",), ("tiny-qwen3",), ("tiny-bitnet-silu", "tq2_0")
F16, Q8, Q4K = ("tiny-llama", "f16"), ("tiny-llama", "q8_0"), ("tiny-llama", "q4_k_m")
W = "worker"     # the reference is tests/faulty_worker.c
O = "ours"       # the engine under test is
K = "override"   # the reference reads other metadata
G = "gguf"       # the reference reads an edited file
FLASH = "ASSAY_FLASH"    # the reference computes attention in one operation, sums in half precision
FAULTS = [
    ("SiLU for squared ReLU", B, K, "bitnet-b1.58.hidden_activation=str:silu", "ffn_act", 0, "silu"),
    ("SiLU in one layer", B, W, "ffn_act:1:variant/silu", "ffn_act", 1, "silu"),
    ("squared ReLU for SiLU", L, W, "ffn_act:2:variant/relu2", "ffn_act", 2, "relu2"),
    ("SiLU in our engine", B, O, "ffn_act:1:variant/silu", "ffn_act", 1, "silu"),
    ("gate and up swapped", B, W, "ffn_act:2:variant/swap_gate_up", "ffn_act", 2, "swap_gate_up"),
    ("gate's weights are up's", B, G, swap("blk.0.ffn_gate.weight", "blk.0.ffn_up.weight"), "ffn_gate", 0,
     "swap_gate_up"),
    ("RoPE on pairs for halves", B, W, "k_rope:1:variant/rope_norm", "k_rope", 1, "rope_norm"),
    ("RoPE on halves for pairs", L, W, "q_rope:0:variant/rope_neox", "q_rope", 0, "rope_neox"),
    ("RoPE base 10000 for 500000", B, K, "bitnet-b1.58.rope.freq_base=float:10000", "q_rope", 0, "rope_base=10000"),
    ("RoPE base in our engine", L, O, "q_rope:1:variant/rope_base=500000", "q_rope", 1, "rope_base=500000"),
    ("RoPE linear scaling ignored", ("tiny-llama-linear",), W, "q_rope:1:variant/rope_scale=1", "q_rope", 1,
     "rope_scale=1"),
    ("RoPE frequency factors ignored", ("tiny-llama3",), W, "k_rope:0:variant/no_freq_factors", "k_rope", 0,
     "no_freq_factors"),
    ("YaRN ignored", ("tiny-llama-yarn",), W, "q_rope:0:variant/no_yarn", "q_rope", 0, "no_yarn"),
    ("no rotation", L, W, "k_rope:2:variant/no_rope", "k_rope", 2, "no_rope"),
    ("positions from 1", L, W, "q_rope:0:variant/pos_shift=1", "q_rope", 0, "pos_shift=1"),
    ("position off by one, decode only", B, W, "k_rope:1:pos=1:decode", "k_rope", 1, "pos_shift=1"),
    ("epsilon 1e-6 for 1e-5", L, K, "llama.attention.layer_norm_rms_epsilon=float:1e-6", "attn_norm", 0, "eps=1e-6"),
    ("epsilon of one norm", B, W, "ffn_norm:1:variant/eps=0.001", "ffn_norm", 1, "eps=1e-3"),
    ("attention's sub-norm left out", B, W, "attn_sub_norm:1:variant/no_sub_norm", "attn_sub_norm", 1, "no_sub_norm"),
    ("feed-forward's sub-norm skipped", B, W, "ffn_sub_norm:2:skip", "ffn_sub_norm", 2, "no_sub_norm"),
    ("norm without its weight", L, W, "attn_norm:2:variant/no_norm_weight", "attn_norm", 2, "no_norm_weight"),
    ("output norm left out", L, W, "output_norm:-1:variant/no_norm", "output_norm", -1, "no_norm"),
    ("mask off by one", B, W, "attn_softmax:1:variant/mask_off_by_one", "attn_softmax", 1, "mask_off_by_one"),
    ("no causal mask", L, W, "attn_softmax:0:variant/mask_shift=1000000", "attn_softmax", 0, "mask_shift="),
    ("mask off by one in flash attention", B, W, (FLASH, "attn_softmax:1:variant/mask_off_by_one"), "attn_out_heads", 1,
     "mask_off_by_one"),
    ("no scale in flash attention", L, W, (FLASH, "attn_softmax:0:variant/attn_scale=1"), "attn_out_heads", 0,
     "attn_scale=1"),
    ("KV head order", B, W, "attn_scores:1:variant/head_order", "attn_scores", 1, "head_order"),
    ("KV cache in F32", L, W, "attn_scores:0:variant/kv_f32", "attn_scores", 0, "kv_f32"),
    ("values in F32", B, W, "attn_out_heads:2:variant/kv_f32", "attn_out_heads", 2, "kv_f32"),
    ("attention without its scale", B, W, "attn_softmax:2:variant/attn_scale=1", "attn_softmax", 2, "attn_scale=1"),
    ("bias left out", ("tiny-qwen2",), W, "q:1:variant/no_bias", "q", 1, "no_bias"),
    ("scale of one tensor", L, W, "ffn_down:1:variant/scale=1.25", "ffn_down", 1, "scale=1.25"),
    ("wrong scale in the file", B, G, tensor_scale("blk.2.attn_output.weight", 1.5), "attn_o", 2, "scale=1.5"),
    ("wrong scale, our file is the lockfile's", SEED, G, tensor_scale("blk.2.attn_output.weight", 1.5), "attn_o", 2,
     "scale=1.5"),
    ("one flipped ternary code", B, G, flip_code("blk.1.ffn_up.weight", 40), "ffn_up", 1, None),
    ("one wrong block scale", ("tiny-llama", "q8_0"), G, half_at("blk.1.ffn_down.weight", 34 * 50, 3.0), "ffn_down", 1,
     None),
    ("one channel a little off, less than a rounding tie", B, W, "ffn_up:1:channel=1.0005", "ffn_up", 1, None),
    ("one wrong norm weight", L, G, float_at("blk.2.ffn_norm.weight", 99, 2.0), "ffn_norm", 2, None),
    ("another layer's weights", B, G, copy("blk.2.attn_q.weight", "blk.1.attn_q.weight"), "q", 1,
     "weights_of_layer=2"),
    ("another layer's norm", L, W, "ffn_norm:2:variant/weights_of_layer=0", "ffn_norm", 2, "weights_of_layer=0"),
    ("layers' weights swapped", L, G, swap("blk.0.ffn_up.weight", "blk.1.ffn_up.weight"), "ffn_up", 0,
     "weights_of_layer=1"),
    ("one head transposed", L, W, "q:1:flip_head", "q", 1, None),
    ("two heads swapped", B, W, "v:0:swap_heads", "v", 0, None),
    ("f16 overflow", L, W, "attn_o:1:set=inf", "attn_o", 1, None),
    ("NaN in one value", B, W, "ffn_down:0:set=nan", "ffn_down", 0, None),
    ("an uninitialised key", B, W, "k_rope:1:kv_slot=2", "attn_scores", 1, None),
    ("an uninitialised value, decode only", L, W, "v:2:kv_slot=1:decode", "attn_out_heads", 2, None),
    ("an uninitialised key in our engine", L, O, "k_rope:0:kv_slot=3", "attn_scores", 0, None),
    ("a wrong last token id", B, W, "embeddings:-1:token=1", "embeddings", -1, None),
    ("embeddings one row late", L, W, "embeddings:-1:row", "embeddings", -1, None),
    ("residual forgotten", B, W, "attn_residual:1:skip", "attn_residual", 1, None),
    ("residual forgotten in our engine", L, O, "layer_out:2:skip", "layer_out", 2, None),
    ("residual stream in half precision", L, W, "attn_residual:1:half", "attn_residual", 1, None),
    ("one channel of the logits", B, W, "logits:-1:channel=4", "logits", -1, None),
    ("logits negated", L, W, "logits:-1:negate", "logits", -1, "scale=-1"),
    # values that no list has are searched
    ("half of a head rotated", L, K, "llama.rope.dimension_count=int:32", "q_rope", 0, "rope_dims=32"),
    ("half of a head rotated by the whole head's angles", B, W, "k_rope:1:variant/rope_part=32", "k_rope", 1,
     "rope_part=32"),
    ("linear scaling by 8 for 4", ("tiny-llama-linear",), K, "llama.rope.scaling.factor=float:8", "q_rope", 0,
     "rope_scale=0.125"),
    ("YaRN's factor 16 for 4", ("tiny-llama-yarn",), K, "llama.rope.scaling.factor=float:16", "q_rope", 0, None),
    ("an odd RoPE base", L, W, "k_rope:1:variant/rope_base=1234567", "k_rope", 1, "rope_base=1.23"),
    ("RoPE base 50000 for 500000", B, K, "bitnet-b1.58.rope.freq_base=float:50000", "q_rope", 0, "rope_base=50000"),
    ("positions from 7", B, W, "q_rope:2:variant/pos_shift=7", "q_rope", 2, "pos_shift=7"),
    ("epsilon of q's norm", Q3, W, "q_norm:1:variant/eps=1e-5", "q_norm", 1, "eps=1e-5"),
    ("an odd epsilon of k's norm", Q3, W, "k_norm:0:variant/eps=0.00003", "k_norm", 0, "eps=3e-05"),
    ("q's norm left out", Q3, W, "q_norm:2:variant/no_norm", "q_norm", 2, "no_norm"),
    ("LayerNorm for RMSNorm", L, W, "ffn_norm:0:variant/layer_norm", "ffn_norm", 0, "layer_norm"),
    ("norm's weight plus one", Q2, W, "attn_norm:1:variant/norm_weight_plus_one", "attn_norm", 1,
     "norm_weight_plus_one"),
    ("GELU for SiLU", L, W, "ffn_act:1:variant/gelu", "ffn_act", 1, "gelu"),
    ("up forgotten", B, W, "ffn_act:0:variant/no_up", "ffn_act", 0, "no_up"),
    ("attention's scale 0.01", Q3, W, "attn_softmax:1:variant/attn_scale=0.01", "attn_softmax", 1, "attn_scale=0.01"),
    ("a sliding window of 4", L, W, "attn_softmax:1:window=4", "attn_softmax", 1, "window=4"),
    ("a sliding window, decode only", Q3, W, "attn_softmax:1:window=3:decode", "attn_softmax", 1, "window=3"),
    ("a sliding window in our engine", L, O, "attn_softmax:1:window=4", "attn_softmax", 1, "window=4"),
    ("logits capped", L, W, "logits:-1:softcap=30", "logits", -1, "softcap=30"),
    ("scores capped", L, W, "attn_scores:1:softcap=50", "attn_scores", 1, "softcap=50"),
    ("embeddings times 16", L, W, "embeddings:-1:variant/scale=16", "embeddings", -1, "scale=16"),
    ("keys cut to half precision", L, W, "k_rope:1:trunc", "attn_scores", 1, "kv_toward_zero"),
    ("values cut to half precision", B, W, "v:1:trunc", "attn_out_heads", 1, "kv_toward_zero"),
    ("KV head order, values alone", L, W, "attn_out_heads:1:variant/head_order", "attn_out_heads", 1, "head_order"),
    ("v's weights for k", Q2, W, "k:1:exchange/v", "k", 1, "weights_of=v"),
    ("v's weights for k in the file", B, G, copy("blk.0.attn_v.weight", "blk.0.attn_k.weight"), "k", 0, "weights_of=v"),
    ("residual's branch alone", L, W, "attn_residual:2:variant/no_residual", "attn_residual", 2, "no_residual"),
    # small ones, other types, other architectures
    ("biases of k and v swapped", Q2, G, swap("blk.1.attn_k.bias", "blk.1.attn_v.bias"), "k", 1, None),
    ("one bias negated", Q2, G, float_at("blk.0.attn_q.bias", 5, -1.0), "q", 0, None),
    ("one weight of q's norm", Q3, G, float_at("blk.1.attn_q_norm.weight", 5, 1.01), "q_norm", 1, None),
    ("k of one head a thousandth off", L, W, "k:1:head_scale=1.001", "k", 1, None),
    ("activations cut, not rounded", B, W, "q:1:trunc=0", "q", 1, None),
    ("activations cut, not rounded, Q8_0", Q8, W, "ffn_down:1:trunc=32", "ffn_down", 1, None),
    ("a stale key from the second step on", B, W, "k_rope:1:stale=2:decode", "attn_scores", 1, None),
    ("a stale value from the first step on", F16, W, "v:0:stale=1:decode", "attn_out_heads", 0, None),
    ("a stale key in our engine", Q3, O, "k_rope:1:stale=2:decode", "attn_scores", 1, None),
    ("a product in half precision, TQ2_0", TQ2, W, "attn_o:2:half", "attn_o", 2, None),
    ("a product off by a thousandth, Q8_0", Q8, W, "v:1:noise=0.001", "v", 1, None),
    ("a product off by a ten-thousandth, F16", F16, W, "v:1:noise=0.0001", "v", 1, None),
    # one decode step alone, and what a rounding tie could be taken for
    *[("%s in one step, %s" % (words, m[-1] if len(m) > 1 else "i2_s"), m, W, "%s:1:%s:step=2" % (stage, kind(block)),
       stage, 1, None)
      for m, block, stage in ((Q8, 32, "ffn_down"), (("tiny-llama", "q4_0"), 32, "q"), (TQ2, 256, "ffn_up"),
                              (B, 0, "attn_o"))
      for words, kind in (("one activation's code", lambda b: "code=%d" % b),
                          ("a product off by a thousandth", lambda b: "noise=1e-3"),
                          ("a product off by a ten-thousandth", lambda b: "noise=1e-4"))],
    ("a product off by a hundred-thousandth in one step, tq2_0", TQ2, W, "ffn_up:1:noise=1e-5:step=2", "ffn_up", 1,
     None),
    ("a product off by a hundred-thousandth in one step, i2_s", B, W, "attn_o:1:noise=1e-5:step=2", "attn_o", 1, None),
    ("one nibble of Q4_K", Q4K, G, xor_at("blk.1.ffn_down.weight", 5000, 0x20), "ffn_down", 1, None),
    ("one scale of Q4_K", Q4K, G, xor_at("blk.1.ffn_gate.weight", 144 * 7 + 5, 0x3f), "ffn_gate", 1, None),
    ("another block's scale, Q8_0", Q8, G, move_bytes("blk.0.attn_q.weight", 340, 680, 2), "q", 0, None),
    ("one code of Q8_0", Q8, G, xor_at("blk.1.ffn_up.weight", 34 * 100 + 9, 0x10), "ffn_up", 1, None),
    ("one code of TQ2_0", TQ2, G, xor_at("blk.2.attn_k.weight", 66 * 3 + 11, 1), "k", 2, None),
    ("last bit of one F16 weight", F16, G, xor_at("blk.1.ffn_up.weight", 1000, 1), "ffn_up", 1, None),
    ("two rows of F16 swapped", F16, G, swap_rows("blk.1.attn_output.weight", 3, 7, 512), "attn_o", 1, None),
    ("softmax overflows without its maximum", L, W, "attn_softmax:1:no_max=100", "attn_softmax", 1, None),
    ("scale of the model's width, not the head's", L, W, "attn_softmax:1:variant/attn_scale=0.0625", "attn_softmax", 1, "attn_scale=0.0625"),
    ("values of one head transposed", L, W, "v:1:transpose_v", "attn_out_heads", 1, None),
    ("one group reads the next KV head's keys", L, W, "k_rope:1:next_kv_head", "attn_scores", 1, None),
    ("one group reads the next KV head's values", B, W, "v:2:next_kv_head", "attn_out_heads", 2, None),
    ("RoPE on the values", L, W, "v:1:rope_v", "attn_out_heads", 1, None),
    ("the last cell not yet in the cache", B, W, "k_rope:1:lost_cell:decode", "attn_scores", 1, None),
    ("residual added twice", B, W, "attn_residual:1:twice", "attn_residual", 1, None),
    ("residual added twice behind the feed-forward", L, W, "layer_out:1:twice", "layer_out", 1, None),
    ("residual dropped in the last layer", B, W, "layer_out:2:skip", "layer_out", 2, None),
    ("every id one too high", B, W, "embeddings:-1:tokens=1", "embeddings", -1, None),
    ("a bias on the logits", L, W, "logits:-1:bias=0.01", "logits", -1, None),
    ("a bias on one product", F16, W, "attn_o:1:bias=0.001", "attn_o", 1, None),
    ("activations in bfloat16", L, W, "ffn_norm:1:bf16", "ffn_norm", 1, None),
    ("a product in bfloat16, Q8_0", Q8, W, "ffn_up:0:bf16", "ffn_up", 0, None),
    ("activations rounded up", B, W, "ffn_down:1:round_up=0", "ffn_down", 1, None),
    ("activations rounded up, Q8_0", Q8, W, "q:1:round_up=32", "q", 1, None),
    ("one activation scale for all rows", B, W, "q:0:one_scale", "q", 0, None),
    ("two faults, the second later", B, W, "ffn_act:0:variant/silu;attn_softmax:2:variant/attn_scale=1", "ffn_act", 0, "silu"),
    ("two faults, the second in the same layer", L, W, "k_rope:1:variant/rope_base=5000;ffn_norm:1:variant/eps=0.01", "k_rope", 1, "rope_base=5000"),
    ("two faults of one kind", L, W, "ffn_down:0:scale=3;ffn_down:2:negate", "ffn_down", 0, None),
    ("a prefill fault behind a decode fault", L, W, "q:0:noise=0.01:decode;v:2:negate:prefill", "v", 2, None),
    ("BOS twice", B, W, "tokenize:-1:bos_twice", "tokens", 0, None),
    ("EOS in the middle", B, W, "tokenize:-1:eos", "tokens", 0, None),
    ("BOS missing", B, W, "tokenize:-1:bos", "tokens", 0, None),
    ("another template's words", B, W, "tokenize:-1:prefix", "tokens", 1, None),
    ("a wrong last id from the tokenizer", L, W, "tokenize:-1:last", "tokens", -1, None),
    ("another pre-tokenizer", B, K, "tokenizer.ggml.pre=str:default", "tokens", -1, None),
]
HARMLESS = [
    ("one thread", B, ["--threads", "1"]),
    ("three threads", B, ["--threads", "3"]),
    ("one position at a time", B, ["--batch", "1"]),
    ("three positions at a time", L, ["--batch", "3"]),
    ("micro-batches of 4", L, ["--ubatch", "4"]),
    ("micro-batches of 1", B, ["--ubatch", "1"]),
    ("without vector instructions", B, ["--isa", "c"]),
    ("a longer context", L, ["--ctx", "1024"]),
    ("the KV cache in F32 on both sides", L, ["--kv", "f32"]),
    ("AVX-512's order of summation", B, ["--profile", "ggml-avx512"]),
    ("AVX-512's order, F16 weights", L, ["--profile", "ggml-avx512"]),
    ("flash attention in half precision", B, [FLASH]),
    ("flash attention, F16 weights", L, [FLASH]),
]


def ask(path, how, what, extra=()):
    env = dict(os.environ, ASSAY_WORKER_FAULTY=FAULTY)
    if extra and extra[0] == FLASH:
        env["ASSAY_FLASH"], extra = "1", extra[1:]
    cmd = [ASSAY, "explain", "--model", path, "--format", "json", "-q", "--prompt",
           SPACES if how == K and "tokenizer" in what else PROMPT, "--prompt-template", "raw",
           "--max-tokens", "3", "--threads", "1", "--no-splice"]
    if how == W:
        cmd += ["--reference", "faulty"]
    elif how == O:
        cmd += ["--engine", "faulty", "--reference", "native"]
    else:
        cmd += ["--reference", "native"]
    if how in (W, O) and what:
        env["ASSAY_FAULT"] = what
    if how == K:
        cmd += ["--reference-override", what]
    if how == G:
        cmd += ["--reference-model", edited(path, what)]
    p = subprocess.run(cmd + list(extra), env=env, capture_output=True, text=True, timeout=120)
    return p


def judge_tokens(p, layer):
    if p.returncode != 2 or "TOKENS_DIFFER" not in p.stdout:
        return "exit %d: %s" % (p.returncode, (p.stdout + p.stderr)[-300:])
    return None


def judge(p, how, stage, layer, variant, locked="open"):
    if stage == "tokens":
        return judge_tokens(p, layer), "TOKENS_DIFFER", "tokens"
    try:
        r = json.loads(p.stdout)
    except ValueError:
        return "exit %d: %s" % (p.returncode, p.stderr[-300:]), "", ""
    f = r["first"]
    if not f:
        return "no finding: " + r["paragraph"], r["verdict"], ""
    where = "%s of layer %d" % (f["stage"], f["layer"]) if f["layer"] >= 0 else f["stage"]
    found = where + (", " + f["variant"] if f["explains"] else "")
    side = "our" if how == O else "reference" if how == K else "file of " + locked if how == G else "faulty"
    culprit = f["culprit"] or ("file of " + (f["file_at_fault"] or "open") if f["by_file"] else "open")
    why = None
    if r["verdict"] != "DIVERGED" or p.returncode != 1:
        why = "verdict %s, exit %d" % (r["verdict"], p.returncode)
    elif (f["stage"], f["layer"]) != (stage, layer):
        why = "found " + where
    elif (side if how != O else "faulty") not in culprit:
        why = "fault of %s, not %s" % (culprit, side)
    elif variant and not (f["explains"] and f["variant"].startswith(variant)):
        why = "hypothesis %s (explains: %s), expected %s" % (f["variant"], f["explains"], variant)
    elif how == G and not r["weights_differ"]:
        why = "the weights' hashes do not differ"
    return why, r["verdict"], found


def main():
    n = bad = 0
    for name, m, how, what, stage, layer, variant in FAULTS:
        if ONLY and not any(o in name for o in ONLY):
            continue
        flash = [FLASH] if isinstance(what, tuple) else []
        p = ask(model(*m), how, what[1] if flash else what, flash)
        why, verdict, found = judge(p, how, stage, layer, variant, *LOCKED.get(m, ()))
        n += 1
        bad += why is not None
        print("# %-40s %-10s %-14s %s" % (name, how, verdict, found))
        print("%s - %s%s" % ("not ok" if why else "ok", name, " # " + why if why else ""))
    for name, m, extra in HARMLESS:
        if ONLY and not any(o in name for o in ONLY):
            continue
        p = ask(model(*m), W, "", extra)
        try:
            r = json.loads(p.stdout)
            fine = p.returncode == 0 and r["verdict"] in ("IDENTICAL", "EQUIVALENT") and not r["first"]
            found = r["verdict"]
        except ValueError:
            fine, found = False, p.stderr[-300:]
        bad += not fine
        print("# %-40s %-10s %s" % (name, "harmless", found))
        print("%s - harmless: %s" % ("ok" if fine else "not ok", name))
    print("# %d faults, %d harmless changes" % (n, len(HARMLESS)))
    if not ONLY:
        print("%s - at least 40 faults" % ("ok" if n >= 40 else "not ok"))
    subprocess.run(["rm", "-rf", TMP])
    return 1 if bad else 0


sys.exit(main())
