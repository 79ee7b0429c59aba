#!/usr/bin/env python3
"""An engine of your own under test: assay sweep --engine "exec:python3 adapter.py" …

Write logits() for your engine; the rest of this file speaks assay's protocol (docs/engines.md).
The engine here is a toy, so that the file runs as it is: ids are bytes, and the logits follow from
the last three ids alone. Standard library only.
"""
import math
import os
import socket
import struct
import sys
import time

N_VOCAB = 256


def load(options):
    """Open the model; options has "model", "threads", "ctx", …. Return what logits() needs."""
    if not os.path.exists(options["model"]):
        raise Failure(10, "cannot open %s" % options["model"])
    return {"n_ctx": 4096}


def tokenize(model, text, add_bos, parse_special):
    """The ids of text (bytes). Without a tokenizer delete this and "tokenize" in FEATURES."""
    return list(text)


def piece(model, token):
    """The text of one id, as bytes."""
    return bytes([token])


def logits(model, ids):
    """The logits after ids: N_VOCAB floats. This is where your engine goes."""
    a, b, c = ([0, 0, 0] + ids)[-3:]
    return [math.sin(0.01 * (a + 2 * b + 3 * c + 1) * (i + 1)) for i in range(N_VOCAB)]


FEATURES = "tokenize,evaluate"
HELLO, OPEN, OPENED, TOKENIZE, TOKENS, DETOKENIZE, PIECES = 1, 2, 3, 4, 5, 6, 7
EVALUATE, LOGITS, DONE, FAIL, BYE = 10, 12, 13, 18, 19


class Failure(Exception):
    """Answered as FAIL: an exit code of assay's table and a sentence."""

    def __init__(self, code, sentence):
        super().__init__(sentence)
        self.code = code


class Wire:
    def __init__(self):
        self.file = socket.socket(fileno=int(os.environ["ASSAY_WIRE_FD"])).makefile("rwb")

    def send(self, kind, header=(), body=b""):
        text = "".join("%s=%s\n" % (k, str(v).replace("\n", " ")) for k, v in header).encode()
        head = struct.pack("<IHBB", len(text) + len(body), len(text), kind, 0)
        self.file.write(head + text + body)
        self.file.flush()

    def read(self):
        head = self.file.read(8)
        if len(head) < 8:
            return BYE, {}, b""
        size, header, kind, _ = struct.unpack("<IHBB", head)
        payload = self.file.read(size)
        keys = {}
        for line in payload[:header].decode().splitlines():
            key, value = line.split("=", 1)
            keys.setdefault(key, []).append(value)
        return kind, keys, payload[header:]


def ids_of(body):
    return list(struct.unpack("<%di" % (len(body) // 4), body))


def evaluate(wire, model, keys, body):
    started = time.monotonic()
    ids = ids_of(body)[: int(keys.get("tokens", [len(body) // 4])[0])]
    want = keys.get("logits", ["all"])[0]
    greedy = int(keys.get("greedy", ["0"])[0])
    stops = [int(s) for s in keys.get("stop", [])]
    bad = [i for i in ids if not 0 <= i < N_VOCAB]
    if not ids or bad:
        raise Failure(64, "id %d is outside the vocabulary" % bad[0] if bad else "no ids")
    n_prompt, pos = len(ids), 0
    while pos < len(ids):
        step = max(0, pos - n_prompt + 1)
        chooses = greedy > 0 and pos >= n_prompt - 1
        if want == "all" or chooses or (want == "last" and pos == n_prompt - 1):
            row = logits(model, ids[: pos + 1])
            header = [("pos", pos), ("step", step)]
            if chooses:
                token = max(range(N_VOCAB), key=row.__getitem__)  # the first maximum
                header.append(("token", token))
                if step + 1 < greedy and token not in stops:
                    ids.append(token)
            values = struct.pack("<%df" % N_VOCAB, *row) if want != "none" else b""
            wire.send(LOGITS, header, values)
        pos += 1
    took = int((time.monotonic() - started) * 1e6)
    wire.send(DONE, [("n_pos", pos), ("eval_us", took), ("kernel.toy", pos)])


def answer(wire, model, kind, keys, body):
    if kind == OPEN:
        model = load({k: v[0] for k, v in keys.items()})
        wire.send(OPENED, [("arch", "toy"), ("n_vocab", N_VOCAB), ("n_layer", 1), ("n_embd", 1),
                           ("n_ctx", model["n_ctx"]), ("bos", -1), ("eos", -1), ("eot", -1),
                           ("add_bos", 0), ("weights", "none")])
    elif model is None and kind in (TOKENIZE, DETOKENIZE, EVALUATE):
        raise Failure(64, "no model is open")
    elif kind == TOKENIZE:
        flags = [keys.get(k, ["0"])[0] == "1" for k in ("add_bos", "parse_special")]
        ids = tokenize(model, body, *flags)
        wire.send(TOKENS, [("n", len(ids))], struct.pack("<%di" % len(ids), *ids))
    elif kind == DETOKENIZE:
        texts = [piece(model, i) for i in ids_of(body)]
        wire.send(PIECES, (), b"".join(struct.pack("<I", len(t)) + t for t in texts))
    elif kind == EVALUATE:
        evaluate(wire, model, keys, body)
    else:
        raise Failure(64, "this engine does not answer requests of type %d" % kind)
    return model


def main():
    wire, model = Wire(), None
    wire.send(HELLO, [("protocol", 1), ("engine", "toy-python"), ("build", "1"),
                      ("isa", "python-%d.%d" % sys.version_info[:2]), ("features", FEATURES)])
    while True:
        kind, keys, body = wire.read()
        if kind == BYE:
            return
        try:
            model = answer(wire, model, kind, keys, body)
        except Failure as failure:
            wire.send(FAIL, [("code", failure.code)], str(failure).encode())


if __name__ == "__main__":
    main()
