#!/usr/bin/env bash
# A planted slowdown: 15 % must be found and 3 % must not be called a regression, every time, by
# check-perf against a baseline and by bench-compare, on a noisy machine with two cores.
#
# RUNS  how often each (20)
# ONLY_GROUPS some of check15 check3 compare15 compare3
# MORE  how many receipts of 16 sessions check-perf gets at most before undecided counts as wrong (12)
# NOISE how many other processes keep both processors busy meanwhile (2; 0: none)
#
# About fifteen minutes: each judgement stands on two thousand samples of a millisecond in 32 processes.
set -u
cd "$(dirname "$0")/.." || exit 70
B=${B:-build/cc}
A=$B/assay
RUNS=${RUNS:-20}
t=$(mktemp -d)
make -s "$B/tests/slow_worker" >&2 || exit 70
worker="exec:exec $PWD/$B/tests/slow_worker"
case="decode-16" # a millisecond: shorter than a time slice
bad=0
start=$SECONDS

# the neighbours: each busy for a while, then away for a while, like other people's work
neighbour() {
	local until
	while [ -d "$t" ]; do
		until=$((SECONDS + 1 + RANDOM % 3))
		while [ $SECONDS -lt $until ] && [ -d "$t" ]; do
			for _ in {1..20000}; do :; done
		done
		sleep 0.$((RANDOM % 9 + 1))
	done
}
neighbours=()
trap 'rm -rf "$t"; kill "${neighbours[@]}" 2>/dev/null' EXIT
for _ in $(seq "${NOISE:-2}"); do
	neighbour &
	neighbours+=($!)
done

"$A" gen-fixtures --preset tiny-bitnet --out "$t/m.gguf" >/dev/null || exit 70
measure() { # percent, folder
	SLOW_PERCENT=$1 "$A" bench --model "$t/m.gguf" --engine "$worker" --threads 1 --cases $case --reps 1000 \
		--sessions 16 --warmup 5 --out "$2" --quiet >/dev/null
}
mkdir "$t/base"
for i in 1 2 3 4 5; do measure 0 "$t/base/$i" || bad=1; done
"$A" gen-baselines --from "$t/base" --out "$t/baseline.json" >/dev/null || bad=1
[ $bad -eq 0 ] && echo "ok - a baseline of five runs" || { echo "not ok - no baseline"; exit 1; }

repeat() { # name, expected status, function, percent
	local right=0 measured=0 i got
	for i in $(seq "$RUNS"); do
		"$3" "$4" >"$t/out" 2>&1
		got=$?
		measured=$((measured + $(grep -c "^$case" "$t/out")))
		if [ $got -eq "$2" ]; then right=$((right + 1)); else
			echo "# run $i: exit $got, expected $2"; fi
		grep -E "^$case|assay:" "$t/out" | tail -n 1 | sed 's/^/# /'
	done
	echo "# $1: $measured judgements for $RUNS"
	if [ $right -eq "$RUNS" ]; then echo "ok - $1: $right of $RUNS"; else
		echo "not ok - $1: $right of $RUNS"; bad=1; fi
}
# undecided (7) is neither: it is measured on, until its machine has had a quiet moment
check() {
	local n status
	rm -rf "$t/now"
	measure "$1" "$t/now/1" || return 70
	for n in $(seq 2 "${MORE:-12}"); do
		measure "$1" "$t/now/$n" || return 70
		"$A" check-perf --baseline "$t/baseline.json" "$t"/now/*/bench.json
		status=$?
		[ $status -ne 7 ] && break
	done
	return $status
}
compare() {
	"$A" bench-compare --model "$t/m.gguf" --threads 1 --cases $case --reps 1000 --sessions 32 --warmup 5 --quiet \
		"exec:exec env SLOW_PERCENT=0 $PWD/$B/tests/slow_worker" \
		"exec:exec env SLOW_PERCENT=$1 $PWD/$B/tests/slow_worker"
}
ONLY_GROUPS=${ONLY_GROUPS:-check15 check3 compare15 compare3}
wants() { case " $ONLY_GROUPS " in *" $1 "*) return 0 ;; esac; return 1; }
wants check15 && repeat "check-perf finds 15 %" 17 check 15
wants check3 && repeat "check-perf calls 3 % no regression" 0 check 3
wants compare15 && repeat "bench-compare finds 15 %" 17 compare 15
wants compare3 && repeat "bench-compare calls 3 % no regression" 0 compare 3
echo "# $((SECONDS - start)) s"
exit $bad
