#!/usr/bin/env bash
# What every pull request has to pass: under five minutes, nothing is downloaded. Unit tests, gates
# on fixtures, and parity with a recording on the tiny model.
set -u
cd "$(dirname "$0")/.." || exit 70
B=${B:-build/cc}
bad=0
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
start=$SECONDS
check() { # name, expected status, command…
	local name=$1 want=$2 got
	shift 2
	"$@" >"$t/log" 2>&1
	got=$?
	if [ $got -eq "$want" ]; then echo "ok - $name"; else
		echo "not ok - $name (exit $got, expected $want)"; bad=1; tail -n 30 "$t/log" | sed 's/^/# /'; fi
}
check "build" 0 make -s -j2 all
check "the arrows" 0 ci/layers.sh "$B"
check "unit tests and gates on fixtures" 0 make -s -j2 test-run SHELL_TESTS="gate nightly"
tail -n 1 "$t/log" | sed 's/^/# /'
check "a tiny model" 0 "$B/assay" gen-fixtures --preset tiny-bitnet --out "$t/m.gguf"
check "the oracle's recording of it" 0 "$B/assay" record --model "$t/m.gguf" --engine oracle --out "$t/r.tar.zst"
check "parity of native with the recording" 0 "$B/assay" sweep --model "$t/m.gguf" --reference "recorded:$t/r.tar.zst" --out "$t/run"
check "its receipts pass the gates" 0 "$B/assay" gate "$t/run"
check "a wrong engine is found by the recording" 1 "$B/assay" sweep --model "$t/m.gguf" \
	--engine "exec:exec $PWD/$B/tests/silu_reference" --reference "recorded:$t/r.tar.zst"
[ $((SECONDS - start)) -le 300 ] && echo "ok - under five minutes" ||
	{ echo "not ok - it took $((SECONDS - start)) s, more than five minutes"; bad=1; }
echo "# $((SECONDS - start)) s"
exit $bad
