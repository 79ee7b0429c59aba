#!/usr/bin/env bash
# assay infer and assay trace, whole, on generated models.
set -u
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
assay=$B/assay
check() {	# NAME COMMAND...: ok when the command succeeds
	local name=$1
	shift
	if "$@" >"$dir/log" 2>&1; then echo "ok - $name"; else
		echo "not ok - $name"
		sed 's/^/# /' "$dir/log"
	fi
}
says() {	# NAME CODE SENTENCE COMMAND...: the exit code and the sentence on standard error
	local name=$1 code=$2 sentence=$3
	shift 3
	"$@" >"$dir/out" 2>"$dir/err"
	local got=$?
	if [ $got = "$code" ] && grep -qF -- "$sentence" "$dir/err"; then
		echo "ok - $name"
	else
		echo "not ok - $name"
		echo "# exit $got: $(cat "$dir/err")"
	fi
}
infer() { "$assay" infer --model "$dir/m.gguf" --ignore-eos "$@" 2>"$dir/err"; }
trace() { "$assay" trace --model "$dir/m.gguf" "$@" 2>"$dir/err"; }

check "a model is generated" "$assay" gen-fixtures --preset tiny-llama --seed 3 --out "$dir/m.gguf"
infer "2+2=" -n 24 >"$dir/a"
check "24 tokens, speed on standard error" grep -q "24 new" "$dir/err"
infer "2+2=" -n 24 --threads 3 --ubatch 2 >"$dir/b"
check "greedy: the same text from 3 threads and small batches" cmp "$dir/a" "$dir/b"
ids() { sed 's/.*"ids": \[\([^]]*\)\].*/\1/' "$1"; }
infer "2+2=" -n 24 --format json >"$dir/j"
"$assay" logits --model "$dir/m.gguf" "2+2=" --greedy 24 | cut -f1 | paste -sd, | sed 's/,/, /g' >"$dir/l"
check "greedy: the ids that logits chooses" test "$(ids "$dir/j")" = "$(cat "$dir/l")"
sampled() { infer "2+2=" -n 24 --temperature 1.5 --seed "$1" "${@:2}" --format json >"$dir/s"; ids "$dir/s"; }
one=$(sampled 1) again=$(sampled 1) two=$(sampled 2)
check "a seed gives the same text again" test "$one" = "$again"
check "another seed gives another" test "$one" != "$two"
check "top-k 1 is greedy" test "$(sampled 7 --top-k 1)" = "$(cat "$dir/l")"
check "top-p 0 is greedy" test "$(sampled 7 --top-p 0)" = "$(cat "$dir/l")"
stop=$(head -c 12 "$dir/a" | tail -c 4)
infer "2+2=" -n 24 --stop "$stop" >"$dir/b"
check "a stop text ends it" grep -q "ended by stop text" "$dir/err"
text=$(cat "$dir/a"; echo .)
check "and is not shown" test "$(cat "$dir/b"; echo .)" = "${text%%"$stop"*}
."
says "0 new tokens" 64 "expected 1 to" "$assay" infer --model "$dir/m.gguf" hello -n 0
says "a negative temperature" 64 "temperature -1" "$assay" infer --model "$dir/m.gguf" hello --temperature -1
says "an unknown template" 4 "unknown template" "$assay" infer --model "$dir/m.gguf" hello --prompt-template nope

check "a trace with values" "$assay" trace --model "$dir/m.gguf" "2+2=" --out "$dir/t" --values --greedy 3
check "all stages of 3 layers, prompt and 2 steps" test "$(wc -l <"$dir/t/trace.jsonl")" = $((3 * (3 * 17 + 3)))
sum() { sed -n 's/.*"num_elements":\([0-9]*\).*/\1/p' "$1" | paste -sd+ | bc; }
check "every value is in the file" test $(($(sum "$dir/t/trace.jsonl") * 4)) = "$(stat -c %s "$dir/t/values.f32")"
trace "2+2=" --greedy 3 >"$dir/lines"
strip() { sed 's/,"values_offset":[0-9]*//' "$1"; }
strip "$dir/t/trace.jsonl" >"$dir/stripped"
check "without values: the same lines" cmp "$dir/stripped" "$dir/lines"
trace "2+2=" --greedy 3 --threads 3 --isa c >"$dir/b"
check "3 threads of plain C: the same hashes" cmp "$dir/b" "$dir/lines"
trace "2+2=" --stages ffn_act,logits >"$dir/b"
check "only the stages asked for" test "$(wc -l <"$dir/b")" = 4
if command -v b3sum >/dev/null; then
	tail -c $((480 * 4)) "$dir/t/values.f32" >"$dir/last"
	check "the hash is b3sum of the values" grep -q "$(b3sum --no-names "$dir/last")" "$dir/lines"
else
	echo "skip - the hash is b3sum of the values # b3sum is not installed"
fi
says "an unknown stage" 64 'there is no stage "nope"' "$assay" trace --model "$dir/m.gguf" hello --stages nope
says "values without a folder" 64 "--values needs --out" env -u BITNET_TRACE_DIR "$assay" trace --model "$dir/m.gguf" hello --values
