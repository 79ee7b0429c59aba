#!/usr/bin/env bash
# Mechanical format rules that hold for every C file: tabs, no trailing space, at most 120 columns
# (the house style aims at 100; how many lines are longer is printed).
# `clang-format` with the committed style is for whoever writes; this is what CI insists on.
set -u
cd "$(dirname "$0")/.." || exit 70
bad=$(git ls-files '*.c' '*.h' | grep -v unicode_table | while read -r f; do
	expand -t 8 "$f" | awk -v f="$f" 'length($0) > 120 {print f ":" NR ": longer than 120 columns"}'
	grep -nE '[[:space:]]+$' "$f" | cut -d: -f1 | sed "s|^|$f:|;s|\$|: trailing space|"
	grep -nE '^  +[^ *]' "$f" | cut -d: -f1 | sed "s|^|$f:|;s|\$|: indented by spaces|"
done)
long=$(git ls-files '*.c' '*.h' | grep -v unicode_table | xargs cat | expand -t 8 | awk 'length($0) > 100' | wc -l)
echo "# $long lines are longer than 100 columns"
[ -z "$bad" ] && { echo "ok - format: tabs, no line over 120 columns, no trailing space"; exit 0; }
echo "$bad" | head -40
echo "not ok - format: $(echo "$bad" | wc -l) lines"
exit 1
