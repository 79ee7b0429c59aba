#!/usr/bin/env bash
# assay logits, whole: against the recorded engines where their data is, and against itself on
# generated models where it is not.
set -u
. tests/expect.sh

check "a model is generated" "$A" gen-fixtures --preset tiny-bitnet --out "$T/m.gguf"
ids="1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35"
echo "$ids" >"$T/spaces"
echo "$ids" | tr ' ' ',' >"$T/commas"
run() { "$A" logits --model "$T/m.gguf" "$@"; }
check "ids from a file, into a file" run --tokens-file "$T/spaces" --out "$T/a.f32"
check "ids with commas" run --tokens-file "$T/commas" --out "$T/b.f32"
check "both give the same logits" cmp "$T/a.f32" "$T/b.f32"
check "one at a time" run --tokens "$(cat "$T/commas")" --single --out "$T/b.f32"
check "gives the same logits" cmp "$T/a.f32" "$T/b.f32"
check "in batches of 8 by 3 threads" run --tokens-file "$T/spaces" --batch 8 --threads 3 --out "$T/b.f32"
check "gives the same logits" cmp "$T/a.f32" "$T/b.f32"
check "plain C" run --tokens-file "$T/spaces" --isa c --out "$T/b.f32"
check "gives the same logits" cmp "$T/a.f32" "$T/b.f32"
check "another profile" run --tokens-file "$T/spaces" --profile avx512 --out "$T/b.f32"
check "gives other logits" test "$(cmp -s "$T/a.f32" "$T/b.f32"; echo $?)" = 1
size=$(($(stat -c %s "$T/a.f32") / 4 / 35))
check "35 rows of the vocabulary" test $((size * 35 * 4)) = "$(stat -c %s "$T/a.f32")"
check "no part of a file is left" test ! -e "$T/a.f32.part"
run --tokens 1,2,3 --greedy 5 >"$T/greedy"
check "5 greedy ids with margins" test "$(grep -cE '^[0-9]+	[0-9.e-]+$' "$T/greedy")" = 5
run --tokens 1,2,3 --greedy 5 --single >"$T/greedy1"
check "the same one at a time" cmp "$T/greedy" "$T/greedy1"
run "2+2=" --format json >"$T/json"
check "JSON names what ran" grep -q '"matmul_i2_s": [1-9]' "$T/json"
refuses "no model" 64 "--model FILE is needed" env -u CROSSVAL_GGUF "$A" logits hello
refuses "a missing model" 10 "does not exist" "$A" logits --model "$T/none.gguf" hello
refuses "no prompt" 64 "give one of" run
refuses "two prompts" 64 "give one of" run hello --tokens 1
refuses "words for ids" 64 "\"x,2\" is not a token id" run --tokens 1,x,2
refuses "an id outside" 64 "token 99999 at position 1 is outside the vocabulary of $size" run --tokens 1,99999
refuses "an override of another type than the key" 64 "write bitnet-b1.58.rope.freq_base=float:" \
	run --tokens 1 --override-kv bitnet-b1.58.rope.freq_base=int:500000
refuses "an unknown profile" 64 "unknown numerics profile" run --tokens 1 --profile sse9
refuses "an unknown instruction set" 64 "unknown instruction set" run --tokens 1 --isa mmx

golden=../shared/golden
if [ -r $golden/README.md ]; then
	for case in avx2/bitnetcpp-b158-i2_s:ggml-avx2 llamacpp-llama-Q4_K_M:ggml-fp16 \
		bitnetcpp-b158-i2_s-long:ggml-avx512; do
		data=$golden/${case%:*} profile=${case#*:}
		check "$case runs" "$A" logits --model $data/model.gguf --tokens-file $data/tokens.txt \
			--profile "$profile" --out "$T/a.f32"
		check "$case: every bit" cmp "$T/a.f32" $data/logits.f32
		"$A" logits --model $data/model.gguf --tokens-file $data/tokens.txt \
			--profile "$profile" --greedy 48 >"$T/greedy"
		check "$case: 48 greedy ids and margins" diff "$T/greedy" $data/greedy.txt
	done
else
	echo "skip - logits of the real engines # no ../shared here"
fi
