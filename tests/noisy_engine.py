#!/usr/bin/env python3
"""An engine whose last bits depend on threads, batch and micro-batch, as default builds' do.

noisy_engine.py [SIZE [FAULT]]: relative size of the noise (1e-4); FAULT multiplies every logit.
"""
import math
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../docs/examples"))
import adapter

size = float(sys.argv[1]) if len(sys.argv) > 1 else 1e-4
fault = float(sys.argv[2]) if len(sys.argv) > 2 else 0
way = [0, 0]
plain_load, plain_evaluate, plain_logits = adapter.load, adapter.evaluate, adapter.logits


def load(options):
    way[0] = int(options.get("threads", 0)) + 100 * int(options.get("ubatch", 0))
    return plain_load(options)


def evaluate(wire, model, keys, body):
    way[1] = int(keys.get("batch", ["0"])[0])
    plain_evaluate(wire, model, keys, body)


def logits(model, ids):
    seed = way[0] + 10007 * way[1]
    noise = [size * math.sin(12.9898 * (seed + 1) * (i + len(ids))) for i in range(adapter.N_VOCAB)]
    row = plain_logits(model, ids)
    return [x * (1 + n) + fault * math.cos(i) for i, (x, n) in enumerate(zip(row, noise))]


adapter.load, adapter.evaluate, adapter.logits = load, evaluate, logits
adapter.main()
