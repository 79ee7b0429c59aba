#!/usr/bin/env python3
"""The little model of faulty_model.py behind an adapter that goes wrong in one way: odd_engine.py MODE.

What a mode spoils is in the tables below; what none of them names is as it should be.
"""
import os
import struct
import sys
import time

MODE = sys.argv[1]
sys.argv[1:] = ["none"]
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import faulty_model  # noqa: E402
from faulty_model import TRACE, adapter  # noqa: E402

plain_send, plain_answer = adapter.Wire.send, faulty_model.answer
n_evaluations = 0
NAN = struct.pack("<f", float("nan"))

# what is said of position 1, of a choice, of the end: header and body in, header and body out
LOGITS = {
    "nan": lambda h, b: (h, b[:40] + NAN + b[44:] if h["pos"] == 1 else b),
    "scaled": lambda h, b: (h, struct.pack("<%df" % (len(b) // 4), *[2 * x for x in struct.unpack("<%df" % (len(b) // 4), b)])),
    "other-choice": lambda h, b: (dict(h, token=h["token"] ^ 1) if "token" in h else h, b),
    "no-choice": lambda h, b: ({k: v for k, v in h.items() if k != "token"}, b),
    "no-pos": lambda h, b: ({k: v for k, v in h.items() if k != "pos"}, b),
}
DONE = {"miscounts": lambda h, b: (dict(h, n_pos=99), b)}
# of the records of one stage
TRACES = {
    "trace-huge": ("attn_norm", lambda h, b: (dict(h, shape="2147483648,2147483648", n=2 ** 62), b)),
    "trace-negative": ("attn_norm", lambda h, b: (dict(h, shape="1,-1,-%d" % h["n"]), b)),
    "trace-no-layer": ("attn_norm", lambda h, b: (dict(h, layer=-1), b)),
    "trace-far-layer": ("layer_out", lambda h, b: (dict(h, layer=10 ** 6), b)),
    "trace-stage": ("q", lambda h, b: (dict(h, stage="query"), b)),
    "trace-rows": ("q", lambda h, b: (dict(h, shape="%d,1" % h["n"]), b)),
    "trace-short": ("q", lambda h, b: (h, b[:-8])),
    "trace-gap": ("q", lambda h, b: (dict(h, offset=7), b)),
    "trace-hang": ("q", lambda h, b: time.sleep(1000)),
}


def send(wire, kind, header=(), body=b""):
    header = dict(header)
    if kind == adapter.HELLO and MODE == "claims-replay":
        header["features"] += ",replay"
    for table, of in ((LOGITS, adapter.LOGITS), (DONE, adapter.DONE)):
        if kind == of and MODE in table:
            header, body = table[MODE](header, body)
    if kind == TRACE and MODE in TRACES and header["stage"] == TRACES[MODE][0]:
        header, body = TRACES[MODE][1](header, body)
    if kind == adapter.LOGITS and MODE == "hangs-up":
        os.close(int(os.environ["ASSAY_WIRE_FD"]))
        time.sleep(1000)
    if kind == adapter.LOGITS and MODE == "type-200":
        kind = 200
    plain_send(wire, kind, header.items(), body)


def answer(wire, model, kind, keys, body):
    global n_evaluations
    if kind == adapter.EVALUATE:
        n_evaluations += 1
        if MODE == "says-diverged":
            raise adapter.Failure(1, "I give up")
        if MODE == "keeps-state" and n_evaluations > 1:     # as a cache that nobody cleared would
            model["w"]["output_norm.weight"] = [2 * x for x in model["w"]["output_norm.weight"]]
    if kind == 14:
        raise adapter.Failure(64, "I cannot do that after all")
    return plain_answer(wire, model, kind, keys, body)


if __name__ == "__main__":
    adapter.Wire.send, adapter.answer = send, answer
    adapter.evaluate, adapter.FEATURES = faulty_model.evaluate, "evaluate,trace"
    adapter.main()
