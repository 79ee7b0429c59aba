#!/usr/bin/env python3
"""A whole little engine behind docs/examples/adapter.py: llama graphs in plain Python, float64.

    little_llama.py [FAULT [LAYER]]     relu2: squared ReLU for SiLU · swap: gate and up exchanged
                                        rope: base 500000 for the file's · eps: epsilon 1e-2
                                        halves: split halves for pairs in RoPE

It has no tokenizer, but traces by canonical stage; what a user's engine under test looks like.
Reads GGUF files of F32 and F16 tensors.
"""
import array
import math
import mmap
import os
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../docs/examples"))
import adapter  # noqa: E402

FAULT = sys.argv[1] if len(sys.argv) > 1 else ""
FAULT_LAYER = int(sys.argv[2]) if len(sys.argv) > 2 else -1
TRACE = 11
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


def faulty(name, layer):
    return FAULT == name and FAULT_LAYER in (-1, layer)


class Gguf:
    """Metadata and tensors of a file; what is malformed raises."""

    def __init__(self, path):
        with open(path, "rb") as f:
            self.map = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
        if self.map[:4] != b"GGUF":
            raise adapter.Failure(15, "%s: not a GGUF file" % path)
        self.at = 8
        n_tensors, n_kv = self.take("Q"), self.take("Q")
        self.kv = {}
        for _ in range(n_kv):
            key = self.text()
            self.kv[key] = self.value(self.take("I"))
        infos = {}
        for _ in range(n_tensors):
            name = self.text()
            ne = [self.take("Q") for _ in range(self.take("I"))]
            infos[name] = (ne, self.take("I"), self.take("Q"))
        align = self.kv.get("general.alignment", 32)
        base = (self.at + align - 1) // align * align
        self.tensors = {k: self.rows(ne, kind, base + at) for k, (ne, kind, at) in infos.items()}

    def take(self, code):
        out = struct.unpack_from("<" + code, self.map, self.at)[0]
        self.at += struct.calcsize("<" + code)
        return out

    def text(self):
        n = self.take("Q")
        self.at += n
        return self.map[self.at - n:self.at].decode("utf-8", "replace")

    def value(self, kind):
        if kind == 8:
            return self.text()
        if kind == 9:
            item, n = self.take("I"), self.take("Q")
            return [self.value(item) for _ in range(n)]
        return self.take(SCALARS[kind])

    def rows(self, ne, kind, at):
        if kind not in (0, 1):
            raise adapter.Failure(10, "tensor type %d: this engine knows F32 and F16" % kind)
        width, n = ne[0], math.prod(ne[1:])
        code, size = ("f", 4) if kind == 0 else ("e", 2)
        flat = struct.unpack_from("<%d%s" % (width * n, code), self.map, at)
        return [flat[i * width:(i + 1) * width] for i in range(n)]


def load(options):
    if not os.path.exists(options["model"]):
        raise adapter.Failure(10, "cannot open %s" % options["model"])
    g = Gguf(options["model"])
    arch = g.kv["general.architecture"]
    if arch != "llama":
        raise adapter.Failure(10, "architecture %s: this engine knows llama" % arch)
    get = lambda key, other=None: g.kv.get("llama." + key, other)
    m = {"t": g.tensors, "n_layer": get("block_count"), "n_embd": get("embedding_length"),
         "heads": get("attention.head_count"), "n_ctx": get("context_length"),
         "eps": get("attention.layer_norm_rms_epsilon"), "base": get("rope.freq_base", 10000.0)}
    m["kv_heads"] = get("attention.head_count_kv", m["heads"])
    m["d"] = m["n_embd"] // m["heads"]
    adapter.N_VOCAB = m["n_vocab"] = len(g.tensors["token_embd.weight"])
    return m


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def matmul(w, x):
    return [dot(row, x) for row in w]


def norm(x, w, eps):
    scale = 1 / math.sqrt(dot(x, x) / len(x) + eps)
    return [v * scale * g for v, g in zip(x, w)]


def rope(m, x, pos, layer):
    d, base = m["d"], 500000.0 if faulty("rope", layer) else m["base"]
    out = list(x)
    for h in range(0, len(x), d):
        for i in range(d // 2):
            a, b = (h + i, h + i + d // 2) if faulty("halves", layer) else (h + 2 * i, h + 2 * i + 1)
            c, s = math.cos(pos * base ** (-2 * i / d)), math.sin(pos * base ** (-2 * i / d))
            out[a], out[b] = x[a] * c - x[b] * s, x[a] * s + x[b] * c
    return out


def attention(m, note, q, pos, keys, values):
    d, group = m["d"], m["heads"] // m["kv_heads"]
    scores, probs, out = [], [], []
    for h in range(m["heads"]):
        k0 = h // group * d
        s = [dot(q[h * d:(h + 1) * d], k[k0:k0 + d]) for k in keys]
        top = max(s)
        e = [math.exp((v - top) / math.sqrt(d)) for v in s]
        p = [v / sum(e) for v in e]
        scores.append(s)
        probs.append(p)
        out += [sum(p[c] * values[c][k0 + i] for c in range(pos + 1)) for i in range(d)]
    note("attn_scores", scores)
    note("attn_softmax", probs)
    note("attn_out_heads", out)
    return out


def block(m, layer, x, pos, cache, record):
    t = lambda name: m["t"]["blk.%d.%s.weight" % (layer, name)]
    eps = 1e-2 if faulty("eps", layer) else m["eps"]

    def note(stage, value):
        record(stage, layer, value)
        return value

    h = note("attn_norm", norm(x, t("attn_norm")[0], eps))
    q, k, v = (note(n, matmul(t("attn_" + n), h)) for n in "qkv")
    q, k = note("q_rope", rope(m, q, pos, layer)), note("k_rope", rope(m, k, pos, layer))
    cache[0].append(k)
    cache[1].append(v)
    o = note("attn_o", matmul(t("attn_output"), attention(m, note, q, pos, *cache)))
    x = note("attn_residual", [a + b for a, b in zip(o, x)])
    h = note("ffn_norm", norm(x, t("ffn_norm")[0], eps))
    gate, up = note("ffn_gate", matmul(t("ffn_gate"), h)), note("ffn_up", matmul(t("ffn_up"), h))
    if faulty("swap", layer):
        gate, up = up, gate
    if faulty("relu2", layer):
        act = [max(g, 0) ** 2 * u for g, u in zip(gate, up)]
    else:
        act = [g / (1 + math.exp(-g)) * u for g, u in zip(gate, up)]
    down = note("ffn_down", matmul(t("ffn_down"), note("ffn_act", act)))
    return note("layer_out", [a + b for a, b in zip(down, x)])


def forward(m, token, pos, cache, record):
    x = list(m["t"]["token_embd.weight"][token])
    record("embeddings", -1, x)
    for layer in range(m["n_layer"]):
        x = block(m, layer, x, pos, cache[layer], record)
    x = norm(x, m["t"]["output_norm.weight"][0], m["eps"])
    record("output_norm", -1, x)
    out = matmul(m["t"].get("output.weight", m["t"]["token_embd.weight"]), x)
    record("logits", -1, out)
    return out


def send_traces(wire, traces, seq, values):
    for (stage, layer), rows in traces.items():
        shape = [len(rows), len(rows[0])]
        if stage in ("attn_scores", "attn_softmax"):  # rows of heads of cells: pad to the longest
            cells = len(rows[-1][0])
            shape = [len(rows), len(rows[0]), cells]
            rows = [sum((list(h) + [0.0] * (cells - len(h)) for h in r), []) for r in rows]
        flat = array.array("f", (v for r in rows for v in r))
        name = stage if layer < 0 else "blk.%d.%s" % (layer, stage)
        rms = math.sqrt(sum(v * v for v in flat) / len(flat))
        header = [("name", name), ("stage", stage), ("layer", layer), ("seq", seq), ("dtype", "f64"),
                  ("shape", ",".join(map(str, shape))), ("rms", repr(rms)), ("n", len(flat)),
                  ("offset", 0)]
        wire.send(TRACE, header, flat.tobytes() if values else b"")


def evaluate(wire, m, keys, body):
    started = time.monotonic()
    one = lambda key, other: keys.get(key, [other])[0]
    ids = adapter.ids_of(body)[:int(one("tokens", len(body) // 4))]
    if not ids or any(not 0 <= i < m["n_vocab"] for i in ids):
        raise adapter.Failure(64, "ids outside the vocabulary of %d" % m["n_vocab"])
    wanted, want, greedy = one("trace", "none").split(","), one("logits", "all"), int(one("greedy", 0))
    stops = [int(s) for s in keys.get("stop", [])]
    cache, traces = [([], []) for _ in range(m["n_layer"])], {}
    n_prompt, pos = len(ids), 0

    def record(stage, layer, value):
        if wanted[0] == "all" or stage in wanted:
            traces.setdefault((stage, layer), []).append(value)

    while pos < len(ids):
        row = array.array("f", forward(m, ids[pos], pos, cache, record))
        step, chooses = max(0, pos - n_prompt + 1), greedy > 0 and pos >= n_prompt - 1
        if pos >= n_prompt - 1:
            send_traces(wire, traces, step, one("values", "1") == "1")
            traces = {}
        header = [("pos", pos), ("step", step)]
        if chooses:
            token = max(range(len(row)), key=row.__getitem__)
            header.append(("token", token))
            if step + 1 < greedy and token not in stops:
                ids.append(token)
        if want == "all" or chooses or (want == "last" and pos == n_prompt - 1):
            wire.send(adapter.LOGITS, header, b"" if want == "none" else row.tobytes())
        pos += 1
    took = int((time.monotonic() - started) * 1e6)
    wire.send(adapter.DONE, [("n_pos", pos), ("eval_us", took), ("kernel.python", pos * m["n_layer"])])


def answer(wire, m, kind, keys, body):
    if kind != adapter.OPEN:
        return plain_answer(wire, m, kind, keys, body)
    m = load({k: v[0] for k, v in keys.items()})
    sizes = [(k, m[k]) for k in ("n_vocab", "n_layer", "n_embd", "n_ctx")]
    wire.send(adapter.OPENED, [("arch", "llama")] + sizes + [
        ("n_head", m["heads"]), ("n_kv_head", m["kv_heads"]), ("head_dim", m["d"]), ("bos", -1),
        ("eos", -1), ("eot", -1), ("add_bos", 0), ("weights", "f32")])
    return m


adapter.FEATURES = "evaluate,trace"
adapter.evaluate, plain_answer, adapter.answer = evaluate, adapter.answer, answer
adapter.main()
