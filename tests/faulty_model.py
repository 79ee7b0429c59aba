#!/usr/bin/env python3
"""A little llama model in plain Python behind docs/examples/adapter.py, with traces by canonical stage
and one fault of choice: what somebody's own engine looks like to assay.

usage: exec:python3 tests/faulty_model.py [neox|residual|none]

Reads F32 files (`assay gen-fixtures --preset tiny-llama --weights f32 …`); sums are in double.
"""
import math
import os
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "docs", "examples"))
import adapter  # noqa: E402

FAULT = sys.argv[1] if len(sys.argv) > 1 else "none"
TRACE = 11


# ---- the file -----------------------------------------------------------------------------------
def read_gguf(path):
    with open(path, "rb") as f:
        d = f.read()
    n_tensors, n_kv = struct.unpack_from("<QQ", d, 8)
    at, kv, out = 24, {}, {}
    forms = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}

    def value(kind, at):
        if kind == 8:
            n = struct.unpack_from("<Q", d, at)[0]
            return d[at + 8:at + 8 + n].decode("utf8", "replace"), at + 8 + n
        if kind == 9:
            kind, n = struct.unpack_from("<IQ", d, at)
            at += 12
            for _ in range(n):
                _, at = value(kind, at)
            return None, at
        return struct.unpack_from(forms[kind], d, at)[0], at + struct.calcsize(forms[kind])
    for _ in range(n_kv):
        key, at = value(8, at)
        kv[key], at = value(struct.unpack_from("<I", d, at)[0], at + 4)
    infos = []
    for _ in range(n_tensors):
        name, at = value(8, at)
        dims = struct.unpack_from("<I", d, at)[0]
        ne = struct.unpack_from("<%dQ" % dims, d, at + 4)
        kind, offset = struct.unpack_from("<IQ", d, at + 4 + 8 * dims)
        at += 16 + 8 * dims
        infos.append((name, ne, kind, offset))
    start = (at + 31) // 32 * 32
    for name, ne, kind, offset in infos:
        n = math.prod(ne)
        x = struct.unpack_from("<%d%s" % (n, "f" if kind == 0 else "e"), d, start + offset)
        out[name] = x if len(ne) == 1 else [x[i * ne[0]:(i + 1) * ne[0]] for i in range(ne[1])]
    return kv, out


# ---- the model ----------------------------------------------------------------------------------
def f32(row):
    return list(struct.unpack("<%df" % len(row), struct.pack("<%df" % len(row), *row)))


def norm(x, w, eps):
    s = 1 / math.sqrt(sum(v * v for v in x) / len(x) + eps)
    return f32([v * s * g for v, g in zip(x, w)])


def product(w, x):
    return f32([sum(map(float.__mul__, row, x)) for row in w])


def add(a, b):
    return f32([x + y for x, y in zip(a, b)])


class Run:
    def __init__(self, model, show):
        self.m, self.show, self.cache = model, show, {}

    def rope(self, x, pos, d):
        out = list(x)
        for h in range(0, len(x), d):
            for i in range(d // 2):
                a, b = (h + i, h + i + d // 2) if FAULT == "neox" else (h + 2 * i, h + 2 * i + 1)
                t = pos * self.m["base"] ** (-2 * i / d)
                out[a], out[b] = (x[a] * math.cos(t) - x[b] * math.sin(t), x[a] * math.sin(t) + x[b] * math.cos(t))
        return f32(out)

    def attention(self, layer, q, pos0):
        m, keys, values = self.m, self.cache[layer, "k"], self.cache[layer, "v"]
        d, group, cells = m["d"], m["heads"] // m["kv"], len(keys)
        scores, soft, out = [], [], []
        for t, row in enumerate(q):
            for h in range(m["heads"]):
                at, n = h // group * d, pos0 + t + 1
                s = f32([sum(row[h * d + i] * keys[c][at + i] for i in range(d)) for c in range(n)])
                e = [math.exp((v - max(s)) / math.sqrt(d)) for v in s]
                p = f32([v / sum(e) for v in e])
                scores += s + [0.0] * (cells - n)
                soft += p + [0.0] * (cells - n)
                out += f32([sum(p[c] * values[c][at + i] for c in range(n)) for i in range(d)])
        self.show("attn_scores", layer, scores, (len(q), m["heads"], cells))
        self.show("attn_softmax", layer, soft, (len(q), m["heads"], cells))
        width = m["heads"] * d
        return [out[t * width:(t + 1) * width] for t in range(len(q))]

    def layer(self, n, x, pos0):
        w, eps, d = self.m["w"], self.m["eps"], self.m["d"]

        def stage(name, rows):
            self.show(name, n, [v for r in rows for v in r], (len(rows), len(rows[0])))
            return rows

        def linear(name, tensor, rows):
            return stage(name, [product(w["blk.%d.%s.weight" % (n, tensor)], r) for r in rows])
        h = stage("attn_norm", [norm(r, w["blk.%d.attn_norm.weight" % n], eps) for r in x])
        q, k, v = linear("q", "attn_q", h), linear("k", "attn_k", h), linear("v", "attn_v", h)
        q = stage("q_rope", [self.rope(r, pos0 + t, d) for t, r in enumerate(q)])
        k = stage("k_rope", [self.rope(r, pos0 + t, d) for t, r in enumerate(k)])
        self.cache.setdefault((n, "k"), []).extend(k)
        self.cache.setdefault((n, "v"), []).extend(v)
        o = linear("attn_o", "attn_output", stage("attn_out_heads", self.attention(n, q, pos0)))
        x = stage("attn_residual", o if FAULT == "residual" and n == 1 else [add(a, b) for a, b in zip(o, x)])
        h = stage("ffn_norm", [norm(r, w["blk.%d.ffn_norm.weight" % n], eps) for r in x])
        g, u = linear("ffn_gate", "ffn_gate", h), linear("ffn_up", "ffn_up", h)
        a = stage("ffn_act", [f32([p / (1 + math.exp(-p)) * q for p, q in zip(r, s)]) for r, s in zip(g, u)])
        return stage("layer_out", [add(p, q) for p, q in zip(linear("ffn_down", "ffn_down", a), x)])

    def call(self, ids, pos0):
        w = self.m["w"]
        x = [list(w["token_embd.weight"][i]) for i in ids]
        self.show("embeddings", -1, [v for r in x for v in r], (len(x), len(x[0])))
        for n in range(self.m["layers"]):
            x = self.layer(n, x, pos0)
        x = [norm(r, w["output_norm.weight"], self.m["eps"]) for r in x]
        self.show("output_norm", -1, [v for r in x for v in r], (len(x), len(x[0])))
        out = [product(w.get("output.weight") or w["token_embd.weight"], r) for r in x]
        self.show("logits", -1, [v for r in out for v in r], (len(out), len(out[0])))
        return out


# ---- the adapter's two functions ----------------------------------------------------------------
def load(options):
    if not os.path.exists(options["model"]):
        raise adapter.Failure(10, "cannot open %s" % options["model"])
    kv, w = read_gguf(options["model"])
    heads, embd = kv["llama.attention.head_count"], kv["llama.embedding_length"]
    adapter.N_VOCAB = len(w["token_embd.weight"])
    return {"n_ctx": 512, "w": w, "layers": kv["llama.block_count"], "heads": heads, "d": embd // heads,
            "kv": kv["llama.attention.head_count_kv"], "base": kv["llama.rope.freq_base"],
            "eps": kv["llama.attention.layer_norm_rms_epsilon"]}


def evaluate(wire, model, keys, body):
    started, seq = time.monotonic(), 0
    traced = keys.get("trace", ["none"])[0]

    def show(stage, layer, x, shape):
        if traced == "all" or stage in traced.split(","):
            wire.send(TRACE, [("name", stage if layer < 0 else "blk.%d.%s" % (layer, stage)), ("stage", stage),
                              ("layer", layer), ("seq", seq), ("dtype", "f32"), ("shape", ",".join(map(str, shape))),
                              ("n", len(x)), ("offset", 0)], struct.pack("<%df" % len(x), *x))
    prompt = adapter.ids_of(body)[: int(keys.get("tokens", [len(body) // 4])[0])]
    if not prompt or any(not 0 <= i < adapter.N_VOCAB for i in prompt):
        raise adapter.Failure(64, "no ids, or one outside the vocabulary of %d" % adapter.N_VOCAB)
    greedy, want = int(keys.get("greedy", ["0"])[0]), keys.get("logits", ["all"])[0]
    stops = [int(i) for i in keys.get("stop", [])]
    ids, pos, run = prompt, 0, Run(model, show)
    while ids:
        rows, chosen = run.call(ids, pos), []
        for i, row in enumerate(rows):
            header = [("pos", pos), ("step", seq)]
            last = i == len(rows) - 1
            if greedy > 0 and last:
                token = max(range(len(row)), key=row.__getitem__)
                header.append(("token", token))
                chosen = [token] if seq + 1 < greedy and token not in stops else []
            if want == "all" or last:
                wire.send(adapter.LOGITS, header, b"" if want == "none" else struct.pack("<%df" % len(row), *row))
            pos += 1
        ids, seq = chosen, seq + 1
    wire.send(adapter.DONE, [("n_pos", pos), ("eval_us", int((time.monotonic() - started) * 1e6)), ("kernel.py", pos)])


def answer(wire, model, kind, keys, body, others=adapter.answer):
    if kind != adapter.OPEN:
        return others(wire, model, kind, keys, body)
    m = load({k: v[0] for k, v in keys.items()})
    wire.send(adapter.OPENED, [("arch", "llama"), ("n_vocab", adapter.N_VOCAB), ("n_layer", m["layers"]),
                               ("n_embd", m["heads"] * m["d"]), ("n_ctx", m["n_ctx"]), ("bos", -1), ("eos", -1),
                               ("eot", -1), ("add_bos", 0), ("weights", "f32")])
    return m


if __name__ == "__main__":
    adapter.answer, adapter.evaluate, adapter.FEATURES = answer, evaluate, "evaluate,trace"
    adapter.main()
