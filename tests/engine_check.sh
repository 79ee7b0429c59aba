#!/usr/bin/env bash
# engine-check on the engines of this program, on both example adapters, and on variants of them
# that are broken in one way each: the step that must fail fails, and no other kind of fault hides it.
set -u
B=${B:-build/cc}
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
A=$B/assay
F=$PWD/$B/tests/fake_worker
E=docs/examples

ok() { echo "ok - $1"; }
bad() {
	echo "not ok - $1"
	sed 's/^/    /' "$T/out" "$T/err" | tail -n 25
}
check() { # wanted exit code, engine, options …
	local want=$1 engine=$2
	shift 2
	timeout 120 "$A" engine-check --timeout 5 "$@" "$engine" >"$T/out" 2>"$T/err" </dev/null
	[ $? -eq "$want" ]
}
good() { # name, engine, line that must be there
	if check 0 "$2" && grep -qE "$3" "$T/out"; then ok "$1"; else bad "$1"; fi
}
broken() { # name, engine, step, text that must be on its line
	if check 1 "$2" && grep -E "^FAILED +$3 " "$T/out" | grep -qF -- "$4"; then
		ok "$1: $3 says \"$4\""
	else
		bad "$1 (expected FAILED $3 … $4)"
	fi
}

# ---- whole engines ------------------------------------------------------------------------------
good "native passes every step" native '^native: 20 ok, 0 failed, 0 warnings, 0 not offered$'
good "oracle passes every step" oracle '^oracle: 20 ok, 0 failed, 0 warnings, 0 not offered$'
if check 0 native --format json && grep -q '"usable": true' "$T/out" &&
	[ "$(grep -c '"step": ' "$T/out")" -eq 20 ]; then ok "the same as JSON"; else bad "JSON"; fi
"$A" engine-check >"$T/out" 2>"$T/err"
[ $? -eq 64 ] && ok "no command: 64" || bad "no command: 64"

# ---- the C adapter ------------------------------------------------------------------------------
variant() { # name, sed program: builds $T/NAME from the C adapter
	sed "$2" $E/adapter.c >"$T/$1.c"
	cmp -s "$T/$1.c" $E/adapter.c && [ "$1" != whole ] && echo "not ok - $1 changes nothing"
	${CC:-cc} -O2 -o "$T/$1" "$T/$1.c" -lm 2>"$T/err" || bad "compiling $1"
}
if ${CC:-cc} -std=c11 -D_DEFAULT_SOURCE -Wall -Wextra -Werror -O2 -o "$T/whole" $E/adapter.c -lm \
	2>"$T/err"; then
	ok "adapter.c compiles without a warning"
else
	bad "adapter.c compiles without a warning"
fi
[ "$(wc -l <$E/adapter.c)" -lt 150 ] && ok "adapter.c has under 150 lines" || bad "adapter.c too long"
good "adapter.c passes" "$T/whole" ': 16 ok, 0 failed, 0 warnings, 4 not offered$'
grep -qE '^missing +traces +not offered' "$T/out" && ok "what it lacks is said" || bad "what it lacks"

variant nan 's|out\[i\] = (float)sin(|out[i] = i == 9 \&\& n == 3 ? NAN : (float)sin(|'
broken "a NaN" "$T/nan" evaluate "logit 9 of position 2 is not finite"
variant acausal 's|logits(ids, pos + 1, row)|logits(ids, total, row)|'
broken "later ids matter" "$T/acausal" prefix "another function"
variant clock 's|out\[i\] = (float)sin(|out[i] = (float)sin(rand() +|'
broken "never the same twice" "$T/clock" twice "another function"
variant last 's|row\[i\] > row\[best\]|row[i] < row[best]|'
broken "chooses another id" "$T/last" greedy "its first maximum is id"
variant stop 's| \&\& best != stop||'
broken "ignores stops" "$T/stop" stop "15 positions after a stop at the first id, expected 12"
variant ids 's|int bad = n < 4;|int bad = 0;|; s/|| ids\[i\] >= N_VOCAB/|| 0/'
broken "takes any id" "$T/ids" "wrong id" "was answered DONE"
variant open 's|load(model) == 0|load(model) < 9|'
broken "opens what is not there" "$T/open" "no model" "answered OPENED"
variant twice 's|\tsay(DONE, text, NULL, 0);|\tsay(DONE, text, NULL, 0); say(DONE, text, NULL, 0);|'
broken "answers twice" "$T/twice" twice "sent DONE when nothing was asked"
variant width 's|0 : sizeof(row)|0 : sizeof(row) - 4|'
broken "logits too narrow" "$T/width" evaluate "has 255 logits, the vocabulary 256 ids"
variant claim 's|features=tokenize,evaluate|features=tokenize,evaluate,trace|'
broken "claims traces" "$T/claim" traces "trace=all brought no record"
variant noise 's|\tsay(HELLO|\tputs("loading the model"); say(HELLO|'
good "noise on standard output harms nothing" "$T/noise" ': 16 ok, 0 failed'

# ---- the Python adapter -------------------------------------------------------------------------
if command -v python3 >/dev/null; then
	[ "$(wc -l <$E/adapter.py)" -lt 150 ] && ok "adapter.py has under 150 lines" || bad "adapter.py"
	good "adapter.py passes" "python3 $E/adapter.py" ': 17 ok, 0 failed, 0 warnings, 3 not offered$'
	py() { sed "$2" $E/adapter.py >"$T/$1.py"; }
	py hello 's|("build", "1"),||'
	broken "no build id" "python3 $T/hello.py" hello "needs engine= and build="
	py protocol 's|("protocol", 1)|("protocol", 2)|'
	broken "another protocol" "python3 $T/protocol.py" hello "speaks protocol 2"
	py version 's|("protocol", 1), ||'
	broken "no protocol" "python3 $T/version.py" hello "HELLO has no protocol="
	py crlf 's|"%s=%s.n" %|"%s=%s\\r\\n" %|'
	broken "header lines of another system" "python3 $T/crlf.py" hello "header lines end in"
	py unplaced 's|header = \[("pos", pos), |header = [|'
	broken "no positions" "python3 $T/unplaced.py" evaluate "LOGITS 0 has no pos="
	py wide 's|"<%di" % len(ids)|"<%dq" % len(ids)|'
	broken "ids of 8 bytes" "python3 $T/wide.py" tokenize "every second id is 0"
	py words 's|return list(text)|return [300 + i for i in text]|'
	broken "ids outside the vocabulary" "python3 $T/words.py" tokenize "outside the vocabulary of 256"
	py raises 's|raise Failure(64, "this engine|raise ValueError("this engine|'
	broken "dies of an unknown request" "python3 $T/raises.py" unknown "no answer"
	py count 's|("n_pos", pos)|("n_pos", pos + 1)|'
	broken "miscounts" "python3 $T/count.py" evaluate "n_pos=13 after 12 positions"
	py silent 's|^    elif kind == EVALUATE:|    elif kind == EVALUATE and False:|; s|^    else:$|    elif kind != EVALUATE:|'
	broken "does not answer" "python3 $T/silent.py" evaluate "no answer"
	py single 's|ids = ids_of(body)|global N; ids = ids_of(body)|; s|for i in range(N_VOCAB)\]$|for i in range(N_VOCAB)] if len(ids) != 5 else [0.5] * N_VOCAB|'
	good "an odd model is still an engine" "python3 $T/single.py" '0 failed'
else
	echo "skip - the Python adapter # no python3 here"
fi

# ---- workers that misbehave ---------------------------------------------------------------------
broken "no HELLO" "exec $F exit" hello "exited with status 3"
broken "hangs" "exec $F hang" evaluate "no answer"
broken "dies" "exec $F die" evaluate "signal 11"
broken "garbage" "exec $F garbage" evaluate "no answer"
broken "half a frame" "exec $F half" evaluate "no answer"
broken "oversize" "exec $F oversize" evaluate "announces"
broken "swapped positions" "exec $F order" evaluate "position 1 came where 0 was expected"
broken "a position left out" "exec $F skip" evaluate "position 2 came where 1 was expected"
broken "no such program" "exec /nonexistent/engine" hello "exited with status 127"

# ---- an adapter in a comparison -----------------------------------------------------------------
echo "the toys look at no file, but it must be there" >"$T/m.gguf"
sweep() { # wanted exit code, engine
	timeout 120 "$A" sweep --model "$T/m.gguf" --engine "exec:$2" --reference "exec:$T/whole" \
		--out "$T/sweep-$1" >"$T/out" 2>"$T/err" </dev/null
	[ $? -eq "$1" ]
}
variant faulty 's|0.01 \* (a|0.0101 * (a|'
if command -v python3 >/dev/null; then
	sweep 0 "python3 $E/adapter.py" && [ "$(grep -c IDENTICAL "$T/out")" -eq 3 ] &&
		ok "sweep: the Python adapter is the C adapter, bit for bit" || bad "sweep of the adapters"
else
	echo "skip - sweep of the adapters # no python3 here"
fi
sweep 1 "$T/faulty" && [ "$(grep -c DIVERGED "$T/out")" -eq 3 ] &&
	ok "sweep: a faulty adapter diverges" || bad "sweep of a faulty adapter"

# ---- a whole model in plain Python, with traces and no tokenizer ---------------------------------
if command -v python3 >/dev/null; then
	"$A" gen-fixtures --preset tiny-llama --weights f32 --layers 2 --embd 64 --ff 160 --heads 4 \
		--kv-heads 2 --out "$T/m.gguf" >"$T/out" 2>"$T/err" || bad "the generated model"
	L="python3 tests/little_llama.py"
	if check 0 "$L" --model "$T/m.gguf" && grep -qE '^ok +traces +37 records' "$T/out" &&
		grep -qE '^missing +tokenize' "$T/out"; then
		ok "the little engine passes, with traces"
	else
		bad "the little engine passes, with traces"
	fi
	little() { # wanted exit code, fault
		timeout 120 "$A" sweep --model "$T/m.gguf" --engine "exec:$L $2" --reference oracle \
			--out "$T/little-$2" >"$T/out" 2>"$T/err" </dev/null
		[ $? -eq "$1" ]
	}
	little 0 "" && ok "it is the same function as the oracle" || bad "little engine against oracle"
	for fault in relu2 swap rope eps halves; do
		little 1 $fault && grep -q DIVERGED "$T/out" && ok "its fault is found: $fault" ||
			bad "fault $fault"
	done
fi
