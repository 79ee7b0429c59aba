#!/usr/bin/env bash
# `assay calibrate`: an engine with noise of a known size, one without; WITHIN_NOISE, DRIFT and
# DIVERGED are decided by what was measured.
set -u
. tests/expect.sh
N="exec:python3 $PWD/tests/noisy_engine.py"
mkdir "$T/tmp"
export TMPDIR=$T/tmp

check "a float model" "$A" gen-fixtures --preset tiny-llama --weights f16 --out "$T/m.gguf"
check "a quantised one" "$A" gen-fixtures --preset tiny-bitnet --out "$T/q.gguf"
echo '[{"id": "a", "prompt": "Hello, world. Hello again."}]' >"$T/s.json"
cal() { "$A" calibrate --model "$T/m.gguf" --scenarios "$T/s.json" --threads 2 "$@"; }
sw() { "$A" sweep --model "$T/m.gguf" --scenarios "$T/s.json" --batch 1 \
	--reference "recorded:$T/r.tar.zst" --thresholds-file "$T/n.json" "$@"; }

# ---- an engine with noise -----------------------------------------------------------------
check "a noisy engine is measured: exit 0" exits 0 cal --engine "$N" -o "$T/n.json" \
	--thresholds noisy --format json
check "all ways of running it" python3 - "$T/out" <<'P'
import json, sys
r = json.load(open(sys.argv[1]))
names = [w["name"] for w in r["ways"]]
assert names == ["again", "threads 1", "batch 1", "batch 7", "batch 64", "ubatch 8", "ubatch 32",
                 "ubatch 128", "threads 1, batch 1"], names
assert r["ways"][0]["n_bits_equal"] == r["ways"][0]["n_positions"] == 26
assert all(w["max_nmse"] > 0 for w in r["ways"][1:]), "noise was not seen"
worst = max(w["max_nmse"] for w in r["ways"])
# relative noise 1e-4 · sine on both sides: NMSE of the order of 1e-8, never above 4e-8
assert 1e-9 < worst < 4e-8 and 2 * worst <= r["noise_max_nmse"] <= 2.2 * worst, r
assert r["limit_max_nmse"] == 1e-6 and not r["bits"] and r["arch"] == "llama"
P
check "the file says how" has "$T/n.json" "against itself on"
check "… for which weights" has "$T/n.json" '"weights": "f16"'
check "it is recorded" "$A" record --model "$T/m.gguf" --scenarios "$T/s.json" --engine "$N" \
	--out "$T/r.tar.zst" --threads 2
check "another batch: exit 0" exits 0 sw --engine "$N" --thresholds noisy --out "$T/within"
check "… WITHIN_NOISE" has "$T/out" WITHIN_NOISE
check "… the receipt names the rule's origin" has "$T/within/a/receipt.json" "noisy_engine.py"
check "five times the noise: DRIFT, exit 0" exits 0 sw --engine "$N 5e-4" --thresholds noisy
check "… it is called so" has "$T/out" DRIFT
check "… with --strict exit 1" exits 1 sw --engine "$N 5e-4" --thresholds noisy --strict
check "a fault: exit 1" exits 1 sw --engine "$N 1e-4 0.01" --thresholds noisy
check "… DIVERGED" has "$T/out" DIVERGED
check "the program's own set would not have seen the drift" exits 0 sw --engine "$N 2.5e-4" \
	--thresholds-file lockfiles/thresholds.json --thresholds default
check "… there it is noise" has "$T/out" WITHIN_NOISE

# ---- one without; the file is kept --------------------------------------------------------
check "native is measured" exits 0 cal --engine native -o "$T/n.json" --thresholds exact
check "… it has no noise" has "$T/out" "none, every way gave the same bits"
check "… bits are its noise" has "$T/n.json" '"bits": true'
check "the other set is still there" has "$T/n.json" '"noisy"'
check "bits: IDENTICAL passes" exits 0 "$A" sweep --model "$T/m.gguf" --reference native \
	--thresholds-file "$T/n.json" --thresholds exact
check "another architecture has no rule: exit 64" exits 64 "$A" sweep --model "$T/q.gguf" \
	--reference native --thresholds-file "$T/n.json" --thresholds exact
check "… says which" has "$T/err" 'of architecture "bitnet-b1.58"'
check "its rule joins the set" exits 0 "$A" calibrate --model "$T/q.gguf" --engine native \
	--scenarios "$T/s.json" --threads 2 -o "$T/n.json" --thresholds exact
check "… two rules" test "$(grep -c '"bits": true' "$T/n.json")" -eq 2
check "now there is one: exit 0" exits 0 "$A" sweep --model "$T/q.gguf" --reference native \
	--thresholds-file "$T/n.json" --thresholds exact
check "measured again the rule is replaced" exits 0 "$A" calibrate --model "$T/q.gguf" \
	--engine native --scenarios "$T/s.json" --threads 2 -o "$T/n.json" --thresholds exact
check "… still two" test "$(grep -c '"bits": true' "$T/n.json")" -eq 2

# ---- refusals -----------------------------------------------------------------------------
check "the name of an own set: exit 64" exits 64 cal --engine native -o "$T/n.json" \
	--thresholds default
check "a file that is none: exit 64" exits 64 cal --engine native -o "$T/s.json"
check "no engine: exit 64" exits 64 cal
check "an engine that dies: exit 6" exits 6 cal --engine "exec:exit 1" -o "$T/x.json"
check "… leaves no file" test ! -e "$T/x.json"
check "nothing is left in the temporary folder" \
	test -z "$(ls "$T/tmp")"
