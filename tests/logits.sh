#!/usr/bin/env bash
# assay logits, whole: against the recorded engines where their data is, and against itself on
# generated models where it is not.
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
	if [ $got = "$code" ] && grep -qF -- "$sentence" "$dir/err" && [ ! -s "$dir/out" ]; then
		echo "ok - $name"
	else
		echo "not ok - $name"
		echo "# exit $got: $(cat "$dir/err")"
	fi
}

check "a model is generated" "$assay" gen-fixtures --preset tiny-bitnet --out "$dir/m.gguf"
ids="1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35"
echo "$ids" >"$dir/spaces"
echo "$ids" | tr ' ' ',' >"$dir/commas"
run() { "$assay" logits --model "$dir/m.gguf" "$@"; }
check "ids from a file, into a file" run --tokens-file "$dir/spaces" --out "$dir/a.f32"
check "ids with commas" run --tokens-file "$dir/commas" --out "$dir/b.f32"
check "both give the same logits" cmp "$dir/a.f32" "$dir/b.f32"
check "one at a time" run --tokens "$(cat "$dir/commas")" --single --out "$dir/b.f32"
check "gives the same logits" cmp "$dir/a.f32" "$dir/b.f32"
check "in batches of 8 by 3 threads" run --tokens-file "$dir/spaces" --batch 8 --threads 3 --out "$dir/b.f32"
check "gives the same logits" cmp "$dir/a.f32" "$dir/b.f32"
check "plain C" run --tokens-file "$dir/spaces" --isa c --out "$dir/b.f32"
check "gives the same logits" cmp "$dir/a.f32" "$dir/b.f32"
check "another profile" run --tokens-file "$dir/spaces" --profile avx512 --out "$dir/b.f32"
check "gives other logits" test "$(cmp -s "$dir/a.f32" "$dir/b.f32"; echo $?)" = 1
size=$(($(stat -c %s "$dir/a.f32") / 4 / 35))
check "35 rows of the vocabulary" test $((size * 35 * 4)) = "$(stat -c %s "$dir/a.f32")"
check "no part of a file is left" test ! -e "$dir/a.f32.part"
run --tokens 1,2,3 --greedy 5 >"$dir/greedy"
check "5 greedy ids with margins" test "$(grep -cE '^[0-9]+	[0-9.e-]+$' "$dir/greedy")" = 5
run --tokens 1,2,3 --greedy 5 --single >"$dir/greedy1"
check "the same one at a time" cmp "$dir/greedy" "$dir/greedy1"
run "2+2=" --format json >"$dir/json"
check "JSON names what ran" grep -q '"matmul_i2_s": [1-9]' "$dir/json"
says "no model" 64 "--model FILE is needed" env -u CROSSVAL_GGUF "$assay" logits hello
says "a missing model" 10 "does not exist" "$assay" logits --model "$dir/none.gguf" hello
says "no prompt" 64 "give one of" run
says "two prompts" 64 "give one of" run hello --tokens 1
says "words for ids" 64 "\"x,2\" is not a token id" run --tokens 1,x,2
says "an id outside" 64 "token 99999 at position 1 is outside the vocabulary of $size" run --tokens 1,99999
says "an unknown profile" 64 "unknown numerics profile" run --tokens 1 --profile sse9
says "an unknown instruction set" 64 "unknown instruction set" run --tokens 1 --isa mmx

golden=../shared/golden
if [ -r $golden/README.md ]; then
	for case in avx2/bitnetcpp-b158-i2_s:ggml-avx2 llamacpp-llama-Q4_K_M:ggml-fp16 \
		bitnetcpp-b158-i2_s-long:ggml-avx512; do
		data=$golden/${case%:*} profile=${case#*:}
		check "$case runs" "$assay" logits --model $data/model.gguf --tokens-file $data/tokens.txt \
			--profile "$profile" --out "$dir/a.f32"
		check "$case: every bit" cmp "$dir/a.f32" $data/logits.f32
		"$assay" logits --model $data/model.gguf --tokens-file $data/tokens.txt \
			--profile "$profile" --greedy 48 >"$dir/greedy"
		check "$case: 48 greedy ids and margins" diff "$dir/greedy" $data/greedy.txt
	done
else
	echo "skip - logits of the real engines # no ../shared here"
fi
