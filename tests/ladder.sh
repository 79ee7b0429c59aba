#!/usr/bin/env bash
# The rungs of crossval-per-token, above all masks: who sees what.
set -u
. tests/expect.sh

engine() { # how many of the last ids it sees
	echo "exec:exec python3 -c 'import sys; sys.path.insert(0, \"docs/examples\"); import adapter
f = adapter.logits; adapter.logits = lambda m, ids: f(m, [0, 0, 0] + ids[-$1:]); adapter.main()'"
}

check "a model" "$A" gen-fixtures --preset tiny-bitnet --out "$T/m.gguf"
rung() { "$A" per-token --model "$T/m.gguf" --prompt "2+2=4 and so on" --prompt-template raw "$@"; }
masks() { rung --ladder masks "$@"; }

check "native and the oracle see the same: exit 0" exits 0 masks
check "… causally" has "$T/out" "sees itself and what is before it, on every side"
check "JSON: exit 0" exits 0 masks --format json --positions 3
check "… the triangle" python3 -c "
import json; r = json.load(open('$T/out'))
assert r['sees'] == {k: ['100', '110', '111'] for k in ('native', 'oracle')}, r
assert r['status'] == 'ok' and r['n_positions'] == 3"
check "three sides" exits 0 masks --reference oracle --reference native
check "a window on both sides: exit 0" exits 0 masks --engine "$(engine 2)" --reference "$(engine 2)"
check "… is said" has "$T/out" "not causally: position 2 does not see id 0"
check "a window one shorter: exit 1" exits 1 masks --engine "$(engine 2)" --reference "$(engine 3)"
check "… names the place" has "$T/out" "position 2 does not see id 0 in"
check "… the same exit code in JSON" exits 1 masks --engine "$(engine 2)" \
	--reference "$(engine 3)" --format json
check "… and the status" has "$T/out" '"status": "diverged"'
check "one side alone is told" exits 0 masks --backend native
check "an engine without the evaluations says so: exit 3" sh -c "
	'$A' record --model '$T/m.gguf' --prompt '2+2=4 and so on' -o '$T/r.tar.zst' >'$T/out' 2>'$T/err' &&
	'$A' per-token --model '$T/m.gguf' --prompt '2+2=4 and so on' --prompt-template raw \
		--ladder masks --reference 'recorded:$T/r.tar.zst' >'$T/out' 2>'$T/err'; test \$? -eq 3"
check "… which" has "$T/err" "is not in the recording"
F=$PWD/$B/tests/fake_worker
echo "not a model" >"$T/fake.gguf"
check "other tokens: exit 2, nothing is evaluated" exits 2 env ASSAY_WIRE_LOG="$T/wire.log" "$A" \
	per-token --model "$T/fake.gguf" --ladder masks --engine "exec:exec $F tokens" \
	--reference "exec:exec $F good"
check "… not once" test "$(grep -c EVALUATE "$T/wire.log")" -eq 0

check "all metrics" exits 0 rung --metrics cosine,l2,nmse,kl,max_abs,kendall,margin --max-tokens 0
for m in cosine l2 nmse kl max_abs kendall margin; do
	check "… $m in every line" test "$(grep -c " $m=" "$T/out")" -eq "$(grep -c ' t=' "$T/out")"
done
check "an unknown one: exit 64" exits 64 rung --metrics cosine,beauty
check "ids of both sides" exits 0 rung --ladder tokens --dump-ids --dump-cpp-ids
check "… ours" has "$T/out" "native ids ("
check "… the reference's" has "$T/out" "oracle ids ("
