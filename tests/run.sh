#!/usr/bin/env bash
# Runs test programs one after the other and counts their lines:
#   ok - NAME      not ok - NAME      skip - NAME # why
# A program that ends with an error without a "not ok" line, or prints no line at all, counts as
# one failure: a test that did not run has not passed. The last line is "N passed, N failed[, N skipped]".
set -u
cd "$(dirname "$0")/.." || exit 70
passed=0 failed=0 skipped=0
only=${ONLY:-}
for t in "$@"; do
	name=$(basename "$t")
	[ -n "$only" ] && [[ $name != *$only* ]] && continue
	start=$(date +%s%N)
	log=$(mktemp)
	"$t" >"$log" 2>&1 </dev/null
	status=$?
	p=$(grep -c '^ok - ' "$log") f=$(grep -c '^not ok - ' "$log") s=$(grep -c '^skip - ' "$log")
	if [ $status -ne 0 ] && [ "$f" -eq 0 ]; then f=1; fi
	if [ $((p + f + s)) -eq 0 ]; then f=1; fi
	ms=$((($(date +%s%N) - start) / 1000000))
	printf '%-28s %5d passed %3d failed %3d skipped  %6d ms\n' "$name" "$p" "$f" "$s" "$ms"
	if [ "$f" -gt 0 ]; then
		grep -v '^ok - ' "$log" | tail -n 60 | sed 's/^/    /'
		[ $status -ne 0 ] && echo "    exit status $status"
	else
		grep -E '^(skip - |# )' "$log" | sed 's/^/    /'
	fi
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
	rm -f "$log"
done
if [ $skipped -gt 0 ]; then
	echo "$passed passed, $failed failed, $skipped skipped"
else
	echo "$passed passed, $failed failed"
fi
[ $failed -eq 0 ] && [ $passed -gt 0 ]
