#!/usr/bin/env bash
# The main job in the hands of clumsy and hostile users: places that cannot be written, closed
# descriptors, signals, two runs in one folder, odd texts, files that are no model.
set -u
. tests/expect.sh
"$A" gen-fixtures --preset tiny-bitnet --layers 1 --out "$T/m.gguf" >/dev/null
mkfifo "$T/pipe"
mkdir "$T/folder"
F="exec:exec $PWD/$B/tests/fake_worker"
sweep() { "$A" sweep --model "$T/m.gguf" --reference native "$@"; }
quickly() { timeout 300 "$A" "$@"; }

# ---- where files are written ------------------------------------------------------------------
refuses "a model over a pipe" 64 "is no regular file" "$A" gen-mini-gguf --out "$T/pipe"
check "… which stays" test -p "$T/pipe"
refuses "a model over a folder" 64 "is a folder" "$A" gen-fixtures --out "$T/folder"
refuses "a model without a name" 64 "is empty" "$A" gen-mini-gguf --out ""
refuses "a model where no folder is" 64 "No such file" "$A" gen-mini-gguf --out "$T/none/m.gguf"
refuses "a recording over a pipe" 64 "is no regular file" "$A" record --model "$T/m.gguf" -o "$T/pipe"
refuses "logits over a pipe" 64 "is no regular file" "$A" logits --model "$T/m.gguf" --out "$T/pipe" a
check "… which still stays" test -p "$T/pipe"
refuses "--out is a file" 64 "Not a directory" sweep --out "$T/m.gguf"
refuses "--out is below a file" 64 "Not a directory" sweep --out "$T/m.gguf/run"
refuses "--out where nothing can be" 64 "/proc/run" sweep --out /proc/run
check "a receipt into a device: exit 0" exits 0 "$A" per-token --model "$T/m.gguf" --receipt /dev/null
check "… which stays" test -c /dev/null
check "a receipt to a full device: exit 18" exits 18 "$A" per-token --model "$T/m.gguf" --receipt /dev/full
check "… which stays, too" test -c /dev/full

killed() { # a model half written, then killed
	"$A" gen-fixtures --preset llama-1b --out "$T/folder/big.gguf" >/dev/null 2>&1 &
	local pid=$!
	sleep 0.5
	kill -KILL $pid && ! wait $pid
} 2>/dev/null
check "gen-fixtures is killed while it writes" killed
check "… and leaves nothing" test -z "$(ls -A "$T/folder")"

# ---- descriptors ------------------------------------------------------------------------------
closed() { # descriptors to close, wanted code, command …
	local code=$1 what=$2
	shift 2
	case $what in in) "$@" <&- ;; out) "$@" >&- ;; err) "$@" 2>&- ;; all) "$@" <&- >&- 2>&- ;; esac
	[ $? -eq "$code" ]
}
check "without standard input: exit 0" closed 0 in sweep
check "without standard output: exit 70" closed 70 out sweep
check "without standard error: exit 0" closed 0 err sweep
check "without all three: exit 70" closed 70 all sweep --out "$T/closed"
check "… the receipts are whole" exits 0 "$A" gate "$T/closed/scenario1/receipt.json" --model "$T/m.gguf"
full() { "$@" >/dev/full; [ $? -eq 70 ]; }
check "a result that cannot be printed: exit 70" full sweep
check "… nor the version" full "$A" --version
check "… nor the help" full "$A" --help
early() { "$@" 2>"$T/err" | true; ! grep -q Assertion "$T/err"; }
check "a reader that leaves early does no harm" early sweep

# ---- signals and two at once ------------------------------------------------------------------
echo '[{"id": "a", "prompt": "abc"}]' >"$T/one.json"
export FAKE_WORKER_LATE_MS=60000
begin() { # folder: a sweep that waits for its engine
	rm -rf "$T/wire.log"
	ASSAY_WIRE_LOG=$T/wire.log "${before[@]}" "$A" sweep --model "$T/m.gguf" --engine "$F late" \
		--reference "$F good" --scenarios "$T/one.json" --out "$1" >"$T/begun" 2>&1 &
	pid=$!
	for _ in $(seq 200); do
		grep -q '> EVALUATE' "$T/wire.log" 2>/dev/null && return
		sleep 0.05
	done
}
before=(env --default-signal=HUP)	# whatever started this test may ignore it
begin "$T/two"
refuses "a second sweep into the folder of a running one" 64 "another run is writing into" \
	sweep --out "$T/two"
refuses "… nor with --resume" 64 "another run is writing into" sweep --out "$T/two" --resume
kill -HUP $pid
wait $pid
check "the terminal goes: exit 130" test $? -eq 130
check "… the summary says how to go on" has "$T/two/summary.md" "--resume"
check "… and its workers have gone" sh -c "for p in \$(cut -d' ' -f1 '$T/wire.log' | sort -u); do
	kill -0 \$p 2>/dev/null && exit 1; done; exit 0"
check "the folder is free again" exits 0 sweep --out "$T/two"
before=(nohup)
begin "$T/nohup"
kill -HUP $pid
sleep 0.3
check "under nohup the terminal may go" kill -0 $pid
kill -TERM $pid
wait $pid
check "SIGTERM: exit 130" test $? -eq 130
unset FAKE_WORKER_LATE_MS

# ---- scenario files ---------------------------------------------------------------------------
given() { # text of the scenario file, wanted code, sentence
	printf '%s' "$1" >"$T/s.json"
	exits "$2" quickly sweep --model "$T/m.gguf" --reference native --scenarios "$T/s.json" \
		--out "$T/given" && cat "$T/out" >>"$T/err" && has "$T/err" "$3"
}
check "an empty file" given '' 64 "s.json:1: "
check "no array" given '{"scenarios": 5}' 64 "expected an array"
check "no object" given '[5]' 64 "expected an object"
check "two sources" given '[{"id":"a","prompt":"x","tokens":[1]}]' 64 "expected one of prompt"
check "a path for an id" given '[{"id":"../a","prompt":"x"}]' 64 "expected 1 to"
check "a letter with an accent in an id" given '[{"id":"é","prompt":"x"}]' 64 "expected 1 to"
for name in summary.json summary.md journal.jsonl model.stamp; do
	check "an id called as our own $name" given "[{\"id\":\"$name\",\"prompt\":\"x\"}]" 64 \
		"a comparison would be called \"$name\""
done
check "a NUL" given '[{"id":"a","prompt":"\u0000"}]' 64 "NUL"
check "half a surrogate pair" given '[{"id":"a","prompt":"\ud800"}]' 64 "invalid Unicode"
check "bytes that are no UTF-8" given "$(printf '[{"id":"a","prompt":"\xff"}]')" 64 "unable to decode"
check "a prompt file that is a folder" given '[{"id":"a","prompt_file":"folder"}]' 64 "Is a directory"
check "a prompt file without end" given '[{"id":"a","prompt_file":"/dev/zero"}]' 64 "longer than"
check "scenarios in a folder" exits 64 sweep --scenarios "$T/folder"
check "… and it is told" has "$T/err" "Is a directory"
check "a token that is none" given '[{"id":"a","tokens":[100000000]}]' 64 "outside the vocabulary"
check "more than the context" given '[{"id":"a","prompt":"x","max_new_tokens":100000}]' 64 "do not fit"
check "an empty prompt is its BOS" given '[{"id":"a","prompt":""}]' 0 "IDENTICAL"
check "emoji, joiners, overrides, controls" given \
	'[{"id":"a","prompt":"😀\u200d\u202e\ufeff e\u0301 漢字 \ud83d\ude00\t\r\n\u0001\u007f"}]' 0 "IDENTICAL"
printf 'a\xff\xfe\x80b' >"$T/bytes.txt"
check "a prompt file of any bytes" given '[{"id":"a","prompt_file":"bytes.txt"}]' 0 "IDENTICAL"
check "… whose receipt stands" exits 0 "$A" gate "$T/given/a/receipt.json" --model "$T/m.gguf"

numbers() { seq -s, "$1" | sed 's/[0-9]*/1/g'; }
echo "[{\"id\": \"long\", \"tokens\": [$(numbers 10000)], \"max_new_tokens\": 1}]" >"$T/long.json"
check "10000 tokens: exit 0" exits 0 quickly sweep --model "$T/m.gguf" --reference native --ctx 10100 \
	--scenarios "$T/long.json"
check "… 10000 positions" has "$T/out" "10000"
seq 500 | sed 's/.*/{"id": "s&", "tokens": [&]}/; 1s/^/[/; $!s/$/,/; $s/$/]/' >"$T/many.json"
check "500 scenarios: exit 0" exits 0 "$A" sweep --model "$T/m.gguf" --engine "$F good" \
	--reference "$F good" --scenarios "$T/many.json" -q
check "… 500 rows" test "$(grep -c IDENTICAL "$T/out")" -eq 500

# ---- files that are no model ------------------------------------------------------------------
refuses "the model is a pipe" 10 "Invalid argument" quickly sweep --model "$T/pipe"
refuses "the reference's model is a pipe" 10 "Invalid argument" quickly sweep --model "$T/m.gguf" --reference native --reference-model "$T/pipe"
refuses "the reference's model is a folder" 10 "Is a directory" sweep --reference-model "$T/folder"
refuses "the tokenizer is a folder" 10 "Is a directory" sweep --tokenizer "$T/folder"
python3 tests/malformed_models.py "$A" "$T" ${ALL:+--all} || echo "not ok - malformed_models.py ended with $?"
