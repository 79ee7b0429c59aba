#!/usr/bin/env python3
"""Broken model files against every command that takes --model.

usage: malformed_models.py ASSAY FOLDER [--all | CASE …]

Each file is refused: an exit code of the table, one clear sentence on standard error, within
minutes; never a signal, never an agreement. Prints ok/not ok lines, one per file. Without --all
and without names each file meets four of the commands, another four each time.
"""
import os
import struct
import subprocess
import sys

from gguf_file import ARR, F32, I32, STR, U16, U32, U8, Model


def set_kv(key, kind, value):
    def change(m):
        m.kv[key] = (kind, value)
    return change


def drop_kv(key):
    def change(m):
        del m.kv[key]
    return change


def set_tensor(name, field, value):
    def change(m):
        m.tensor(name)[field] = value
    return change


def edit_list(key, fn):
    def change(m):
        kind, (elem, v) = m.kv[key]
        m.kv[key] = (kind, [elem, fn(v)])
    return change


def set_field(field, value):
    def change(m):
        setattr(m, field, value)
    return change


def nan_weights(m):
    offset = m.tensor("output_norm.weight")[3]
    m.data = m.data[:offset] + struct.pack("<f", float("nan")) * 4 + m.data[offset + 16:]


def long_string(m):
    """A key whose length says more than the file has: the first one's."""
    m.raw = lambda b: b[:24] + struct.pack("<Q", 2**63) + b[32:]


def cut(part):
    def change(m):
        m.raw = lambda b: b[:int(len(b) * part)]
    return change


W = "blk.0.ffn_down.weight"
A = "bitnet-b1.58."
CASES = {
    # the container
    "key length wraps": long_string,
    "cut in the metadata": cut(0.002),
    "cut in the tensors": cut(0.5),
    "n_kv wraps": set_field("n_kv", 2**61 + 1),
    "n_tensors wraps": set_field("n_tensors", 2**60 + 1),
    "version 9": set_field("version", 9),
    "duplicate key": set_kv("general.architecture\1", STR, b"llama"),
    "empty key": set_kv("\1", U32, 1),
    "key not UTF-8": set_kv("a\udcff", U32, 1),
    "alignment 0": set_kv("general.alignment", U32, 0),
    "alignment 3": set_kv("general.alignment", U32, 3),
    "alignment 2^31": set_kv("general.alignment", U32, 2**31),
    "alignment is negative": set_kv("general.alignment", I32, -32),
    "part of a split": set_kv("split.count", U16, 3),
    "tensor of 5 dimensions": set_tensor(W, 1, [1, 1, 1, 1, 1]),
    "dimension 0": set_tensor(W, 1, [0, 128]),
    "dimensions wrap": set_tensor(W, 1, [2**33, 2**33]),
    "dimension is negative": set_tensor(W, 1, [2**64 - 128, 1]),
    "unknown tensor type": set_tensor(W, 2, 99),
    "tensor outside the file": set_tensor(W, 3, 2**40),
    "offset wraps": set_tensor(W, 3, 2**64 - 32),
    "tensors overlap": set_tensor(W, 3, 0),
    "duplicate tensor": set_tensor(W, 0, b"blk.0.ffn_up.weight"),
    "tensor without a name": set_tensor(W, 0, b""),
    "tensor name not UTF-8": set_tensor(W, 0, b"\xff\xfe"),
    # the model
    "no architecture": drop_kv("general.architecture"),
    "architecture is a number": set_kv("general.architecture", U32, 7),
    "unknown architecture": set_kv("general.architecture", STR, b"mamba\n\x1b[31m"),
    "513 layers": set_kv(A + "block_count", U32, 513),
    "more layers than tensors": set_kv(A + "block_count", U32, 400),
    "no layers": set_kv(A + "block_count", U32, 0),
    "embedding length 0": set_kv(A + "embedding_length", U32, 0),
    "embedding length 2^32-1": set_kv(A + "embedding_length", U32, 2**32 - 1),
    "0 heads": set_kv(A + "attention.head_count", U32, 0),
    "7 heads": set_kv(A + "attention.head_count", U32, 7),
    "0 key-value heads": set_kv(A + "attention.head_count_kv", U32, 0),
    "3 key-value heads": set_kv(A + "attention.head_count_kv", U32, 3),
    "a text for a size": set_kv(A + "feed_forward_length", STR, b"big"),
    "rotating more than a head": set_kv(A + "rope.dimension_count", U32, 100000),
    "epsilon NaN": set_kv(A + "attention.layer_norm_rms_epsilon", F32, float("nan")),
    "a norm that is too short": set_tensor("output_norm.weight", 1, [64]),
    "a transposed matrix": lambda m: m.tensor(W)[1].reverse(),
    "a missing tensor": set_tensor(W, 0, b"blk.0.something.weight"),
    "NaN in the weights": nan_weights,
    # the tokenizer
    "no tokens": drop_kv("tokenizer.ggml.tokens"),
    "empty tokens": set_kv("tokenizer.ggml.tokens", ARR, [STR, []]),
    "tokens are numbers": set_kv("tokenizer.ggml.tokens", ARR, [U8, [1, 2, 3]]),
    "scores are bytes": set_kv("tokenizer.ggml.scores", ARR, [U8, [0] * 480]),
    "fewer types than tokens": edit_list("tokenizer.ggml.token_type", lambda v: v[:-1]),
    "more tokens than embeddings": edit_list("tokenizer.ggml.tokens", lambda v: v + [b"x"]),
    "merges without a space": edit_list("tokenizer.ggml.merges", lambda v: [b"ab"] + v),
    "merges of unknown tokens": edit_list("tokenizer.ggml.merges", lambda v: [b"\xff\xff zz"] + v),
    "unknown tokenizer": set_kv("tokenizer.ggml.model", STR, b"magic"),
    "unknown pre-tokenizer": set_kv("tokenizer.ggml.pre", STR, b"magic"),
    "BOS outside the vocabulary": set_kv("tokenizer.ggml.bos_token_id", U32, 4000000000),
}
REFUSED = {3, 4, 5, 10, 15, 16, 64}
# merges that never apply do no harm; a BOS that is none is the family's own, as in llama.cpp
MAY_AGREE = {"merges of unknown tokens", "merges without a space", "BOS outside the vocabulary"}
VERIFIES = {"unknown architecture", "no tokens"}        # told in a note: structure and tensors hold
TEXT_ONLY = {"tokenize", "gen-fixtures --vocab"}
COMPUTES = {"record", "bench", "infer", "logits", "trace"}  # say what comes out, compare nothing


def commands(assay, model, folder):
    text = os.path.join(folder, "text.txt")
    yield "verify", [assay, "verify", model]
    yield "verify --weights", [assay, "verify", "--weights", model]
    for name in ("sweep", "crossval", "crossval-per-token", "explain"):
        yield name, [assay, name, "--model", model, "--engine", "native", "--reference", "oracle"]
    yield "kl", [assay, "kl", "--model", model, "--text", text, "--reference", "oracle",
                 "--chunk", "64", "--chunks", "2"]
    yield "record", [assay, "record", "--model", model, "-o", os.path.join(folder, "r.tar.zst")]
    yield "calibrate", [assay, "calibrate", "--model", model, "--engine", "native"]
    yield "bench", [assay, "bench", "--model", model, "--reps", "1"]
    for name in ("infer", "logits", "trace", "tokenize"):
        yield name, [assay, name, "--model", model, "2+2="]
    yield "gen-fixtures --vocab", [assay, "gen-fixtures", "--vocab", model, "--out",
                                   os.path.join(folder, "f.gguf")]
    yield "engine-check", [assay, "engine-check", "--model", model, "native"]
    yield "sweep against a good one", [assay, "sweep", "--model", os.path.join(folder, "good.gguf"),
                                       "--reference-model", model, "--reference", "native"]


def run(argv):
    try:
        p = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=300)
    except subprocess.TimeoutExpired:
        return "no end within 300 s", None
    said = (p.stdout + p.stderr).decode("utf-8", "replace")
    if p.returncode < 0 or "Sanitizer" in said or "Assertion" in said:
        return "signal or assertion, %d: %s" % (p.returncode, said[-300:]), None
    if any(ord(c) < 32 and c not in "\n\t" for c in said):
        return "raw control characters are printed: %r" % said[-300:], None
    return None, (p.returncode, said)


def judge(case, name, result):
    code, said = result
    if case == "NaN in the weights" and (code == 1 or name in COMPUTES):
        return None
    if code == 0:
        if name.startswith("verify") and case in VERIFIES:
            return None
        return None if case in MAY_AGREE or name in TEXT_ONLY else "exit 0: %s" % said[-200:]
    if name == "engine-check" and code == 1 and "FAILED" in said:
        return None
    if code == 6 or code not in REFUSED:
        return "exit %d: %s" % (code, said[-300:])
    if not said.strip():
        return "exit %d without a word" % code
    return None


def main():
    assay, folder = os.path.abspath(sys.argv[1]), sys.argv[2]
    every = sys.argv[3:] != []
    only = [name for name in sys.argv[3:] if name != "--all"]
    good = os.path.join(folder, "good.gguf")
    with open(os.path.join(folder, "text.txt"), "w") as f:
        f.write("Hello world, this is a text. " * 40)
    subprocess.run([assay, "gen-fixtures", "--preset", "tiny-bitnet", "--layers", "1", "--out", good],
                   check=True, stdout=subprocess.DEVNULL)
    assert Model(good).bytes() == open(good, "rb").read(), "the file is not read as it was written"
    turn = 0
    for case, change in CASES.items():
        if only and case not in only:
            continue
        m = Model(good)
        m.raw = lambda b: b
        change(m)
        path = os.path.join(folder, "bad.gguf")
        with open(path, "wb") as f:
            f.write(m.raw(m.bytes()))
        bad, n = [], 0
        chosen = list(commands(assay, path, folder))
        if not every:
            chosen = [chosen[(turn + k) % len(chosen)] for k in range(4)]
            turn += 4
        for name, argv in chosen:
            why, result = run(argv)
            why = why or judge(case, name, result)
            n += 1
            if why:
                bad.append("%s: %s" % (name, why))
        print("%sok - %s: %d commands" % ("not " if bad else "", case, n), flush=True)
        for line in bad:
            print("    " + line.strip().replace("\n", "\n      "))


main()
