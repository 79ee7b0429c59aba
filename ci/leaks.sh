#!/usr/bin/env bash
# A sweep under valgrind, orchestrator and workers alike: no definite leak, no error.
set -u
cd "$(dirname "$0")/.." || exit 70
B=${B:-build/cc}
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
bad=0
check() { # name, expected status, command…
	local name=$1 want=$2 got
	shift 2
	# many tokens of a product are packed on the stack, up to 2.5 MiB (kernels.h)
	valgrind -q --max-stackframe=4000000 --trace-children=yes --leak-check=full --errors-for-leak-kinds=definite,possible \
		--error-exitcode=99 --log-file="$t/%p.log" "$@" >"$t/out" 2>&1
	got=$?
	if [ $got -eq "$want" ] && ! cat "$t"/*.log | grep -q .; then
		echo "ok - valgrind: $name ($(find "$t" -name '*.log' | wc -l) processes)"
	else
		echo "not ok - valgrind: $name (exit $got, expected $want)"
		tail -n 5 "$t/out" | sed 's/^/# /'
		cat "$t"/*.log | head -n 40 | sed 's/^/# /'
		bad=1
	fi
	rm -f "$t"/*.log
}
make -s all || exit 1
"$B/assay" gen-fixtures --preset tiny-bitnet --out "$t/m.gguf" >/dev/null || exit 1
"$B/assay" gen-fixtures --preset tiny-llama --weights q4_k --out "$t/l.gguf" >/dev/null || exit 1
check "a sweep, native against oracle" 0 "$B/assay" sweep --model "$t/m.gguf" --reference oracle --out "$t/run"
check "a sweep over quantised weights, two workers" 0 "$B/assay" sweep --model "$t/l.gguf" \
	--reference oracle --workers 2 --out "$t/two"
check "a sweep in which every comparison diverges" 1 "$B/assay" sweep --model "$t/m.gguf" \
	--engine "exec:exec $PWD/$B/tests/silu_reference" --reference native --out "$t/bad"
check "gates over its receipts" 0 "$B/assay" gate "$t/run"
exit $bad
