#!/usr/bin/env python3
"""Every form of a result says the same numbers: text, JSON, Markdown, JUnit, HTML and the receipt of one
comparison that diverges are read, and each printed number must be its JSON value rounded as printed.

usage: numbers.py ASSAY FOLDER
"""
import array
import html
import json
import math
import os
import re
import struct
import subprocess
import sys
from xml.etree import ElementTree

ASSAY, TMP = sys.argv[1:3]
MODEL = os.path.join(TMP, "m.gguf")
SHARES = ("bitnet-b1.58.attention.layer_norm_rms_epsilon=float:0.001",)
failed = compared = 0


def check(name, said, value):
    """`said` as printed, `value` from JSON: equal to half a unit of the last printed place."""
    global failed, compared
    compared += 1
    if isinstance(value, float) and re.fullmatch(r"-?[0-9.]+(e[-+][0-9]+)?", said):
        digits, _, power = said.partition("e")
        places = len(digits.partition(".")[2])
        good = abs(float(said) - value) <= 0.50001 * 10.0 ** (int(power or 0) - places)
        # %g drops closing zeros: what is left must still be as near as its six or three digits tell
        good = good or abs(float(said) - value) <= 1e-9 * abs(value)
    else:
        good = said == str(value)
    if not good:
        failed += 1
        print("not ok - %s: printed %s, recorded %r" % (name, said, value))


def run(*args):
    done = subprocess.run([ASSAY, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode not in (0, 1):
        print("not ok - assay %s: exit %d\n# %s" % (" ".join(args), done.returncode, done.stderr[:400]))
        sys.exit(1)
    return done.stdout


def whole(name, lines, n):
    """As many lines were understood as there are results: a reader that matches nothing proves nothing."""
    global failed
    if len(lines) != n:
        failed += 1
        print("not ok - %s: %d lines understood, %d results" % (name, len(lines), n))
    return lines


def ok(name, before):
    if failed == before:
        print("ok - " + name)


# ---- crossval-per-token ---------------------------------------------------------------------------
def positions(name, text, r):
    row = re.compile(r"^[✓✗] t=(\d+) (.*)$", re.M)
    keys = {"cosine": "per_token_cosine_sim", "l2": "per_token_l2_dist", "nmse": "nmse", "kl": "kl",
            "max_abs": "max_abs_diff", "max|d|": "max_abs_diff", "kendall": "kendall_tau_b", "margin": "margin_ref"}
    for at, rest in whole(name, row.findall(text), r["summary"]["n_positions"]):
        for key, said in re.findall(r"([a-z0-9_|]+)=(\S+)", rest):
            series = r[keys[key]] if keys[key] in r else r["positions"][keys[key]]
            check("%s t=%s %s" % (name, at, key), said, series[int(at)])


def per_token():
    before = failed
    same = ["per-token", "--model", MODEL, "--reference-override", *SHARES, "--max-tokens", "6", "-q",
            "--prompt", "How many numbers agree? 1234567"]
    text = run(*same, "--metrics", "cosine,l2,nmse,kl,max_abs,kendall,margin", "--receipt", TMP + "/r.json")
    r, j = json.load(open(TMP + "/r.json")), json.loads(run(*same, "--format", "json"))
    positions("per-token", text, r)
    for key in ("per_token_cosine_sim", "per_token_l2_dist", "positions", "summary", "greedy", "verdict",
                "explanation", "exit_code", "first_divergence_token"):
        check("per-token JSON and receipt: " + key, str(j[key]), str(r[key]))
    s = r["summary"]
    m = re.search(r"position (\d+) \((\w+)\): NMSE (\S+), cosine (\S+), max\|diff\| (\S+); worst position (\d+)", text)
    check("first divergence", m.group(1), r["first_divergence_token"])
    first = r["first_divergence_token"]
    check("its part", m.group(2), "prefill" if first < s["n_prefill"] else "decode")
    check("its NMSE", m.group(3), r["positions"]["nmse"][first])
    check("its cosine", m.group(4), r["per_token_cosine_sim"][first])
    check("its largest difference", m.group(5), r["positions"]["max_abs_diff"][first])
    check("worst position", m.group(6), s["worst_position"])
    check("least cosine", repr(s["min_cosine"]), min(r["per_token_cosine_sim"]))
    check("largest NMSE", repr(s["max_nmse"]), max(r["positions"]["nmse"]))
    check("largest KL", repr(s["max_kl"]), max(r["positions"]["kl"]))
    check("largest difference", repr(r["max_absolute_diff"]), max(r["positions"]["max_abs_diff"]))
    ok("per-token: text, JSON and receipt", before)


# ---- every metric, computed here from the logits that both engines write ---------------------------------
def logits(engine, ids, extra=()):
    run("logits", "--model", MODEL, "--engine", engine, "--tokens", ",".join(map(str, ids)), "--out", TMP + "/l.f32",
        "-q", *extra)
    flat = array.array("f")
    with open(TMP + "/l.f32", "rb") as f:
        flat.frombytes(f.read())
    n = len(flat) // len(ids)
    return [flat[i * n:(i + 1) * n] for i in range(len(ids))]


def order(x):
    """Its place among all float32 values."""
    bits = struct.unpack("<i", struct.pack("<f", x))[0]
    return bits if bits >= 0 else -(bits & 0x7fffffff)


def log_softmax(x):
    top = max(x)
    total = top + math.log(math.fsum(math.exp(v - top) for v in x))
    return [v - total for v in x]


def tau_b(a, b):
    concordant = ties_a = ties_b = pairs = 0
    for i in range(len(a)):
        for k in range(i):
            s, t = (a[i] > a[k]) - (a[i] < a[k]), (b[i] > b[k]) - (b[i] < b[k])
            concordant += s * t
            ties_a += s == 0
            ties_b += t == 0
            pairs += 1
    return concordant / math.sqrt((pairs - ties_a) * (pairs - ties_b))


def top(x, n):
    return sorted(range(len(x)), key=lambda i: (-x[i], i))[:n]


def metrics():
    before = failed
    ids = [475, 17, 10, 17, 28, 381, 25, 220, 16, 11, 42, 300]
    run("per-token", "--model", MODEL, "--tokens", ",".join(map(str, ids)), "--max-tokens", "0", "-q",
        "--reference-override", *SHARES, "--receipt", TMP + "/m.json")
    r = json.load(open(TMP + "/m.json"))
    ours, ref = logits("native", ids, ("--profile", r["engines"]["ours"]["opened"]["profile"])), logits(
        "oracle", ids, ("--override-kv", *SHARES))
    assert len(ours) == len(ref) == r["summary"]["n_positions"] == len(ids)
    s = r["positions"]
    for t, (a, b) in enumerate(zip(ours, ref)):
        d = [x - y for x, y in zip(a, b)]
        aa, bb, ab, dd = (math.fsum(x * y for x, y in zip(*v)) for v in ((a, a), (b, b), (a, b), (d, d)))
        p, q = log_softmax(a), log_softmax(b)
        best, ten = top(b, 2), top(b, 10)
        want = {"per_token_cosine_sim": ab / math.sqrt(aa * bb), "per_token_l2_dist": math.sqrt(dd), "nmse": dd / bb,
                "kl": math.fsum(math.exp(y) * (y - x) for x, y in zip(p, q)), "max_abs_diff": max(map(abs, d)),
                "max_ulp": max(abs(order(x) - order(y)) for x, y in zip(a, b)), "bits_equal": a == b,
                "margin_ref": b[best[0]] - b[best[1]], "top1_agree": top(a, 1) == best[:1],
                "top5_agree": len(set(top(a, 5)) & set(top(b, 5))) / 5,
                "kendall_tau_b": tau_b([a[i] for i in ten], [b[i] for i in ten])}
        for key, value in want.items():
            got = (r[key] if key in r else s[key])[t]
            near = got == value or isinstance(value, float) and abs(got - value) <= 1e-11 * max(1e-3, abs(value))
            check("%s of position %d: %r, here %r" % (key, t, got, value), str(near), "True")
    ok("every metric of every position is Python's, from the logits", before)


# ---- sweep: receipts, report.txt, summary.{json,md}, terminal, JUnit, HTML -----------------------------
def sweep():
    before = failed
    out = TMP + "/sweep"
    table = run("sweep", "--model", MODEL, "--reference-override", *SHARES, "--out", out, "-q")
    s = json.load(open(out + "/summary.json"))
    n, diverged = len(s["scenarios"]), 0
    assert n >= 3
    page = run("report", out, "--format", "html")
    cases = ElementTree.fromstring(run("report", out, "--format", "junit")).iter("testcase")
    rows = {
        "summary.md": [[c.strip() for c in line.strip("|").split("|")]
                       for line in open(out + "/summary.md") if line.startswith("| scenario")],
        "terminal": [re.split(r"\s{2,}", line.strip()) for line in table.splitlines() if line.startswith("scenario")][1:],
        "HTML": [[html.unescape(re.sub("<[^>]+>", "", c)) for c in re.findall(r"<td[^>]*>(.*?)</td>", line)]
                 for line in re.findall(r"<tr[^>]*>(<td><strong>.*?)</tr>", page)],
    }
    places = {  # id, token match, positions, cosine, NMSE, KL, top-1, greedy, verdict
        "summary.md": (0, 2, None, 3, 4, 5, 6, 7, 8), "terminal": (0, 1, 2, 3, 4, 5, 6, 7, 8),
        "HTML": (0, 3, 4, 5, 6, 7, 8, 9, 1)}
    keys = ("id", "token_match", "n_positions", "min_cosine", "max_nmse", "max_kl", "top1_agreement", "greedy",
            "verdict")
    junit = list(cases)
    whole("JUnit", junit, n)
    for form in rows:
        whole(form, rows[form], n)
    for i, w in enumerate(s["scenarios"]):
        r = json.load(open("%s/%s/receipt.json" % (out, w["id"])))
        for form in rows:
            for key, at in zip(keys, places[form]):
                if at is not None:
                    check("%s %s %s" % (form, w["id"], key), rows[form][i][at], w[key])
        for key in ("min_cosine", "max_nmse", "max_kl", "top1_agreement", "n_positions"):
            check("receipt %s %s" % (w["id"], key), repr(r["summary"][key]), repr(w[key]))
        for key in ("verdict", "exit_code", "explanation", "wall_us", "explain"):
            check("receipt %s %s" % (w["id"], key), str(r.get(key)), str(w.get(key)))
        case = junit[i]
        check("JUnit id", case.get("name"), w["id"])
        check("JUnit time", case.get("time"), w["wall_us"] * 1e-6)
        if w["exit_code"]:
            check("JUnit message", case[0].get("message"), w["explanation"])
            check("JUnit command", case[0].text, w["explain"])
        report = open("%s/%s/report.txt" % (out, w["id"])).read()
        positions("report.txt of " + w["id"], report, r)
        short = json.load(open("%s/%s/logits-comparison.json" % (out, w["id"])))
        for key in short:
            check("logits-comparison.json %s" % key, str(short[key]), str(r[key]))
        if not w["exit_code"]:
            continue
        diverged += 1
        for said, what in ((w["explain"], "its command"), (w["explanation"], "why")):
            for form, text in (("report.txt", report), ("summary.md", open(out + "/summary.md").read()),
                               ("HTML", html.unescape(page))):
                check("%s of %s in %s" % (what, w["id"], form), str(said in text), "True")
        # the command itself, as a shell takes it
        told = subprocess.run(w["explain"].replace("assay ", ASSAY + " ", 1), shell=True, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True)
        check("exit of the printed command", str(told.returncode), 1)
    check("scenarios that diverge", str(diverged > 1), "True")
    ok("sweep: receipts, report.txt, summary.json, summary.md, terminal, JUnit, HTML", before)


# ---- trace-diff ---------------------------------------------------------------------------------------
def trace_diff():
    before = failed
    for side, engine, extra in (("a", "native", ()), ("b", "oracle", ("--override-kv", *SHARES))):
        run("trace", "--model", MODEL, "--engine", engine, "--out", TMP + "/" + side, "--values", "2+2=", "-q", *extra)
    text, j = (run("trace-diff", TMP + "/a", TMP + "/b", *f) for f in ((), ("--format", "json")))
    j = json.loads(j)
    line = re.compile(r"^[✓✗·] (\S+)(?: of layer (\d+))? +rel-RMS (\S+) cosine (\S+) NMSE (\S+) max ulp (\d+), "
                      r"(\d+) of (\d+) values; worst \[(\d+)\]: (\S+) and (\S+)$", re.M)
    beyond = [r for r in j["rows"] if r["state"] == "beyond"]
    check("rows beyond", str(len(beyond)), j["beyond"])
    for said, r in zip(whole("trace-diff", line.findall(text), len(beyond)), beyond):
        where = "trace-diff %s %s " % (r["stage"], r["layer"])
        for key, t in zip(("stage", "layer", "rel_rms", "cosine", "nmse", "max_ulp", "different", "values",
                           "worst_index", "worst_a", "worst_b"), said):
            if key in ("worst_a", "worst_b"):     # nine digits: the very float
                check(where + key, "%.9g" % float(t), "%.9g" % r[key])
            else:
                check(where + key, t or "-1", r[key])
    ok("trace-diff: text and JSON, %d operations" % len(beyond), before)


# ---- kl ------------------------------------------------------------------------------------------------
def kl():
    before = failed
    with open(TMP + "/text", "w") as f:
        f.write("The quick brown fox jumps over 13 lazy dogs; pack my box with five dozen jugs. " * 6)
    same = ["kl", "--model", MODEL, "--reference-override", *SHARES, "--text", TMP + "/text", "--chunk", "32", "-q"]
    text, j = run(*same), json.loads(run(*same, "--format", "json"))
    n = r"(-?[0-9.]+)"

    def line(pattern, *values):
        m = re.search(pattern, text)
        if not m:
            check("kl: a line like %r" % pattern, "none", "one")
            return
        for said, value in zip(m.groups(), values):
            check("kl: " + pattern, said, value)
    p, d, k = j["perplexity"], j["delta_p"], j["kl"]
    percent = ("p0_1", "p1", "p5", "p10", "p25", "p75", "p90", "p95", "p99", "p99_9")
    line(r"(\d+) ids, (\d+) chunks of (\d+), (\d+) positions", j["n_ids"], j["n_chunks"], j["chunk"], j["n_scored"])
    line(r"ours %s ± %s  reference %s ± %s" % (n, n, n, n), p["ours"], p["ours_error"], p["reference"],
         p["reference_error"])
    line(r"ratio +%s ± %s  ln %s ± %s  correlation of ln %s percent" % ((n,) * 5), p["ratio"], p["ratio_error"],
         p["ln_ratio"], p["ln_ratio_error"], 100 * p["correlation"])
    line(r"difference +%s ± %s" % (n, n), p["difference"], p["difference_error"])
    for name, o, scale in (("KL divergence", k, 1.0), ("Δp, percent", d, 100.0)):
        line(name + r" +mean %s ± %s  median %s  max %s  min %s\n" % ((n,) * 5),
             *(scale * o[key] for key in ("mean", "mean_error", "median", "max", "min")))
        line(name + r".*\n  percentiles    0.1 % {0}  1 % {0}  5 % {0}  10 % {0}  25 % {0}\n"
             r" +75 % {0}  90 % {0}  95 % {0}  99 % {0}  99.9 % {0}\n".format(n),
             *(scale * o[key] for key in percent))
    line(r"Δp RMS +%s ± %s percent" % (n, n), 100 * j["delta_p_rms"], 100 * j["delta_p_rms_error"])
    line(r"same top-1 +%s ± " % n, 100 * j["same_top1"])
    ok("kl: text and JSON", before)


run("gen-fixtures", "--preset", "tiny-bitnet", "--seed", "11", "--out", MODEL, "-q")
per_token()
metrics()
sweep()
trace_diff()
kl()
print("# %d numbers compared" % compared)
if compared < 500:
    print("not ok - too few numbers compared: %d" % compared)
    failed += 1
sys.exit(failed > 0)
