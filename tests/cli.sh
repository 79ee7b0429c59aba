#!/usr/bin/env bash
# What every command has in common: help, examples first, suggestions, versions.
set -u
. tests/expect.sh

check "help" exits 0 "$A" --help
cp "$T/out" "$T/help"
names=$("$A" completion names)
check "there are commands" test "$(wc -w <<<"$names")" -gt 30
for c in $names; do
	check "help lists $c" grep -qE "^  $c +[a-z0-9]" "$T/help"
	check "$c --help begins with examples" bash -c "'$A' $c --help | sed -n 3p | grep -qx 'Examples:'"
	check "$c refuses an unknown option: exit 64" exits 64 "$A" "$c" --no-such-thing-at-all
	check "… naming it and the help" has "$T/err" \
		"assay $c: unknown option --no-such-thing-at-all; see \`assay $c --help\`"
done
refuses "a near option is suggested" 64 "did you mean --model?" "$A" sweep --modle x
refuses "a near command is suggested" 64 "did you mean sweep?" "$A" swep
refuses "the beginning of one too" 64 "did you mean --max-slowdown?" "$A" check-perf --max-slow 3
refuses "and of a command" 64 "did you mean gen-baselines?" "$A" gen-base
refuses "which is nearer than another word" 64 "did you mean fetch-" "$A" fetch
refuses "a mistyped --version" 64 "unknown option --vresion; did you mean --version?" "$A" --vresion
refuses "an option before the command" 64 "options come after the command" "$A" --quiet sweep
refuses "a version in a form there is not" 64 'expected --format text|json, got "jsn"' "$A" --version --format jsn
refuses "a version of something" 64 'got "sweep"' "$A" --version sweep
check "--version --format=json too" exits 0 "$A" --version --format=json
refuses "an option without its value" 64 "--model needs a value" "$A" sweep --model
refuses "a form there is not" 64 "expected one of text|json" "$A" env --format yaml
check "versions as JSON" exits 0 "$A" --version --format json
check "… of every library" python3 -c "
import json; v = json.load(open('$T/out'))
text = json.dumps(v).lower()
assert all(l in text for l in ('git2', 'curl', 'archive', 'uv', 'jansson', 'openssl')), v"
