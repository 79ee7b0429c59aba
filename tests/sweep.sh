#!/usr/bin/env bash
# The whole command `sweep`: what each kind of end looks like, with workers that misbehave on
# purpose and with the real ones on a generated model.
set -u
. tests/expect.sh
F=$PWD/$B/tests/fake_worker

verdict() { has "$1" "\"verdict\": \"$2\""; }

echo "not a model, but the fake workers do not mind" >"$T/m.gguf"
fake() { # mode, options …
	local mode=$1
	shift
	"$A" sweep --model "$T/m.gguf" --engine "exec:exec $F $mode" \
		--reference "exec:exec $F good" --out "$T/$mode" "$@"
}

# ---- workers that misbehave cost one scenario, never the run --------------------------------
check "agreeing workers: exit 0" exits 0 fake good
check "IDENTICAL, counted by position" has "$T/out" "IDENTICAL"
check "receipt of scenario3" verdict "$T/good/scenario3/receipt.json" IDENTICAL
for f in receipt.json logits-comparison.json report.txt tokens.json output.txt; do
	check "scenario1/$f is there" test -s "$T/good/scenario1/$f"
done
check "summary.md has the first system's columns" has "$T/good/summary.md" \
	"| Scenario | Exit code | Token match | Cosine similarity |"
check "summary.json says 0" has "$T/good/summary.json" '"exit_code": 0'

check "other logits: exit 1" exits 1 fake shifted
check "the first position is named" has "$T/err" "diverged first at position 2 (prefill)"
check "first_divergence_token" has "$T/shifted/scenario1/logits-comparison.json" \
	'"first_divergence_token": 2'
check "NaN: exit 1" exits 1 fake nan
check "NaN is named" has "$T/err" "NaN or Inf"

check "other tokens: exit 2" exits 2 env ASSAY_WIRE_LOG="$T/wire.log" "$A" sweep \
	--model "$T/m.gguf" --engine "exec:exec $F tokens" --reference "exec:exec $F good" \
	--out "$T/tokens"
check "TOKENIZE was sent" has "$T/wire.log" "> TOKENIZE"
check "EVALUATE was never sent" lacks "$T/wire.log" "EVALUATE"
check "no logits frame ever came" lacks "$T/wire.log" "LOGITS"
check "the report shows ids and pieces" has "$T/tokens/scenario1/report.txt" '>[1] 12 "m"'

crashing="die garbage half oversize short skip order protocol exit"
hanging="no-hello hang hang-hard half-hang flood"
{
	echo '[{"id": "fine", "prompt": "2+2="}'
	for mode in $crashing $hanging; do	# a slow machine is no hang
		[[ " $hanging " == *" $mode "* ]] && seconds=2 || seconds=120
		echo ",{\"id\": \"$mode\", \"prompt\": \"2+2=\", \"timeout_s\": $seconds," \
			"\"engines\": [\"exec:exec $F $mode\", \"exec:exec $F good\"]}"
	done
	echo ',{"id": "fine-too", "prompt": "2+2="}]'
} >"$T/modes.json"
check "every way to go wrong in one run: exit 6" exits 6 fake good --scenarios "$T/modes.json" -j 8
for mode in $crashing; do
	check "$mode: CRASHED" verdict "$T/good/$mode/receipt.json" CRASHED
done
for mode in $hanging; do
	check "$mode: TIMED_OUT" verdict "$T/good/$mode/receipt.json" TIMED_OUT
done
for id in fine fine-too; do check "$id" verdict "$T/good/$id/receipt.json" IDENTICAL; done
echo '[{"id": "talk", "prompt": "2+2="}]' >"$T/one.json"
check "64 MiB of printing do no harm" exits 0 fake chatter --scenarios "$T/one.json"
check "open-fails: exit 10" exits 10 fake open-fails
check "… with the command that helps" has "$T/err" "assay fetch-models"

cat >"$T/mixed.json" <<J
[{"id": "a", "prompt": "2+2=", "max_new_tokens": 2},
 {"id": "b", "prompt": "2+2=", "engines": ["exec:exec $F die", "exec:exec $F good"]},
 {"id": "c", "prompt": "Hello", "max_new_tokens": 3},
 {"id": "d", "prompt": "Hi", "timeout_s": 1, "engines": ["exec:exec $F hang", "exec:exec $F good"]},
 {"id": "e", "tokens": [1, 2, 3]}]
J
check "one dies, one hangs, the others are done: exit 6" exits 6 fake good \
	--scenarios "$T/mixed.json"
for id in a c e; do check "$id agrees" verdict "$T/good/$id/receipt.json" IDENTICAL; done
check "b crashed" verdict "$T/good/b/receipt.json" CRASHED
check "d timed out" verdict "$T/good/d/receipt.json" TIMED_OUT
check "the signal is named" has "$T/good/b/report.txt" "signal 11"

# ---- what cannot run ------------------------------------------------------------------------
check "no reference: exit 3" exits 3 env ASSAY_CACHE="$T/cache" "$A" sweep --model "$T/m.gguf" \
	--reference llama
check "… with the command that provides it" has "$T/err" "assay fetch-cpp llama"
check "no such reference: exit 3" exits 3 "$A" sweep --model "$T/m.gguf" --reference llama-nowhere
echo '[]' >"$T/none.json"
check "no scenario: exit 7" exits 7 fake good --scenarios "$T/none.json"
check "an empty prompt compares nothing: exit 7" \
	exits 7 fake good --scenarios <(echo '[{"id": "empty", "prompt": ""}]')
check "no such model: exit 10" exits 10 "$A" sweep --model "$T/nowhere.gguf"
check "… with the hint" has "$T/err" "assay fetch-models"
check "an unknown threshold set: exit 64" exits 64 fake good --thresholds nosuch
check "a broken scenario file: exit 64" exits 64 fake good --scenarios "$T/m.gguf"

# ---- interrupted, gone on -------------------------------------------------------------------
cat >"$T/slow.json" <<J
[{"id": "one", "prompt": "abc"},
 {"id": "two", "prompt": "abc", "engines": ["exec:exec $F late", "exec:exec $F good"]},
 {"id": "three", "prompt": "abc"}]
J
FAKE_WORKER_LATE_MS=60000 ASSAY_WIRE_LOG="$T/int.log" "$A" sweep --model "$T/m.gguf" \
	--engine "exec:exec $F good" --reference "exec:exec $F good" --out "$T/int" \
	--scenarios "$T/slow.json" >"$T/out" 2>"$T/err" &
pid=$!
for _ in $(seq 100); do
	[ "$(grep -c '> EVALUATE' "$T/int.log" 2>/dev/null)" = 4 ] && break
	sleep 0.05
done
kill -INT $pid
wait $pid
check "SIGINT: exit 130" test $? -eq 130
check "children are gone" sh -c "for p in \$(cut -d' ' -f1 '$T/int.log' | sort -u); do
	kill -0 \$p 2>/dev/null && exit 1; done; exit 0"
check "the journal is kept" has "$T/int/journal.jsonl" '"id":"one"'
check "the summary says what to do" has "$T/int/summary.md" "--resume"
check "--resume does the rest: exit 0" exits 0 env FAKE_WORKER_LATE_MS=1 ASSAY_WIRE_LOG="$T/res.log" \
	"$A" sweep --model "$T/m.gguf" --engine "exec:exec $F good" \
	--reference "exec:exec $F good" --out "$T/int" --scenarios "$T/slow.json" --resume
check "… and nothing twice" test "$(grep -c '> EVALUATE' "$T/res.log")" -eq 4
check "all three are in the summary" test "$(grep -c '"id"' "$T/int/summary.json")" -eq 3
check "another run's journal is refused" exits 64 "$A" sweep --model "$T/m.gguf" \
	--engine "exec:exec $F good" --reference "exec:exec $F good" --out "$T/int" --resume

# ---- the real workers -----------------------------------------------------------------------
check "a generated model" "$A" gen-fixtures --preset tiny-bitnet --seed 5 --out "$T/t.gguf"
check "native against oracle: exit 0" exits 0 "$A" sweep --model "$T/t.gguf" --out "$T/real"
check "three verdicts" test "$(grep -c 'WITHIN_NOISE' "$T/out")" -eq 3
check "the receipt has counters of both sides" \
	test "$(grep -A2 '"counters"' "$T/real/scenario1/receipt.json" | grep -c ': [0-9]')" -ge 2
check "and the set of thresholds" has "$T/real/scenario1/receipt.json" '"set": "oracle"'
check "native against itself: bits" exits 0 "$A" sweep --model "$T/t.gguf" --reference native
check "IDENTICAL" has "$T/out" "IDENTICAL"

# one byte of ternary codes in the last tensor's data
cp "$T/t.gguf" "$T/flipped.gguf"
size=$(stat -c %s "$T/t.gguf")
printf '\x15' | dd of="$T/flipped.gguf" bs=1 seek=$((size - 4000)) conv=notrunc status=none
check "the copy differs in one byte" test "$(cmp -l "$T/t.gguf" "$T/flipped.gguf" | wc -l)" -eq 1
check "a flipped weight: exit 1" exits 1 "$A" sweep --model "$T/flipped.gguf" \
	--reference-model "$T/t.gguf" --reference native --out "$T/flip"
check "DIVERGED" verdict "$T/flip/scenario1/receipt.json" DIVERGED
check "the first position is named" has "$T/err" "diverged first at position "

# one merge of the tokenizer in one of the two files
LC_ALL=C sed 's/Hell o/Hell e/' "$T/t.gguf" >"$T/tokenizer.gguf"
check "the tokenizer differs in one byte" \
	test "$(cmp -l "$T/t.gguf" "$T/tokenizer.gguf" | wc -l)" -eq 1
check "a changed tokenizer: exit 2" exits 2 env ASSAY_WIRE_LOG="$T/tokenizer.log" "$A" crossval \
	--model "$T/t.gguf" --reference-model "$T/tokenizer.gguf" --prompt Hello
check "… both sides were asked for tokens" \
	test "$(grep -c '> TOKENIZE' "$T/tokenizer.log")" -eq 2
check "… and never for logits" lacks "$T/tokenizer.log" EVALUATE
check "… none came" lacks "$T/tokenizer.log" LOGITS
check "… the pieces are shown" has "$T/out" '"Hell"'

check "an unknown template: exit 4" exits 4 "$A" sweep --model "$T/t.gguf" --template nonsense
check "… the known ones are named" has "$T/err" "llama3-chat"
check "a chat template runs on both sides: exit 0" exits 0 "$A" sweep --model "$T/t.gguf" \
	--template llama3-chat --out "$T/chat"
check "… and is in the receipt" has "$T/chat/scenario1/receipt.json" '"name": "llama3-chat"'
head -c 5000 "$T/t.gguf" >"$T/cut.gguf"
check "a cut model: exit 10" exits 10 "$A" sweep --model "$T/cut.gguf"
check "… with the hint" has "$T/err" "assay fetch-models"

# ---- one prompt -----------------------------------------------------------------------------
one() { # command, options …: the real workers
	local command=$1
	shift
	"$A" "$command" --model "$T/t.gguf" "$@"
}
check "crossval: exit 0" exits 0 one crossval --prompt Hello
check "… prints the report" has "$T/out" "prompt: WITHIN_NOISE"
check "crossval-per-token: exit 0" exits 0 one crossval-per-token --prompt Hello
check "… a line per position" has "$T/out" "✓ t=0 cosine="
check "--cos-tol decides: exit 1" exits 1 one per-token --prompt Hello --cos-tol 1
check "… and marks positions" has "$T/out" "✗ t=0 cosine="
check "JSON gives the same exit code" exits 1 one per-token --prompt Hello --cos-tol 1 --format json
for field in first_divergence_token per_token_cosine_sim per_token_l2_dist max_absolute_diff \
	'threshold": 1.0' 'status": "diverged'; do
	check "… field $field" has "$T/out" "\"$field"
done
check "--ladder tokens evaluates nothing" exits 0 env ASSAY_WIRE_LOG="$T/ladder.log" "$A" per-token \
	--model "$T/t.gguf" --ladder tokens --dump-ids
check "… not a single logits frame" lacks "$T/ladder.log" EVALUATE
check "--ladder first-logit compares one position" exits 0 one per-token --ladder first-logit
check "… the last of the prompt" test "$(grep -c 't=' "$T/out")" -eq 1
check "--positions 2" exits 0 one per-token --positions 2 --ladder positions
check "… compares two" test "$(grep -c 't=' "$T/out")" -eq 2
check "given ids need no tokenizer" exits 0 one per-token --tokens 1,2,3 --max-tokens 0
check "token error, per token: exit 2" exits 2 "$A" per-token --model "$T/m.gguf" \
	--engine "exec:exec $F tokens" --reference "exec:exec $F good"
check "… shows both lists" has "$T/out" "reference 2 [11] 2 13"
check "… and a likely cause" has "$T/out" "likely cause: "
check "one side alone is reported, not passed" exits 0 one per-token --backend native --format json
check "… NOT_RUN" has "$T/out" '"verdict": "NOT_RUN"'

# ---- several references: every engine is evaluated once, every two are compared ----------------
ln -s "$F" "$T/f"
many() { # references …
	local refs=() r
	for r in "$@"; do refs+=(--reference "exec:exec ./f $r"); done
	rm -rf "$T/many" "$T/many.log"
	(cd "$T" && ASSAY_WIRE_LOG=many.log "$A" sweep --model m.gguf --engine "exec:exec ./f good" "${refs[@]}" --out many)
}
count() { [ "$(grep -c "> $1" "$T/many.log")" -eq "$2" ] || { sort "$T/many.log" | uniq -c; return 1; }; }
of() { # verdict, reference or two of them: in scenario2
	verdict "$T/many/scenario2.exec_exec_._f_$2${3:+-exec_exec_._f_$3}/receipt.json" "$1"
}
check "three references: exit 1" exits 1 many shifted "tokens" "good x"
check "… four engines open once" count OPEN 4
check "… tokenize three scenarios once" count TOKENIZE 12
check "… and evaluate them once, the one with other tokens never" count EVALUATE 9
check "… ours against one that differs" of DIVERGED shifted
check "… against other tokens" of TOKENS_DIFFER tokens
check "… against an equal one" of IDENTICAL good_x
check "… references with each other" of DIVERGED shifted good_x
check "… and the one with other tokens" of TOKENS_DIFFER tokens good_x
check "… a summary with the matrix" has "$T/many/summary.json" '"matrix"'
check "a reference that dies costs its own comparisons" exits 6 many die "good x"
check "… ours with it" of CRASHED die
check "… it with the other one" of CRASHED die good_x
check "… ours with the other one" of IDENTICAL good_x
export CROSSVAL_TIMEOUT_SECS=1
check "one that hangs" exits 6 many hang "good x"
export -n CROSSVAL_TIMEOUT_SECS
check "… is named" of TIMED_OUT hang
check "… and the others are compared" of IDENTICAL good_x
export FAKE_WORKER_LATE_MS=300
check "one that evaluates late pauses the others" exits 0 many late "good x"
check "… once each, too" count EVALUATE 9

# ---- the gate comes before the weights ---------------------------------------------------------
export ASSAY_WORKER_FAULTY=$PWD/$B/tests/faulty_worker
gated() { exits "$1" "$A" per-token --model "$T/i2s.gguf" --receipt "$T/gated.json" --no-local "${@:2}"; }
opens() { [ "$(grep -c "> OPEN" "$T/gated.log")" -eq "$1" ] || { cat "$T/gated.log"; return 1; }; }
opened() { # count: how many sides say which weights they have
	[ "$(sed -n '/"opened": {/,/}/p' "$T/gated.json" | grep -c '"weights": "[a-z]')" -eq "$1" ] || { cat "$T/gated.json"; return 1; }
}
"$A" gen-fixtures --preset tiny-llama --weights i2_s --out "$T/i2s.gguf" -q >/dev/null
export ASSAY_WIRE_LOG=$T/gated.log
export ASSAY_FAULT=tokenize:-1:prefix
check "other tokens of real engines: exit 2" gated 2 --reference faulty --prompt hi
unset ASSAY_FAULT
check "… neither mapped a weight" opened 0
check "… each opened once" opens 2
export ASSAY_FAULT=tokenize:-1:piece
died() {
	exits 6 "$A" per-token --model "$T/i2s.gguf" --reference faulty --prompt hi --receipt "$T/died.json" &&
		has "$T/died.json" '"verdict": "CRASHED"'
}
check "one that dies behind its last logits has crashed, whatever they are" died
unset ASSAY_FAULT
rm "$T/gated.log"
check "equal tokens: exit 0" gated 0 --reference oracle --prompt hi
check "… both opened, then loaded" opens 4
check "… and say their weights" opened 2
rm "$T/gated.log"
check "given ids need no vocabulary" gated 0 --reference oracle --tokens 1,2,3
check "… loaded at once" opens 2
export -n ASSAY_WIRE_LOG

# ---- which reference knows the model ---------------------------------------------------------
detected() { # WORD MODEL: of a model that no reference is built for here
	XDG_CACHE_HOME=$T/nowhere "$A" per-token --model "$2" --backend both --ladder tokens >"$T/out" 2>"$T/err"
	has "$T/err" "reference for this model: $1"
}
"$A" gen-fixtures --preset tiny-bitnet-silu --weights tl2 --embd 1536 --ff 4096 --heads 16 --kv-heads 16 --layers 1 \
	--out "$T/tl2.gguf" -q >/dev/null
"$A" gen-fixtures --preset tiny-llama --weights i2_s --out "$T/i2s.gguf" -q >/dev/null
"$A" gen-fixtures --preset tiny-bitnet-silu --weights tq2_0 --out "$T/tq2.gguf" -q >/dev/null
check "TL2 of arch bitnet is for bitnet.cpp" detected "bitnet (its weights are TL2)" "$T/tl2.gguf"
check "I2_S of arch llama too" detected "bitnet (its weights are I2_S)" "$T/i2s.gguf"
check "TQ2_0 of arch bitnet is for llama.cpp" detected "llama (by its architecture)" "$T/tq2.gguf"

# ---- crossval_report.json -------------------------------------------------------------------
report() { exits "$1" "$A" crossval --model "$T/t.gguf" --report "$T/report.json" "${@:2}"; }
allow() { exits "$1" env CROSSVAL_ALLOW_CPP_FAIL=1 "$A" crossval --model "$T/t.gguf" \
	--report "$T/report.json" "${@:2}"; }
said() { has "$T/report.json" "\"$1\": $2"; }
check "crossval writes its report: exit 0" report 0
for field in native_ok rust_ok cpp_header_ok cpp_full_ok; do
	check "… $field" said $field true
done
check "… no xfail" said xfail false
check "… the header" said gguf_version_detected 3
check "a reference that cannot load: exit 10" report 10 --reference "exec:exec $F open-fails"
check "… is told" said cpp_header_ok false
check "the same, allowed: exit 0" allow 0 --reference "exec:exec $F open-fails"
check "… and xfail is said" said xfail true
check "a reference that dies, allowed: exit 0" allow 0 --tokens 1,2 --engine "exec:exec $F good" \
	--reference "exec:exec $F die"
check "… and xfail is said again" said xfail true
check "our own death is never allowed: exit 6" allow 6 --tokens 1,2 \
	--engine "exec:exec $F die" --reference "exec:exec $F good"
check "… nor called xfail" said xfail false
check "… but ours" said native_ok false
check "a divergence is never allowed: exit 1" allow 1 --tokens 1,2,3 \
	--engine "exec:exec $F shifted" --reference "exec:exec $F good"

# ---- receipts read back ---------------------------------------------------------------------
check "merge of two runs: exit 0" exits 0 "$A" merge "$T/real" "$T/int" --out "$T/all"
check "… has all rows" test "$(grep -c '"id"' "$T/all/summary.json")" -eq 6
check "the worst counts: exit 1" exits 1 "$A" merge "$T/int" "$T/shifted/scenario1"
check "report writes the summary anew" exits 0 "$A" report "$T/real"
sed 's/"WITHIN_NOISE"/"IDENTICAL"/' "$T/real/scenario1/receipt.json" >"$T/forged.json"
check "a changed receipt: exit 20" exits 20 "$A" merge "$T/forged.json"
check "… says so" has "$T/err" "the receipt was changed"
check "a folder without receipts: exit 7" exits 7 "$A" merge "$T/all"

# ---- memory: what is kept per position are metrics, never logits -----------------------------
vocab=../shared/vocab/ggml-vocab-llama-bpe.gguf
if sanitized; then
	echo "skip - memory with a real vocabulary # shadow memory and quarantine of the sanitizer are in the figures"
elif [ -f $vocab ]; then
	"$A" gen-fixtures --preset tiny-bitnet --layers 1 --vocab $vocab --out "$T/v.gguf" >"$T/out"
	for n in 16 256; do
		ids=$(seq -s, $n)
		echo "[{\"id\": \"t\", \"tokens\": [$ids]}]" >"$T/n.json"
		check "$n positions of 128256 logits" exits 0 "$A" sweep --model "$T/v.gguf" \
			--reference native --scenarios "$T/n.json" --out "$T/mem$n"
	done
	peak() { sed -n 's/.*"orchestrator_peak_rss_bytes": \([0-9]*\).*/\1/p' "$T/mem$1/summary.json"; }
	# the logits of both sides would be 246 MB
	check "240 positions more cost less than 4 MiB ($(peak 16) to $(peak 256) bytes)" \
		test $(($(peak 256) - $(peak 16))) -lt $((4 << 20))
else
	echo "skip - memory with a real vocabulary # no ../shared here"
fi
