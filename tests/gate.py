#!/usr/bin/env python3
"""Mutation test of the gates: every field of a valid receipt is edited in turn (changed, dropped,
retyped, and additions), the content hash is made right again, and the edit must be caught by a gate
other than that hash, or the field is in the list of free text below.

usage: gate.py ASSAY RECEIPT SEAL MODEL	a comparison's receipt or a bench's
"""
import copy
import json
import os
import shutil
import subprocess
import sys
import tempfile

FREE = {  # for people; nothing is claimed by them
    "explanation", "started", "finished", "host.cpu", "template.why", "environment", "thresholds.set",
    "model.path", "model.sha256_from", "tokens.cause", "id", "scenario.id",
    "scenario.timeout_s", "scenario.seed", "compare_us", "wall_us", "assay.version", "template.add_bos",
    "template.parse_special", "template.prompt_bytes", "template.prompt_sha256", "template.name", "tokenizer.source",
    "host.threads", "host.n_cpus", "model.bytes",
    # measured once, nothing else in the receipt knows them
    "engines.ours.done.prefill_us", "engines.reference.done.prefill_us", "engines.ours.done.peak_kib",
    "engines.reference.done.peak_kib", "engines.ours.peak_rss_bytes", "engines.reference.peak_rss_bytes",
    "positions.margin_ref", "positions.max_ulp", "positions.kendall_tau_b",
    "engines.ours.tokenized", "engines.reference.tokenized",
}
FREE |= {  # the engine's own words, and keys that engines pass over
    "asked.added", "engines.ours.done.added", "engines.reference.done.added",
}
FREE_PREFIX = ("engines.ours.opened.", "engines.reference.opened.", "engines.ours.hello.", "engines.reference.hello.",
               "engines.ours.pieces", "engines.reference.pieces", "engines.ours.text",
               "engines.reference.text", "environment.")


# of a bench: who, where and when, which nothing else in it knows (a baseline compares them)
FREE_BENCH = {
    "started", "assay_version", "assay_build", "host.cpu", "host.n_cpus", "warmup", "model.path",
    "engines.name", "engines.model", "engines.isa", "engines.profile", "engines.build", "engines.peak_kib",
    "machine.read_gb_s_1", "machine.int8_gmac_s_1", "machine.huge_pages", "model.bytes", "cases.name",
    # measured once, or of the model's file, which its hash stands for
    "cases.series.pace_ns", "machine.read_gb_s", "machine.int8_gmac_s", "model.decode_gb", "model.prefill_gmac",
}


def seal(r):
    r = copy.deepcopy(r)
    r.pop("content_sha256", None)
    return r


def leaves(o, path=()):
    if isinstance(o, dict):
        for k, v in o.items():
            yield from leaves(v, path + (k,))
    elif isinstance(o, list):
        if o:
            yield from leaves(o[0], path + (0,))
            if len(o) > 1:
                yield from leaves(o[-1], path + (len(o) - 1,))
    else:
        yield path, o


def objects(o, path=()):
    """Every object, of lists the first one's."""
    if isinstance(o, dict):
        yield path
        for k, v in o.items():
            yield from objects(v, path + (k,))
    elif isinstance(o, list) and o:
        yield from objects(o[0], path + (0,))


def at(o, path):
    for k in path:
        o = o[k]
    return o


def edits(r):
    for path, v in list(leaves(r)):
        if path[0] == "content_sha256":
            continue
        other = {bool: lambda: not v, int: lambda: v + 1, float: lambda: v * 1.5 + 0.01,
                 str: lambda: ("0" if v[:1] != "0" else "1") + v[1:] if v else "x", type(None): lambda: 7}[type(v)]()
        for kind, new in (("change", other), ("retype", {"a": 1}), ("drop", None)):
            m = copy.deepcopy(r)
            parent = at(m, path[:-1])
            if kind == "drop":
                del parent[path[-1]]
            else:
                parent[path[-1]] = new
            yield kind, path, m
    for path in objects(r):
        m = copy.deepcopy(r)
        at(m, path)["added"] = 1
        yield "add", path + ("added",), m


def main():
    assay, receipt, sealer, model = sys.argv[1:5]
    with open(receipt) as f:
        r = json.load(f)
    tmp = tempfile.mkdtemp()
    n = caught = free = 0
    bad = []
    batch = []
    for kind, path, m in edits(r):
        name = ".".join(str(p) for p in path if not isinstance(p, int))
        os.makedirs(os.path.join(tmp, "%05d" % n))
        p = os.path.join(tmp, "%05d" % n, "receipt.json")
        if r["kind"] != "bench":
            shutil.copy(os.path.join(os.path.dirname(receipt), "tokens.json"), os.path.dirname(p))
        with open(p, "w") as f:
            json.dump(seal(m), f)
        batch.append((kind, name, p))
        n += 1
    out = subprocess.run([sealer] + [b[2] for b in batch], capture_output=True, text=True)
    if out.returncode:
        print("not ok - sealing:", out.stderr)
        return 1
    out = subprocess.run([assay, "gate", "--format", "json"] + [b[2] for b in batch],
                         capture_output=True, text=True)
    results = json.loads(out.stdout)
    by_gate = {}
    for (kind, name, p), res in zip(batch, results):
        failed = [g["gate"] for g in res["gates"] if g["state"] == "failed"]
        hash_only = [m for g in res["gates"] if g["state"] == "failed" for m in g["messages"]] == \
            ["content_sha256 does not fit the content: it was changed"]
        if failed and not hash_only:
            caught += 1
            by_gate[failed[0]] = by_gate.get(failed[0], 0) + 1
        elif name == "model.sha256" and subprocess.run(
                [assay, "gate", p, "--model", model], capture_output=True).returncode == 20:
            caught += 1  # with the model at hand
            by_gate["model"] = by_gate.get("model", 0) + 1
        elif name.endswith("logits_sha256") and subprocess.run(
                [assay, "gate", p, "--model", model, "--rerun", "1"], capture_output=True).returncode == 20:
            caught += 1  # by running it again
            by_gate["rerun"] = by_gate.get("rerun", 0) + 1
        elif name in FREE_BENCH if r["kind"] == "bench" else name in FREE or name.startswith(FREE_PREFIX):
            free += 1
        else:
            bad.append("%s of %s" % (kind, name))
    shutil.rmtree(tmp)
    print("# %d edits: %d caught (%s), %d of free text" % (
        n, caught, ", ".join("%s %d" % kv for kv in sorted(by_gate.items())), free))
    print("%s - at least 100 edits (%d)" % ("ok" if n >= 100 else "not ok", n))
    for b in bad:
        print("not ok - passed unnoticed:", b)
    if not bad:
        print("ok - every edit is caught or is of free text")
    return 1 if bad else 0


sys.exit(main())
