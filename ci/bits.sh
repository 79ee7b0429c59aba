#!/usr/bin/env bash
# Bits beside the real engines: for every weight type and architecture that a reference loads, three
# shapes with three seeds, prompts of 1 to 512 ids, several batch splits and greedy decoding, native
# and reference must agree in every bit of every logit, and in every greedy id and margin.
#
# Needs the references that ci/real.sh builds (assay fetch-cpp llama; assay fetch-cpp bitnet or
# bitnet-2026-03).
# Per weight type 36 runs: nine models (three shapes by three seeds), four runs on each, so turned that
# every length meets every split, and every shape and seed every split; 64 greedy ids at 1, 33 and 129.
# WIDE=1: every length and split on each of the nine models, 288 runs a type.
# QUICK=1: one model, three lengths.
set -u
cd "$(dirname "$0")/.." || exit 70
A=${B:-build/cc}/assay
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
bad=0
shapes=("" "--embd 512 --heads 4 --kv-heads 1 --ff 768 --layers 2" "--embd 768 --heads 12 --kv-heads 4 --ff 1024 --layers 2")
lengths="1 2 31 32 33 128 129 512"
if [ -n "${QUICK:-}" ]; then
	shapes=("") lengths="2 33 129"
fi
splits=(0:512 1:512 7:512 0:24) # batch:micro-batch

ids() { # count, seed
	awk -v n="$1" -v s="$2" 'BEGIN { srand(n + 1000 * s); for (i = 0; i < n; i++) printf "%d ", rand() * 400 }'
}
side() { # engine, file, options…
	"$A" logits --engine "$1" --model "$dir/m.gguf" --tokens-file "$dir/ids" --out "$dir/$2.f32" \
		"${@:3}" >"$dir/$2.greedy" 2>"$dir/$2.err"
}
one() { # reference, ids, greedy, batch, micro-batch: 0 when equal
	local opts=(--greedy "$3" --batch "$4" --ubatch "$5" --threads 2)
	ids "$2" "$seed" >"$dir/ids"
	side native ours "${opts[@]}" && side "$1" theirs "${opts[@]}" &&
		cmp -s "$dir/ours.f32" "$dir/theirs.f32" && cmp -s "$dir/ours.greedy" "$dir/theirs.greedy"
}
greedy_of() { case $1 in 1 | 33 | 129) echo 64 ;; *) echo 4 ;; esac }
compare() { # reference, ids, split: counts, and keeps the first that differs
	runs=$((runs + 1))
	if one "$1" "$2" "$(greedy_of "$2")" "${3%:*}" "${3#*:}"; then equal=$((equal + 1)); else
		first=${first:-"$2 ids, split $3, seed $seed: $(cat "$dir/ours.err" "$dir/theirs.err")"}
	fi
}
told() { # what
	if [ $runs -gt 0 ] && [ $equal -eq $runs ]; then
		echo "ok - $1: $equal of $runs runs equal in every bit"
	else
		echo "not ok - $1: $equal of $runs runs equal in every bit"
		echo "# first other: $first"
		bad=1
	fi
}
# The runs of the model at hand, the n-th of its type: run r takes length r mod 8 and split r/8 + r.
model() { # reference
	local n split l=($lengths) k
	if [ -n "${WIDE:-}${QUICK:-}" ]; then
		for n in $lengths; do
			for split in "${splits[@]}"; do compare "$1" "$n" "$split"; done
		done
		return
	fi
	for k in 1 2 3 4; do
		compare "$1" "${l[turn % 8]}" "${splits[(turn / 8 + turn) % 4]}"
		turn=$((turn + 1))
	done
}
type() { # reference, preset, weights
	local runs=0 equal=0 first="" seed turn=0 seeds="7 14 21"
	[ -n "${QUICK:-}" ] && seeds=7
	for seed in $seeds; do
		for shape in "${shapes[@]}"; do
			# shellcheck disable=SC2086 # a shape is several options
			if ! "$A" gen-fixtures --preset "$2" --weights "$3" --seed "$seed" $shape --out "$dir/m.gguf" >/dev/null 2>"$dir/gen"; then
				first=$(cat "$dir/gen")
				runs=$((runs + 1))
				continue
			fi
			model "$1"
		done
	done
	told "$1, $2 $3"
}
# What llama.cpp's own quantiser makes of an F16 model: its choice of a type for each tensor.
quantised() { # preset, shape, ftype of llama.h, name
	local runs=0 equal=0 first="" seed=11
	# shellcheck disable=SC2086 # a shape is several options
	"$A" gen-fixtures --preset "$1" --weights f16 --seed $seed $2 --out "$dir/f16.gguf" >/dev/null &&
		"$dir/quantize" "$dir/f16.gguf" "$dir/m.gguf" "$3" >"$dir/gen" 2>&1 || first=$(tail -n 1 "$dir/gen")
	compare llama 33 1:512
	compare llama 129 7:512
	told "llama, $1 by llama.cpp's quantiser to $4"
}
quantiser() { # compiles it beside the reference's library
	local cache=${ASSAY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/assay} lib
	lib=$(sed -n 's/.*"lib_dir": "\(.*\)",/\1/p' "$cache/references/by-name/llama/manifest.json")
	"${CC:-cc}" -O1 -I "$lib/../include" -o "$dir/quantize" ci/quantize.c -L "$lib" -lllama \
		-Wl,-rpath,"$lib" -Wl,-rpath-link,"$lib"
}
there() { # reference: whether it is built
	"$A" gen-fixtures --preset "$2" --out "$dir/m.gguf" >/dev/null || return 1
	echo 1 >"$dir/ids"
	side "$1" theirs
}

if there llama tiny-llama; then
	for weights in f32 f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1 q2_k q3_k q4_k q5_k q6_k q4_k_m; do
		type llama tiny-llama $weights
	done
	for weights in tq1_0 tq2_0; do type llama tiny-bitnet-silu $weights; done
	type llama tiny-llama3 f16
	type llama tiny-llama-linear q4_0
	type llama tiny-llama-yarn f32
	for weights in f16 q8_0; do type llama tiny-qwen2 $weights; done
	for weights in f32 q6_k; do type llama tiny-qwen3 $weights; done
	python3 tests/odd_models.py "$A" "$dir" --reference llama || bad=1
	if quantiser; then
		deep="--embd 512 --heads 8 --kv-heads 2 --ff 1024 --layers 8"
		for mix in 2:Q4_0 3:Q4_1 8:Q5_0 9:Q5_1 7:Q8_0 10:Q2_K 11:Q3_K_S 12:Q3_K_M 13:Q3_K_L \
			14:Q4_K_S 15:Q4_K_M 16:Q5_K_S 17:Q5_K_M 18:Q6_K 32:BF16; do
			quantised tiny-llama "$deep" "${mix%:*}" "${mix#*:}"
		done
		for mix in 10:Q2_K 15:Q4_K_M; do
			quantised tiny-qwen2 "$deep" "${mix%:*}" "${mix#*:}"
			quantised tiny-qwen3 "$deep" "${mix%:*}" "${mix#*:}"
		done
		for mix in 36:TQ1_0 37:TQ2_0; do quantised tiny-bitnet-silu "$deep" "${mix%:*}" "${mix#*:}"; done
		"$A" gen-fixtures --preset tiny-llama --embd 512 --out "$dir/f16.gguf" >/dev/null
		for mix in 25:iq4_nl 26:iq3_s 30:iq4_xs 40:q1_0 41:q2_0; do
			if "$dir/quantize" "$dir/f16.gguf" "$dir/m.gguf" "${mix%:*}" >"$dir/gen" 2>&1 &&
				! side native ours && grep -q "has weight type ${mix#*:} (.*not supported" "$dir/ours.err"; then
				echo "ok - ${mix#*:} is refused by name"
			else
				echo "not ok - ${mix#*:} is refused by name"
				bad=1
			fi
		done
	else
		echo "not ok - llama.cpp's quantiser is built"
		bad=1
	fi
else
	echo "not ok - the reference llama is there"
	sed 's/^/# /' "$dir/theirs.err"
	bad=1
fi
for reference in bitnet bitnet-2026-03; do
	there $reference tiny-bitnet && break
done
if there $reference tiny-bitnet; then
	type $reference tiny-bitnet i2_s
else
	echo "skip - bitnet.cpp beside native # $(tail -n 1 "$dir/theirs.err")"
fi
exit $bad
