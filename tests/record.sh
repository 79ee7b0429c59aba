#!/usr/bin/env bash
# `assay record` and the engine recorded:FILE: a recording stands in for the engine it was made
# from, and refuses whatever it does not hold.
set -u
. tests/expect.sh
export -n CROSSVAL_TIMEOUT_SECS CROSSVAL_GGUF ASSAY_WIRE_LOG BITNET_SEED

check "a model" "$A" gen-fixtures --preset tiny-bitnet --seed 5 --out "$T/m.gguf"
check "another" "$A" gen-fixtures --preset tiny-bitnet --seed 6 --out "$T/other.gguf"
cat >"$T/s.json" <<J
[{"id": "raw", "prompt": "2+2=", "max_new_tokens": 3},
 {"id": "chat", "prompt": "Hi", "system": "Be brief.", "template": "llama3-chat", "max_new_tokens": 2},
 {"id": "none", "prompt": "Count: 1,2,3,"},
 {"id": "ids", "tokens": [1, 2, 3], "max_new_tokens": 1}]
J
rec() { "$A" record --model "$T/m.gguf" --scenarios "$T/s.json" "$@"; }
sw() { local f=$1; shift; "$A" sweep --model "$T/m.gguf" --reference "recorded:$T/$f" "$@"; }

# ---- the same as the engine itself ----------------------------------------------------------
check "native is recorded" exits 0 rec --out "$T/n.tar.zst"
check "… with its size and how to use it" has "$T/out" "use it with --reference recorded:"
check "no part of it is left" test "$(ls "$T" | grep -c n.tar.zst)" -eq 1
check "native against it: exit 0" exits 0 sw n.tar.zst --scenarios "$T/s.json" --out "$T/run"
check "all four IDENTICAL" test "$(grep -c IDENTICAL "$T/out")" -eq 4
for id in raw chat none ids; do
	check "$id: one digest of both sides" test "$(grep '"logits_sha256"' "$T/run/$id/receipt.json" | sort -u | wc -l)" -eq 1
done
check "the receipt says it is a recording" has "$T/run/raw/receipt.json" '"recorded_at"'
check "counters of what was computed when it was recorded" \
	test "$(grep -c '"counters"' "$T/run/raw/receipt.json")" -eq 2
check "the gate takes it" exits 0 "$A" gate "$T/run/raw/receipt.json"
check "a model larger than the player of its recording" "$A" gen-fixtures --preset tiny-llama \
	--embd 768 --ff 3072 --layers 2 --weights f16 --out "$T/large.gguf"
echo '[{"id": "a", "tokens": [1, 2], "max_new_tokens": 0}]' >"$T/two.json"
check "… recorded" exits 0 "$A" record --model "$T/large.gguf" --scenarios "$T/two.json" --out "$T/l.tar.zst"
check "… compared" exits 0 "$A" sweep --model "$T/large.gguf" --scenarios "$T/two.json" \
	--reference "recorded:$T/l.tar.zst" --out "$T/large"
check "… and the gate takes it" exits 0 "$A" gate "$T/large/a/receipt.json"
rm "$T/large.gguf"
check "fewer greedy ids than recorded are there" \
	exits 0 sw n.tar.zst --scenarios <(echo '[{"id":"a","prompt":"2+2=","max_new_tokens":1}]')
check "… IDENTICAL" has "$T/out" IDENTICAL
check "two recordings, no engine at all" exits 0 "$A" sweep --model "$T/m.gguf" \
	--engine "recorded:$T/n.tar.zst" --reference "recorded:$T/n.tar.zst" --scenarios "$T/s.json"
check "… IDENTICAL" test "$(grep -c IDENTICAL "$T/out")" -eq 4
check "per-token too" exits 0 "$A" per-token --model "$T/m.gguf" --prompt "2+2=" \
	--prompt-template raw --max-tokens 3 --reference "recorded:$T/n.tar.zst"
check "… a line per position" has "$T/out" "✓ t=0 cosine=1.0"
check "--ladder tokens takes its ids" exits 0 "$A" per-token --model "$T/m.gguf" --prompt "2+2=" \
	--prompt-template raw --ladder tokens --reference "recorded:$T/n.tar.zst" --dump-cpp-ids
check "… and shows them" has "$T/out" "recorded:$T/n.tar.zst ids ("
check "--ladder first-logit" exits 0 "$A" per-token --model "$T/m.gguf" --prompt "2+2=" \
	--prompt-template raw --ladder first-logit --reference "recorded:$T/n.tar.zst"
check "logits of it" "$A" logits --model "$T/m.gguf" --tokens 1,2,3 --out "$T/a.f32"
check "… from the recording" "$A" logits --model "$T/m.gguf" --engine "recorded:$T/n.tar.zst" \
	--tokens 1,2,3 --out "$T/b.f32"
check "… every bit" cmp "$T/a.f32" "$T/b.f32"

# ---- a faulty engine is found ----------------------------------------------------------------
cp "$T/m.gguf" "$T/flipped.gguf"
size=$(stat -c %s "$T/m.gguf")
printf '\x15' | dd of="$T/flipped.gguf" bs=1 seek=$((size - 4000)) conv=notrunc status=none
check "one flipped byte of weights: exit 1" exits 1 "$A" sweep --model "$T/flipped.gguf" \
	--reference-model "$T/m.gguf" --reference "recorded:$T/n.tar.zst" --scenarios "$T/s.json"

# ---- another engine, the compact form ------------------------------------------------------
check "the oracle is recorded" exits 0 rec --engine oracle --out "$T/o.tar.zst" --format json
check "native against it: exit 0" exits 0 sw o.tar.zst --scenarios "$T/s.json" --out "$T/orun"
check "… by the oracle's thresholds" has "$T/orun/raw/receipt.json" '"set": "oracle"'
check "compact" exits 0 rec --out "$T/c.tar.zst" --logits compact --format json
error=$(sed -n 's/.*"max_error": \([0-9.e-]*\).*/\1/p' "$T/out")
check "its greatest error is told ($error)" \
	awk -v e="$error" 'BEGIN { exit !(e > 0 && e < 1e-3) }'
check "native against it: exit 0" exits 0 sw c.tar.zst --scenarios "$T/s.json" --out "$T/crun"
check "… by the set for it" has "$T/crun/raw/receipt.json" '"set": "compact"'
check "… never IDENTICAL" lacks "$T/out" IDENTICAL
check "… and the measured difference is the stated one" awk -v e="$error" '
	/"max_absolute_diff"/ { gsub(/[^0-9.e-]/, "", $2); if ($2 > m) m = $2 }
	END { exit !(m > 0 && m <= e * 1.0001) }' "$T"/crun/*/logits-comparison.json
check "a flipped byte is found with the compact form too: exit 1" exits 1 "$A" sweep \
	--model "$T/flipped.gguf" --reference-model "$T/m.gguf" \
	--reference "recorded:$T/c.tar.zst" --scenarios "$T/s.json"

# ---- several references at once --------------------------------------------------------------
check "three references: exit 0" exits 0 sw n.tar.zst --reference "recorded:$T/o.tar.zst" \
	--reference oracle --scenarios "$T/s.json" --out "$T/matrix"
check "six comparisons of each scenario" test "$(grep -c '^[a-z]*[.].* match ' "$T/out")" -eq 24
check "the oracle's recording is the oracle" \
	test "$(grep -c 'raw.recorded.*o.tar.zst-oracle .* IDENTICAL' "$T/out")" -eq 1
check "the matrix is in text" has "$T/out" "who agrees with whom"
check "… in Markdown" has "$T/matrix/summary.md" "## Who agrees with whom"
check "… in JSON" python3 - "$T/matrix/summary.json" <<'P'
import json, sys
s = json.load(open(sys.argv[1]))
m = {c["scenario"]: c for c in s["matrix"]}
assert sorted(m) == ["chat", "ids", "none", "raw"], m.keys()
cells = {(c["a"][-12:], c["b"][-12:]): c for c in m["raw"]["cells"]}
assert len(cells) == 6, cells
assert [c["references"] for c in m["raw"]["cells"]].count(True) == 3
digests = m["raw"]["logits_sha256"]
assert len(digests) == 4 and len(set(digests.values())) == 2, digests
assert s["steady"] is True and s["exit_code"] == 0
P
F=$PWD/$B/tests/fake_worker
echo "not a model" >"$T/fake.gguf"
fakes() { "$A" sweep --model "$T/fake.gguf" "$@"; }
check "references that differ are not our fault: exit 0" exits 0 fakes --thresholds conversion \
	--engine "exec:exec $F good" --reference "exec:exec $F good x" \
	--reference "exec:sleep 0; exec $F good"
check "ours agrees with one of two: exit 1" exits 1 fakes --engine "exec:exec $F good" \
	--reference "exec:sleep 0; exec $F good" --reference "exec:exec $F shifted"
check "… the pair of references differs too" test "$(grep -c 'DIVERGED$' "$T/out")" -ge 6
check "a crashing pair counts: exit 1 before 6" exits 1 fakes --engine "exec:exec $F shifted" \
	--reference "exec:exec $F good" --reference "exec:exec $F die"
echo 0 >"$T/count"
check "an engine that differs from itself: exit 1" exits 1 fakes -j 2 --thresholds conversion \
	--engine "exec:n=\$(cat $T/count); echo 1 >$T/count; [ \$n = 0 ] && exec $F good; exec $F shifted" \
	--reference "exec:exec $F good" --reference "exec:sleep 0; exec $F good "
check "one of two references may fail: ours is still compared, exit 1" exits 1 \
	env CROSSVAL_ALLOW_CPP_FAIL=1 "$A" crossval --model "$T/m.gguf" --profile ggml-avx512 \
	--reference "recorded:$T/nowhere" --reference "recorded:$T/n.tar.zst" --prompt "2+2=" \
	--prompt-template raw --max-tokens 3 --thresholds bits --report "$T/report.json"
check "… the report says xfail" has "$T/report.json" '"xfail": true'
check "… DIVERGED is printed" has "$T/out" DIVERGED
check "the only one may fail: ours runs alone, exit 0" exits 0 \
	env CROSSVAL_ALLOW_CPP_FAIL=1 "$A" crossval --model "$T/m.gguf" \
	--reference "recorded:$T/nowhere" --report "$T/report.json"
check "… xfail" has "$T/report.json" '"xfail": true'
check "… and when ours fails then: exit 6" exits 6 \
	env CROSSVAL_ALLOW_CPP_FAIL=1 "$A" crossval --model "$T/m.gguf" --engine "exec:exec $F die" \
	--reference "recorded:$T/nowhere" --report "$T/report.json"
check "… native_ok is false" has "$T/report.json" '"native_ok": false'

# ---- traces ---------------------------------------------------------------------------------
check "with traces" exits 0 rec --trace all --out "$T/t.tar.zst"
check "… the same logits" exits 0 sw t.tar.zst --scenarios "$T/s.json"
check "… IDENTICAL" test "$(grep -c IDENTICAL "$T/out")" -eq 4
trace() { "$A" trace --model "$T/m.gguf" --tokens 1,2,3 "$@"; }
check "traced live" trace --out "$T/live"
check "traced from the recording" trace --engine "recorded:$T/t.tar.zst" --out "$T/played"
live=$(find "$T/live" -type f | wc -l)
check "as many files ($live)" test "$live" -eq "$(find "$T/played" -type f | wc -l)"
hashes() { grep -rhoE '"blake3": ?"[0-9a-f]{64}"' "$1" | sort; }
check "and the same BLAKE3 of every record" cmp <(hashes "$T/live") <(hashes "$T/played")
check "there are some" test "$(hashes "$T/live" | wc -l)" -ge 20
check "a recording without traces says so: exit 3" exits 3 trace \
	--engine "recorded:$T/n.tar.zst" --out "$T/untraced"

# ---- proof and diagnosis without the other engine --------------------------------------------
check "a float model" "$A" gen-fixtures --preset tiny-llama --out "$T/l.gguf"
check "one profile's traces" "$A" record --model "$T/l.gguf" --engine native --profile ggml-avx2 \
	--prompt "2+2=" --max-tokens 1 --template raw --trace all --out "$T/l.tar.zst"
check "another profile is EQUIVALENT to the recording: exit 0" exits 0 "$A" crossval \
	--model "$T/l.gguf" --profile ggml-avx512 --reference "recorded:$T/l.tar.zst" --local \
	--prompt "2+2=" --prompt-template raw --max-tokens 1
check "… it is called so" has "$T/out" EQUIVALENT
cp "$T/l.gguf" "$T/lf.gguf"
size=$(stat -c %s "$T/l.gguf")
printf '\x35' | dd of="$T/lf.gguf" bs=1 seek=$((size - 40001)) conv=notrunc status=none
check "a changed weight is explained by the recording: exit 1" exits 1 "$A" explain \
	--model "$T/lf.gguf" --reference-model "$T/l.gguf" --reference "recorded:$T/l.tar.zst" \
	--profile ggml-avx2 --prompt "2+2=" --prompt-template raw --max-tokens 1
check "… the tensor is named" has "$T/out" "weights      differ: output.weight"

# ---- what it does not hold -------------------------------------------------------------------
check "a prompt that was not recorded: exit 3" exits 3 sw n.tar.zst \
	--scenarios <(echo '[{"id":"a","prompt":"never seen"}]')
check "… says what it holds" has "$T/err" "scenarios raw, chat, none, ids"
check "ids that were not recorded: exit 3" exits 3 sw n.tar.zst \
	--scenarios <(echo '[{"id":"a","tokens":[1,2]}]')
check "more greedy ids than recorded: exit 3" exits 3 sw n.tar.zst \
	--scenarios <(echo '[{"id":"a","prompt":"2+2=","max_new_tokens":4}]')
check "… says it" has "$T/err" "decoding of 4 ids after scenario raw"
check "another model: exit 13" exits 13 "$A" sweep --model "$T/other.gguf" \
	--reference "recorded:$T/n.tar.zst" --scenarios "$T/s.json"
check "… names both hashes" has "$T/err" "was recorded from another model"
check "another tokenizer: exit 13" exits 13 sw n.tar.zst --tokenizer "$T/other.gguf" \
	--scenarios "$T/s.json"
check "another KV type: exit 64" exits 64 sw n.tar.zst --kv f32 --scenarios "$T/s.json"
check "metadata overridden: exit 64" exits 64 sw n.tar.zst --scenarios "$T/s.json" \
	--override-kv tokenizer.ggml.add_bos_token=bool:false
check "a file that is not there: exit 3" exits 3 sw nowhere.tar.zst
check "a file that is none: exit 3" exits 3 "$A" sweep --model "$T/m.gguf" \
	--reference "recorded:$T/m.gguf"
check "… says so" has "$T/err" "cannot be read as a recording"
cp "$T/n.tar.zst" "$T/bad.tar.zst"
size=$(stat -c %s "$T/bad.tar.zst")
printf 'X' | dd of="$T/bad.tar.zst" bs=1 seek=$((size - 2000)) conv=notrunc status=none
"$A" sweep --model "$T/m.gguf" --reference "recorded:$T/bad.tar.zst" --scenarios "$T/s.json" \
	>"$T/out" 2>"$T/err"
got=$?
check "a damaged archive never compares (exit $got)" test $got -eq 13
check "no position of it is shown" lacks "$T/out" IDENTICAL
check "no scenario: exit 7" exits 7 rec --scenarios <(echo '[]') --out "$T/x.tar.zst"
check "no --out: exit 64" exits 64 rec
check "an unknown stage: exit 64" exits 64 rec --trace nonsense --out "$T/x.tar.zst"
check "nothing is left of what failed" test ! -e "$T/x.tar.zst"
