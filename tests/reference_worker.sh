#!/usr/bin/env bash
# The worker of each reference that is built here: every step of engine-check, traces, splice and
# replay through the reference's own callback included, on generated models of each architecture
# it knows; a model it cannot load is code 10 in its own words. Where none is built: skipped.
set -u
B=${B:-build/cc}
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
A=$B/assay

model() { # preset, weights
	"$A" gen-fixtures --preset "$1" --weights "$2" --out "$T/$1-$2.gguf" >"$T/out" 2>&1 ||
		{ echo "not ok - model $1 $2"; cat "$T/out"; }
}
reference() { # name, then PRESET:WEIGHTS that it computes
	local name=$1 m
	shift
	model tiny-llama f16
	timeout 300 "$A" engine-check --model "$T/tiny-llama-f16.gguf" "$name" >"$T/out" 2>&1 </dev/null
	if grep -q "^exec:$name" "$T/out"; then
		echo "skip - the worker of $name # not built here: assay fetch-cpp $name"
		return
	fi
	for m in "$@"; do
		model "${m%:*}" "${m#*:}"
		if timeout 300 "$A" engine-check --model "$T/${m%:*}-${m#*:}.gguf" "$name" >"$T/out" 2>&1 \
			</dev/null && grep -q ": 20 ok, 0 failed, 0 warnings, 0 not offered" "$T/out"; then
			echo "ok - $name passes every step on ${m/:/ }"
		else
			echo "not ok - $name on ${m/:/ }"
			sed 's/^/    /' "$T/out"
		fi
	done
	head -c 100000 "$T/tiny-llama-f16.gguf" >"$T/cut.gguf"
	"$A" engine-check --model "$T/cut.gguf" "$name" >"$T/out" 2>&1 </dev/null
	if grep -qE '^FAILED +open +FAIL: the reference cannot load .*not within the file bounds' "$T/out"
	then
		echo "ok - $name says why it cannot load a cut file"
	else
		echo "not ok - $name on a cut file"
		sed 's/^/    /' "$T/out"
	fi
}
reference llama tiny-llama:f16 tiny-llama:q8_0 tiny-llama3:f16 tiny-qwen2:q8_0 tiny-qwen3:f16 \
	tiny-bitnet-silu:tq2_0
reference bitnet tiny-bitnet:i2_s tiny-bitnet-silu:i2_s tiny-llama:i2_s tiny-llama:f16
