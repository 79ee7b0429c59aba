#!/usr/bin/env bash
# Mechanical format rules that hold for every C file: tabs, no trailing space, code within 100
# columns; a line with a text or a comment, which is better whole, within 120.
# `clang-format` with the committed style is for whoever writes; this is what CI insists on.
set -u
cd "$(dirname "$0")/.." || exit 70
export LC_ALL=C.UTF-8
bad=$(git ls-files '*.c' '*.h' | grep -v unicode_table | while read -r f; do
	expand -t 8 "$f" | grep -nE '^.{101,}' | grep -vE '^[0-9]+:([^"]{0,119}"|.*/\*| +\* ).*' | cut -d: -f1 |
		sed "s|^|$f:|;s|\$|: code longer than 100 columns|"
	expand -t 8 "$f" | grep -nE '^.{121,}' | cut -d: -f1 | sed "s|^|$f:|;s|\$|: longer than 120 columns|"
	grep -nE '[[:space:]]+$' "$f" | cut -d: -f1 | sed "s|^|$f:|;s|\$|: trailing space|"
	grep -nE '^  +[^ *]' "$f" | cut -d: -f1 | sed "s|^|$f:|;s|\$|: indented by spaces|"
done)
[ -z "$bad" ] && { echo "ok - format: tabs, code within 100 columns, no trailing space"; exit 0; }
echo "$bad" | head -40
echo "not ok - format: $(echo "$bad" | wc -l) lines"
exit 1
