#!/usr/bin/env python3
"""Mutation test of the gates. Every field of a valid receipt is edited in turn (changed, dropped,
retyped, and additions), then come plausible forgeries: series and their aggregates scaled together,
parts of another receipt, other counters, other thresholds, numbers that are none. The content hash is
made right again each time, and the edit must be caught by a gate other than that hash. Only a changed
value of the fields listed below may pass: they are for people, or measured once and known to nothing
else in the receipt. What is dropped, retyped or added is caught without exception.

usage: gate.py ASSAY RECEIPT SEAL MODEL [OTHER]	of any kind; OTHER: another valid receipt of that kind
"""
import copy
import json
import os
import shutil
import subprocess
import sys
import tempfile

FREE = {  # for people; nothing is claimed by them
    "explanation", "explain", "host.cpu", "template.why", "model.path",
    # how it was run, which no result tells
    "scenario.seed", "scenario.timeout_s", "host.threads", "host.n_cpus",
    # measured once, nothing else in the receipt knows them to the last digit
    "compare_us", "wall_us",
}
FREE_SIDE = {"opened.note", "opened.open_us", "opened.peak_kib", "opened.n_ctx", "done.prefill_us", "done.peak_kib",
             "peak_rss_bytes"}
FREE |= {"engines.%s.%s" % (side, f) for side in ("ours", "reference") for f in FREE_SIDE}
# an engine that ran alone: nobody repeats what it says of its tokenizer and of its reply
FREE_ALONE = {"engines.ours.text", "engines.ours.opened." + "bos", "engines.ours.opened.eos", "engines.ours.opened.eot",
              "engines.ours.opened.head_dim", "engines.ours.opened.profile", "engines.ours.opened.isa"}
# of a bench: who, where and when, which nothing else in it knows (a baseline compares them)
FREE_BENCH = {
    "started", "host.cpu", "host.n_cpus", "warmup", "model.path", "engines.name", "engines.model", "engines.peak_kib",
    "machine.huge_pages", "machine.read_gb_s", "machine.read_sustained_gb_s", "machine.int8_gmac_s", "cases.series.pace_ns",
}
# of a summary: when it was written and how much that took; how many were planned
FREE_SWEEP = {"generated", "orchestrator_peak_rss_bytes", "n_planned"}


# what one receipt cannot contradict by itself: both sides are run again and the metrics computed anew
ONLY_A_RERUN = {"L2 and its aggregate × 0.5", "max |Δ| and its aggregate × 0.5", "KL and its aggregate × 0.5",
                "NMSE and its aggregate × 100", "the sides swapped", "positions.margin_ref", "positions.max_ulp"}


def free_of(r):
    return {"bench": FREE_BENCH, "sweep": FREE_SWEEP, "inference": FREE | FREE_ALONE}.get(r["kind"], FREE)


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
    for path in objects(r):
        if path:
            m = copy.deepcopy(r)
            parent = at(m, path[:-1])
            parent[path[-1]] = "gone"
            yield "retype", path, m
    # one number has one spelling, and a count is no real
    for path, v in list(leaves(r)):
        if type(v) is int:
            for kind, new in (("real", float(v)), ("huge", 2 ** 62), ("negative", -abs(v) - 5)):
                m = copy.deepcopy(r)
                at(m, path[:-1])[path[-1]] = new
                yield kind, path, m
        elif type(v) is float:
            for kind, new in (("NaN", "NaN"), ("infinite", "Infinity"), ("huge", 1e300), ("minus", -v - 1)):
                m = copy.deepcopy(r)
                at(m, path[:-1])[path[-1]] = new
                yield kind, path, m


# ---- forgeries: several fields changed so that they fit each other -------------------------------

def forge(r, name, change):
    m = copy.deepcopy(r)
    change(m)
    return "forged", (name,), m


def scale(series, total, key, factor):
    def change(m):
        p = at(m, series)
        p[:] = [x * factor for x in p]
        at(m, total)[key] *= factor
        if key == "max_kl":
            m["summary"]["mean_kl"] *= factor
        if key == "max_nmse" and m["verdict"] == "WITHIN_NOISE":
            m["explanation"] = "as good as it gets"
    return change


def perfect(m):
    """Everything the same, but for the digests."""
    n = len(m["per_token_cosine_sim"])
    m["per_token_cosine_sim"] = [1.0] * n
    m["per_token_l2_dist"] = [0.0] * n
    p = m["positions"]
    p.update(bits_equal=[True] * n, nmse=[0.0] * n, kl=[0.0] * n, max_abs_diff=[0.0] * n, max_ulp=[0] * n,
             top1_agree=[True] * n, top5_agree=[1.0] * n, kendall_tau_b=[1.0] * n)
    m["summary"].update(first_different=None, max_kl=0.0, max_l2=0.0, max_nmse=0.0, max_ulp=0, mean_cosine=1.0, mean_kl=0.0,
                        min_cosine=1.0, n_bits_equal=n, top1_agreement=1.0, top5_agreement=1.0, worst_position=0)
    m["max_absolute_diff"] = 0.0
    m["verdict"] = "IDENTICAL"


def faster(factor):
    def change(m):
        s = m["engines"]["ours"]
        s["eval_us"] = s["done"]["eval_us"] = max(1, s["eval_us"] // factor)
        s["done"]["prefill_us"] = min(s["done"]["prefill_us"], s["eval_us"])
        s["tokens_per_second"] = s["n_positions"] * 1e6 / s["eval_us"]
    return change


def other_model(m):
    """Counters and shape of a model with another layer, on one side or on both."""
    for s in m["engines"].values():
        s["opened"]["n_layer"] += 1


def rename(old, new):
    def change(m):
        s = m["engines"]["ours"]
        s["kernels"] = [new if k == old else k for k in s["kernels"]]
        s["counters"] = {new if k == old else k: v for k, v in s["counters"].items()}
    return change


def swap_sides(m):
    m["engines"]["ours"], m["engines"]["reference"] = m["engines"]["reference"], m["engines"]["ours"]


def put(path, value):
    def change(m):
        at(m, path[:-1])[path[-1]] = value(at(m, path)) if callable(value) else value
    return change


def both(*changes):
    def change(m):
        for c in changes:
            c(m)
    return change


def forgeries_of_engines(r):
    ours = ("engines", "ours")
    matmul = next((k for k in r["engines"]["ours"]["kernels"] if k.startswith("matmul_") and k != "matmul_f16"), "add")
    yield forge(r, "counters doubled", put(ours + ("counters",), lambda c: {k: 2 * v for k, v in c.items()}))
    yield forge(r, "another model's counters", other_model)
    yield forge(r, "a kernel of another type", rename(matmul, "matmul_q4_0"))
    yield forge(r, "a kernel renamed", rename("add", "add_fast"))
    yield forge(r, "a mock", rename("add", "mock_add"))
    yield forge(r, "no kernels", both(put(ours + ("counters",), {}), put(ours + ("kernels",), [])))
    yield forge(r, "a kernel id of 129 characters", rename("add", "a" * 129))
    yield forge(r, "10 001 kernels", put(ours + ("kernels",), ["k%d" % i for i in range(10001)]))
    yield forge(r, "a million times as fast", faster(10 ** 6))
    yield forge(r, "tokens per second alone", put(ours + ("tokens_per_second",), lambda v: v * 2))
    yield forge(r, "no time at all", both(put(ours + ("eval_us",), 0), put(ours + ("done", "eval_us"), 0)))
    yield forge(r, "not computed, said so", put(("compute_path",), "none"))
    yield forge(r, "another instruction set", put(ours + ("opened", "isa"), "neon"))
    yield forge(r, "nothing evaluated", both(put(ours + ("n_positions",), 0), put(ours + ("done", "n_pos"), 0)))
    yield forge(r, "a year before", put(("started",), lambda s: "2001" + s[4:]))
    yield forge(r, "another prompt", put(("template", "prompt_sha256"), "0" * 64))
    yield forge(r, "another template", both(put(("template", "name"), "llama3-chat")))
    yield forge(r, "other ids", put(ours + ("greedy",), lambda g: [x + 1 for x in g]))


def forgeries_of_parity(r):
    for series, total, key, name in (
            (("positions", "nmse"), ("summary",), "max_nmse", "NMSE"), (("positions", "kl"), ("summary",), "max_kl", "KL"),
            (("per_token_l2_dist",), ("summary",), "max_l2", "L2"),
            (("positions", "max_abs_diff"), (), "max_absolute_diff", "max |Δ|")):
        for factor in (0.5, 1e-3, 100.0):
            if not (name == "KL" and factor == 1e-3):  # as × 0.5
                yield forge(r, "%s and its aggregate × %g" % (name, factor), scale(series, total, key, factor))
    if r["verdict"] != "IDENTICAL":
        yield forge(r, "identical, by the series", perfect)
    yield forge(r, "the sides swapped", swap_sides)
    yield forge(r, "another verdict", put(("verdict",), "EQUIVALENT"))
    yield forge(r, "a looser limit", both(put(("thresholds", "limit"), {"max_nmse": 0.9}), put(("threshold",), 0.9)))
    yield forge(r, "a looser limit under another name",
                both(put(("thresholds", "limit"), {"max_nmse": 0.9}), put(("threshold",), 0.9),
                     put(("thresholds", "set"), "mine")))
    yield forge(r, "both digests the same", put(("engines", "reference", "logits_sha256"),
                                                r["engines"]["ours"]["logits_sha256"]))
    yield forge(r, "other ids on both sides",
                both(put(("engines", "ours", "greedy"), lambda g: [x + 1 for x in g]),
                     put(("engines", "reference", "greedy"), lambda g: [x + 1 for x in g])))
    yield forge(r, "a position less", lambda m: [p.pop() for p in (
        m["per_token_cosine_sim"], m["per_token_l2_dist"], *m["positions"].values())])
    yield forge(r, "a failed run, called well", both(put(("exit_code",), 0), put(("verdict",), "DIVERGED")))
    yield forge(r, "another protocol", put(("engines", "reference", "hello", "protocol"), 2))


def forgeries_of_bench(r):
    first = ("cases", 0, "series", 0)

    def quicker(factor):
        def change(m):
            s = at(m, first)
            for key in ("samples",):
                s[key] = [x * factor for x in s[key]]
            for key in ("median", "mean", "mad", "min", "max"):
                s[key] *= factor
            for one in m["cases"][0]["series"][1:]:
                for key in one["first_engine_ratio"]:
                    one["first_engine_ratio"][key] *= factor
        return change
    yield forge(r, "a million times as fast", quicker(1e6))
    yield forge(r, "more than the machine gives", both(quicker(1e6), put(("machine", "int8_gmac_s"), 1e9)))
    yield forge(r, "a model that needs nothing", both(quicker(1e6), put(("model", "prefill_gmac"), 1e-12)))
    yield forge(r, "a case twice", lambda m: m["cases"].append(copy.deepcopy(m["cases"][0])))
    yield forge(r, "no case", put(("cases",), []))
    yield forge(r, "a sample less", lambda m: at(m, first)["samples"].pop())
    yield forge(r, "a negative sample", put(first + ("samples", 0), -1.0))


def forgeries_of_sweep(r):
    yield forge(r, "a scenario less", both(lambda m: m["scenarios"].pop(), put(("n_done",), lambda n: n - 1)))
    yield forge(r, "a scenario twice", both(lambda m: m["scenarios"].append(m["scenarios"][0]),
                                            put(("n_done",), lambda n: n + 1), put(("n_planned",), lambda n: n + 1)))
    yield forge(r, "two scenarios swapped", lambda m: m["scenarios"][0].update(
        receipt_sha256=m["scenarios"][1]["receipt_sha256"]))
    yield forge(r, "better than it was", put(("scenarios", 0, "max_nmse"), 0.0))


def swapped_parts(r, other):
    """Every top part of another valid receipt of that kind, one after the other."""
    for key in r:
        if key in other and other[key] != r[key] and key not in ("content_sha256", "started", "finished", "wall_us",
                                                                 "compare_us", "explanation", "explain", "generated"):
            yield forge(r, "%s of another receipt" % key, put((key,), copy.deepcopy(other[key])))
    for side in ("ours", "reference"):
        for key in r.get("engines", {}).get(side, {}):
            if key in ("peak_rss_bytes", "hello", "text") or r["engines"][side][key] == other["engines"][side][key]:
                continue
            yield forge(r, "engines.%s.%s of another receipt" % (side, key),
                        put(("engines", side, key), copy.deepcopy(other["engines"][side][key])))


def spoilt_texts(text):
    """Not JSON, or JSON that no receipt is: what the parser has to refuse."""
    yield "a key twice", text.replace('"kind"', '"kind": "parity",\n "kind"', 1)
    yield "1e999", text.replace('"schema_version"', '"zz": 1e999, "schema_version"', 1)
    yield "2^64", text.replace('"schema_version"', '"zz": 18446744073709551616, "schema_version"', 1)
    yield "nested 100 000 deep", text.replace('"schema_version"', '"zz": %s%s, "schema_version"' % ("[" * 10 ** 5, "]" * 10 ** 5), 1)
    yield "nested 1000 deep", text.replace('"schema_version"', '"zz": %s%s, "schema_version"' % ("[" * 1000, "]" * 1000), 1)
    yield "cut in half", text[:len(text) // 2]
    yield "empty", ""
    yield "no object", "[1, 2]\n"
    yield "not UTF-8", text.replace('"schema_version"', '"z\udcff": 1, "schema_version"', 1)
    yield "NaN as a word", text.replace('"schema_version"', '"zz": NaN, "schema_version"', 1)
    yield "more behind it", text + "{}"
    yield "a changed byte", text.replace('"id"', '"iD"', 1) if '"id"' in text else text.replace('"started"', '"starteD"', 1)


def all_edits(r, other):
    yield from edits(r)
    if "engines" in r and r["kind"] != "bench":
        yield from forgeries_of_engines(r)
    yield from {"parity": forgeries_of_parity, "bench": forgeries_of_bench, "sweep": forgeries_of_sweep,
                "inference": lambda r: []}[r["kind"]](r)
    if other:
        yield from swapped_parts(r, other)


def beside(receipt, to):
    """What a gate finds beside a receipt: ids and prompt; of a summary its receipts."""
    where = os.path.dirname(receipt)
    for name in os.listdir(where):
        if os.path.isdir(os.path.join(where, name)) and os.path.basename(receipt) == "summary.json":
            os.symlink(os.path.abspath(os.path.join(where, name)), os.path.join(to, name))
        elif name in ("tokens.json", "prompt.txt"):
            shutil.copy(os.path.join(where, name), to)


def main():
    assay, receipt, sealer, model = sys.argv[1:5]
    with open(receipt) as f:
        text = f.read()
    r = json.loads(text)
    other = json.load(open(sys.argv[5])) if len(sys.argv) > 5 else None
    tmp = tempfile.mkdtemp()
    caught = free = 0
    bad = []
    batch = []
    spoilt = []
    by_gate = {}

    def place(name):
        d = os.path.join(tmp, "%05d" % (len(batch) + len(spoilt)))
        os.makedirs(d)
        beside(receipt, d)
        return os.path.join(d, os.path.basename(receipt))

    def gate(paths, *more):
        results = []
        for i in range(0, len(paths), 400):
            out = subprocess.run([assay, "gate", "--format", "json", *more, *paths[i:i + 400]], capture_output=True, text=True)
            results += json.loads(out.stdout)
            if len(results) != min(i + 400, len(paths)):
                raise RuntimeError("gate judged %d receipts of %d: %s" % (len(results), len(paths), out.stderr))
        return results

    for kind, path, m in all_edits(r, other):
        name = ".".join(str(p) for p in path if not isinstance(p, int))
        p = place(name)
        with open(p, "w") as f:
            json.dump(seal(m), f)
        batch.append((kind, name, p))
    for name, t in spoilt_texts(text):
        p = place(name)
        with open(p, "w", errors="surrogateescape") as f:
            f.write(t)
        spoilt.append((name, p))
    out = subprocess.run([sealer] + [b[2] for b in batch], capture_output=True, text=True)
    if out.returncode:
        print("not ok - sealing:", out.stderr)
        return 1
    for (kind, name, p), res in zip(batch, gate([b[2] for b in batch], "--model", model)):
        failed = [g["gate"] for g in res["gates"] if g["state"] == "failed"]
        hash_only = [m for g in res["gates"] if g["state"] == "failed" for m in g["messages"]] == \
            ["content_sha256 does not fit the content: it was changed"]
        if failed and not hash_only:
            caught += 1
            by_gate[failed[0]] = by_gate.get(failed[0], 0) + 1
        elif ("logits_sha256" in name or name in ONLY_A_RERUN) and subprocess.run(
                [assay, "gate", p, "--model", model, "--rerun", "1"], capture_output=True).returncode == 20:
            caught += 1  # by running it again
            by_gate["rerun"] = by_gate.get("rerun", 0) + 1
        elif kind in ("change", "huge", "minus") and name in free_of(r) or (kind, name) == ("negative", "scenario.seed"):
            free += 1
        else:
            bad.append("%s of %s" % (kind, name))
    for (name, p), res in zip(spoilt, gate([s[1] for s in spoilt])):
        if res["passed"]:
            bad.append("a text with %s" % name)
        else:
            caught += 1
    n = len(batch) + len(spoilt)
    shutil.rmtree(tmp)
    print("# %s: %d edits: %d caught (%s), %d of free text" % (
        r["kind"], n, caught, ", ".join("%s %d" % kv for kv in sorted(by_gate.items())), free))
    print("%s - at least 100 edits (%d)" % ("ok" if n >= 100 else "not ok", n))
    for b in bad:
        print("not ok - passed unnoticed:", b)
    if not bad:
        print("ok - every edit of a receipt of kind %s is caught or is of free text" % r["kind"])
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
