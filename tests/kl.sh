#!/usr/bin/env bash
# `assay kl`: its numbers against Python's, computed from the logits that `assay logits` writes.
set -u
. tests/expect.sh

check "a model" "$A" gen-fixtures --preset tiny-bitnet --seed 5 --out "$T/m.gguf"
head -c 600 docs/scenarios.md >"$T/text"
kl() { "$A" kl --model "$T/m.gguf" --text "$T/text" --chunk 32 "$@"; }

check "chunks as scenarios" exits 0 kl --scenarios-out "$T/chunks.json"
n=$(python3 -c "import json; s = json.load(open('$T/chunks.json')); print(len(s))
assert all(len(x['tokens']) == 32 for x in s)")
check "some of 32 ids each ($n)" test "$n" -ge 3
check "kl against the oracle: exit 0" exits 0 kl --reference oracle --format json
cp "$T/out" "$T/kl.json"
for i in $(seq 0 $((n - 1))); do
	ids=$(python3 -c "import json; print(*json.load(open('$T/chunks.json'))[$i]['tokens'])")
	"$A" logits --model "$T/m.gguf" --profile ggml-avx2 --tokens "$ids" --out "$T/a$i" >"$T/out" 2>&1
	"$A" logits --model "$T/m.gguf" --engine oracle --tokens "$ids" --out "$T/b$i" >"$T/out" 2>&1
done
check "every number is Python's" python3 - "$T" "$n" <<'P'
import array, json, math, sys
d, n = sys.argv[1], int(sys.argv[2])
chunks, got = json.load(open(d + "/chunks.json")), json.load(open(d + "/kl.json"))
def logp(row):
    m = max(row)
    z = m + math.log(math.fsum(math.exp(x - m) for x in row))
    return [x - z for x in row]
ours, ref, kl, dp, same = [], [], [], [], 0
for c in range(n):
    a, b = array.array("f"), array.array("f")
    a.frombytes(open(d + f"/a{c}", "rb").read())
    b.frombytes(open(d + f"/b{c}", "rb").read())
    ids = chunks[c]["tokens"]
    v = len(a) // len(ids)
    for pos in range(16, 31):
        x, y = a[pos * v:(pos + 1) * v].tolist(), b[pos * v:(pos + 1) * v].tolist()
        p, q = logp(x), logp(y)
        ours.append(-p[ids[pos + 1]])
        ref.append(-q[ids[pos + 1]])
        dp.append(math.exp(p[ids[pos + 1]]) - math.exp(q[ids[pos + 1]]))
        kl.append(math.fsum(math.exp(j) * (j - i) for i, j in zip(p, q)))
        same += x.index(max(x)) == y.index(max(y))
def mean(x): return math.fsum(x) / len(x)
def error(x): return math.sqrt(math.fsum((i - mean(x)) ** 2 for i in x) / (len(x) - 1) / len(x))
def at(x, f):
    s, k = sorted(x), f * (len(x) - 1)
    i = int(k)
    return s[i] + (k - i) * (s[min(i + 1, len(s) - 1)] - s[i])
want = {("n_scored",): len(kl), ("perplexity", "ours"): math.exp(mean(ours)),
    ("perplexity", "reference"): math.exp(mean(ref)),
    ("perplexity", "ours_error"): math.exp(mean(ours)) * error(ours),
    ("perplexity", "ln_ratio"): mean(ours) - mean(ref),
    ("perplexity", "ln_ratio_error"): error([i - j for i, j in zip(ours, ref)]),
    ("perplexity", "ratio"): math.exp(mean(ours) - mean(ref)),
    ("perplexity", "difference"): math.exp(mean(ours)) - math.exp(mean(ref)),
    ("perplexity", "correlation"): math.fsum((i - mean(ours)) * (j - mean(ref)) for i, j in zip(ours, ref)) /
        math.sqrt(math.fsum((i - mean(ours)) ** 2 for i in ours) * math.fsum((j - mean(ref)) ** 2 for j in ref)),
    ("kl", "p0_1"): at(kl, .001), ("kl", "p25"): at(kl, .25), ("kl", "p75"): at(kl, .75),
    ("kl", "mean"): mean(kl), ("kl", "median"): at(kl, .5), ("kl", "p99"): at(kl, .99),
    ("kl", "p99_9"): at(kl, .999), ("kl", "max"): max(kl), ("kl", "mean_error"): error(kl),
    ("delta_p", "mean"): mean(dp), ("delta_p", "min"): min(dp), ("delta_p", "p1"): at(dp, .01),
    ("delta_p_rms_error",): error([x * x for x in dp]) / math.sqrt(mean([x * x for x in dp])) / 2,
    ("delta_p_rms",): math.sqrt(mean([x * x for x in dp])), ("same_top1",): same / len(kl)}
assert len(kl) == 15 * n and mean(kl) > 0
for path, w in want.items():
    g = got
    for k in path:
        g = g[k]
    assert abs(g - w) <= 1e-9 * (1 + abs(w)) and abs(g - w) <= 1e-6 * abs(w), (path, g, w)
P
check "text: the same numbers, the same exit code" exits 0 kl --reference oracle
ppl=$(python3 -c "import json; print('%.6f' % json.load(open('$T/kl.json'))['perplexity']['ours'])")
check "… perplexity $ppl" has "$T/out" "ours $ppl "
check "an engine against itself" exits 0 kl --reference native --format json
check "… has no distance" python3 -c "
import json; k = json.load(open('$T/out'))
assert k['kl']['max'] == 0 and k['delta_p_rms'] == 0 and k['same_top1'] == 1, k"
check "--chunks 2" exits 0 kl --reference native --chunks 2 --format json
check "… scores two" has "$T/out" '"n_scored": 30'
check "the chunks are recorded" "$A" record --model "$T/m.gguf" --engine oracle \
	--scenarios "$T/chunks.json" --out "$T/o.tar.zst"
check "kl against the recording: exit 0" exits 0 kl --reference "recorded:$T/o.tar.zst" --format json
check "… the same numbers" cmp <(grep -v '"reference"' "$T/kl.json" | head -60) \
	<(grep -v '"reference"' "$T/out" | head -60)
check "beyond the limit: exit 1 in text" exits 1 kl --reference oracle --thresholds bits
check "… and in JSON" exits 1 kl --reference oracle --thresholds bits --format json
check "a text that is too short: exit 7" exits 7 kl --reference oracle --chunk 4096
check "no text: exit 64" exits 64 "$A" kl --model "$T/m.gguf"
check "two references: exit 64" exits 64 kl --reference oracle --reference native
F=$PWD/$B/tests/fake_worker
echo "not a model" >"$T/fake.gguf"
check "other tokens: exit 2, nothing evaluated" exits 2 env ASSAY_WIRE_LOG="$T/wire.log" "$A" kl \
	--model "$T/fake.gguf" --text "$T/text" --chunk 4 --engine "exec:exec $F tokens" \
	--reference "exec:exec $F good"
check "… the index is named" has "$T/err" "differ from index"
check "… EVALUATE was never sent" test "$(grep -c EVALUATE "$T/wire.log")" -eq 0
