#!/usr/bin/env bash
# Runs test programs, JOBS at a time (default: one per processor), and counts their lines:
#   ok - NAME      not ok - NAME      skip - NAME # why
# A program that ends with an error without a "not ok" line, or prints no line at all, counts as
# one failure: a test that did not run has not passed. The last line is "N passed, N failed[, N skipped]".
# ONLY=TEXT runs those whose name contains it.
set -u
unset MAKEFLAGS MFLAGS MAKELEVEL # a test that builds is no part of the make that called it
cd "$(dirname "$0")/.." || exit 70
jobs=${JOBS:-$(nproc)}
only=${ONLY:-}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'kill $(jobs -p) 2>/dev/null; exit 130' INT TERM

run_one() { # test: prints its line and what is worth seeing; leaves "passed failed skipped" behind
	local t=$1 name start log status p f s ms
	name=$(basename "$t") start=$(date +%s%N) log=$dir/$2.log
	"$t" >"$log" 2>&1 </dev/null
	status=$?
	p=$(grep -c '^ok - ' "$log") f=$(grep -c '^not ok - ' "$log") s=$(grep -c '^skip - ' "$log")
	if [ $status -ne 0 ] && [ "$f" -eq 0 ]; then f=1; fi
	if [ $((p + f + s)) -eq 0 ]; then f=1; fi
	ms=$((($(date +%s%N) - start) / 1000000))
	{
		printf '%-28s %5d passed %3d failed %3d skipped  %6d ms\n' "$name" "$p" "$f" "$s" "$ms"
		if [ "$f" -gt 0 ]; then
			grep -v '^ok - ' "$log" | tail -n 60 | sed 's/^/    /'
			[ $status -ne 0 ] && echo "    exit status $status"
		else
			grep -E '^(skip - |# )' "$log" | sed 's/^/    /'
		fi
	} >"$dir/$2.out"
	echo "$p $f $s" >"$dir/$2.count"
	flock "$dir" cat "$dir/$2.out"
}

n=0 running=0
for t in "$@"; do
	[ -n "$only" ] && [[ $(basename "$t") != *$only* ]] && continue
	[ "$running" -ge "$jobs" ] && { wait -n; running=$((running - 1)); }
	run_one "$t" $n &
	n=$((n + 1)) running=$((running + 1))
done
wait
passed=0 failed=0 skipped=0
for ((i = 0; i < n; i++)); do
	read -r p f s <"$dir/$i.count" || { p=0 f=1 s=0; }
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
done
if [ $skipped -gt 0 ]; then
	echo "$passed passed, $failed failed, $skipped skipped"
else
	echo "$passed passed, $failed failed"
fi
[ $failed -eq 0 ] && [ $passed -gt 0 ]
