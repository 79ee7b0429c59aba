#!/usr/bin/env bash
# Bits beside the real engines: for every weight type and architecture that a reference loads, three
# shapes with three seeds, prompts of 1 to 512 ids, several batch splits and greedy decoding, native
# and reference must agree in every bit of every logit, and in every greedy id and margin.
#
# Needs the references that ci/real.sh builds (assay fetch-cpp llama; assay fetch-cpp bitnet or
# bitnet-2026-03).
# QUICK=1: one shape, three lengths.
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
type() { # reference, preset, weights
	local runs=0 equal=0 first="" seed=0 n split
	for shape in "${shapes[@]}"; do
		seed=$((seed + 7))
		# shellcheck disable=SC2086 # a shape is several options
		if ! "$A" gen-fixtures --preset "$2" --weights "$3" --seed $seed $shape --out "$dir/m.gguf" >/dev/null 2>"$dir/gen"; then
			first=$(cat "$dir/gen")
			break
		fi
		for n in $lengths; do
			[ $seed -gt 7 ] && [ "$n" != 33 ] && [ "$n" != 129 ] && continue
			for split in 0:512 1:512 7:512 0:96; do
				[ $split != 0:512 ] && [ "$n" != 33 ] && [ "$n" != 129 ] && continue
				runs=$((runs + 1))
				if one "$1" "$n" $([ "$n" = 33 ] && echo 64 || echo 4) "${split%:*}" "${split#*:}"; then
					equal=$((equal + 1))
				else
					first=${first:-"$n ids, split $split, seed $seed: $(cat "$dir/ours.err" "$dir/theirs.err")"}
				fi
			done
		done
	done
	if [ $runs -gt 0 ] && [ $equal -eq $runs ]; then
		echo "ok - $1, $2 $3: $equal of $runs runs equal in every bit"
	else
		echo "not ok - $1, $2 $3: $equal of $runs runs equal in every bit"
		echo "# first other: $first"
		bad=1
	fi
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
