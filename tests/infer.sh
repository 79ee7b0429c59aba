#!/usr/bin/env bash
# assay infer and assay trace, whole, on generated models.
set -u
. tests/expect.sh
infer() { "$A" infer --model "$T/m.gguf" --ignore-eos "$@" 2>"$T/err"; }
trace() { "$A" trace --model "$T/m.gguf" "$@" 2>"$T/err"; }

check "a model is generated" "$A" gen-fixtures --preset tiny-llama --seed 3 --out "$T/m.gguf"
infer "2+2=" -n 24 >"$T/a"
check "24 tokens, speed on standard error" grep -q "24 new" "$T/err"
infer "2+2=" -n 24 --threads 3 --ubatch 2 >"$T/b"
check "greedy: the same text from 3 threads and small batches" cmp "$T/a" "$T/b"
ids() { sed 's/.*"ids": \[\([^]]*\)\].*/\1/' "$1"; }
infer "2+2=" -n 24 --format json >"$T/j"
"$A" logits --model "$T/m.gguf" "2+2=" --greedy 24 | cut -f1 | paste -sd, | sed 's/,/, /g' >"$T/l"
check "greedy: the ids that logits chooses" test "$(ids "$T/j")" = "$(cat "$T/l")"
sampled() { infer "2+2=" -n 24 --temperature 1.5 --seed "$1" "${@:2}" --format json >"$T/s"; ids "$T/s"; }
one=$(sampled 1) again=$(sampled 1) two=$(sampled 2)
check "a seed gives the same text again" test "$one" = "$again"
check "another seed gives another" test "$one" != "$two"
check "top-k 1 is greedy" test "$(sampled 7 --top-k 1)" = "$(cat "$T/l")"
check "top-p 0 is greedy" test "$(sampled 7 --top-p 0)" = "$(cat "$T/l")"
stop=$(head -c 12 "$T/a" | tail -c 4)
infer "2+2=" -n 24 --stop "$stop" >"$T/b"
check "a stop text ends it" grep -q "ended by stop text" "$T/err"
text=$(cat "$T/a"; echo .)
check "and is not shown" test "$(cat "$T/b"; echo .)" = "${text%%"$stop"*}
."
refuses "0 new tokens" 64 "expected 1 to" "$A" infer --model "$T/m.gguf" hello -n 0
refuses "a negative temperature" 64 "temperature -1" "$A" infer --model "$T/m.gguf" hello --temperature -1
refuses "an unknown template" 4 "unknown template" "$A" infer --model "$T/m.gguf" hello --prompt-template nope

check "a trace with values" "$A" trace --model "$T/m.gguf" "2+2=" --out "$T/t" --values --greedy 3
check "all stages of 3 layers, prompt and 2 steps" test "$(wc -l <"$T/t/trace.jsonl")" = $((3 * (3 * 17 + 3)))
sum() { sed -n 's/.*"num_elements":\([0-9]*\).*/\1/p' "$1" | paste -sd+ | bc; }
check "every value is in the file" test $(($(sum "$T/t/trace.jsonl") * 4)) = "$(stat -c %s "$T/t/values.f32")"
trace "2+2=" --greedy 3 >"$T/lines"
strip() { sed 's/,"values_offset":[0-9]*//' "$1"; }
strip "$T/t/trace.jsonl" >"$T/stripped"
check "without values: the same lines" cmp "$T/stripped" "$T/lines"
trace "2+2=" --greedy 3 --threads 3 --isa c >"$T/b"
check "3 threads of plain C: the same hashes" cmp "$T/b" "$T/lines"
trace "2+2=" --stages ffn_act,logits >"$T/b"
check "only the stages asked for" test "$(wc -l <"$T/b")" = 4
if command -v b3sum >/dev/null; then
	tail -c $((480 * 4)) "$T/t/values.f32" >"$T/last"
	check "the hash is b3sum of the values" grep -q "$(b3sum --no-names "$T/last")" "$T/lines"
else
	echo "skip - the hash is b3sum of the values # b3sum is not installed"
fi
refuses "an unknown stage" 64 'there is no stage "nope"' "$A" trace --model "$T/m.gguf" hello --stages nope
refuses "values without a folder" 64 "--values needs --out" env -u BITNET_TRACE_DIR "$A" trace --model "$T/m.gguf" hello --values

# logits that are no numbers are no answer, of whichever engine
python3 tests/nan_model.py "$T/m.gguf" "$T/nan.gguf" output_norm.weight
for engine in native oracle; do
	check "$engine, a NaN weight: infer ends with 16" exits 16 "$A" infer --engine "$engine" --model "$T/nan.gguf" -n 4 "2+2="
	check "it says after which position" grep -qE "engine $engine: after position [0-9]+ [0-9]+ of [0-9]+ logits are NaN or infinite" "$T/err"
	check "no text is printed" test ! -s "$T/out"
	check "$engine, a NaN weight: logits ends with 16" exits 16 "$A" logits --engine "$engine" --model "$T/nan.gguf" "2+2="
	check "the first position is named" has "$T/err" "after position 0 "
	check "and all positions are shown all the same" test "$(wc -l <"$T/out")" -gt 2
done
check "bench does not measure it: exit 16" exits 16 "$A" bench --model "$T/nan.gguf" --cases decode-4 --reps 2 --out "$T/bench"
check "and says why" has "$T/err" "logits are NaN or infinite"
