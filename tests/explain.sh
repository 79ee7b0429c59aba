#!/usr/bin/env bash
# explain, trace-diff and the local check as whole commands, on generated models.
set -u
. tests/expect.sh
export ASSAY_WORKER_FAULTY=$PWD/$B/tests/faulty_worker
export -n CROSSVAL_TIMEOUT_SECS CROSSVAL_GGUF ASSAY_FAULT
M=$T/m.gguf

"$A" gen-fixtures --preset tiny-bitnet --out "$M" -q >/dev/null
silu="--reference native --reference-override bitnet-b1.58.hidden_activation=str:silu"

# ---- the case that began it: SiLU for squared ReLU, in one command -------------------------
check "SiLU for squared ReLU: exit 1" exits 1 "$A" explain --model "$M" $silu --bundle "$T/repro.json"
check "stage and layer" has "$T/out" "goes wrong by itself is ffn_act of layer 0"
check "hypothesis" has "$T/out" "Its output is what \`silu\` gives"
check "side at fault" has "$T/out" "reference native is at fault"
check "what to do" has "$T/out" "hidden_activation"
check "every other operation agrees" has "$T/out" "240 of reference native replayed, 228 to the bit"
check "splice: 3 runs for 3 layers" has "$T/out" "3 runs for 3 layers"
check "the repro is smaller than 1 MB" test "$(stat -c %s "$T/repro.json")" -lt 1000000
rm "$M"
check "the repro needs no model: exit 1" exits 1 "$A" explain --replay "$T/repro.json"
check "and computes again" has "$T/out" "computed again with silu"
echo '{"kind": "else"}' >"$T/no.json"
check "what is no repro is refused" exits 64 "$A" explain --replay "$T/no.json"
"$A" gen-fixtures --preset tiny-bitnet --out "$M" -q >/dev/null

# ---- a sweep says how to go on ---------------------------------------------------------------
check "a sweep that diverges" exits 1 "$A" sweep --model "$M" $silu
sed -n "s/^to see where and whose fault: assay /$(printf %s "$A" | sed 's/[\/&]/\\&/g') /p" "$T/err" | head -n 1 >"$T/command"
check "prints a command" test -s "$T/command"
check "that explains it" exits 1 bash "$T/command"
check "in the same words" has "$T/out" "ffn_act of layer 0"

# ---- one layer, splice bisection -------------------------------------------------------------
check "a fault in layer 1" exits 1 env ASSAY_FAULT=ffn_act:1:variant/silu "$A" explain --model "$M" --reference faulty
check "splice names the layer" has "$T/out" "reference's output of layer 1 put into our run restores parity"
check "the first layer" exits 1 env ASSAY_FAULT=ffn_act:0:variant/silu "$A" explain --model "$M" --reference faulty
check "splice names it too" has "$T/out" "reference's output of layer 0 put into our run restores parity"
check "a wrong last id is a token matter: exit 2" exits 2 env ASSAY_FAULT=tokenize:-1:last "$A" explain --model "$M" \
	--reference faulty
check "nothing is wrong: exit 0" exits 0 "$A" explain --model "$M" --reference faulty
check "and says so" has "$T/out" "Nothing is wrong"

check "two faults: exit 1" exits 1 env "ASSAY_FAULT=ffn_act:0:variant/silu;attn_softmax:2:variant/attn_scale=1" "$A" explain \
	--model "$M" --reference faulty
check "the first is explained" has "$T/out" "goes wrong by itself is ffn_act of layer 0"
check "the other one is told" has "$T/out" "Wrong by themselves, too, not by what they inherit: attn_softmax of layer 2."
check "a softmax that overflows: exit 1" exits 1 env ASSAY_FAULT=attn_softmax:1:no_max=100 "$A" explain --model "$M" --reference faulty
check "nothing restores what is no number" has "$T/out" "splice       not tried: the reference's logits are not finite"

# ---- EQUIVALENT, and the gate on it ----------------------------------------------------------
check "another order of summation is EQUIVALENT" exits 0 "$A" sweep --model "$M" --profile ggml-avx512 --reference faulty \
	--out "$T/eq"
R=$T/eq/scenario3
check "in the receipt" has "$R/receipt.json" '"verdict": "EQUIVALENT"'
check "with the table in the report" has "$R/report.txt" "local check:"
cells() { # FILE: each row of the picture as its marks
	tr -d '\n' <"$1" | sed 's/<tr>/\n/g' | sed -n 's/^<th class="n">\(-\{0,1\}[0-9]*\)<\/th>/\1 /p' |
		sed 's/<td class="badge [a-z]*" title="[^"]*">\(.\)<\/td>/\1/g;s/<td><\/td>/_/g;s/<.*//'
}
shows() { cells "$1" >"$T/cells"; has "$T/cells" "$2"; }
check "and as a picture, layer by stage" shows "$R/operations.html" "1 _"
check "of the embeddings" shows "$R/operations.html" "-1 ="
check "with what was measured" has "$R/operations.html" "attn_scores of layer 2"
check "the report links it" exits 0 "$A" report "$T/eq" --format html
check "beside its scenario" has "$T/out" '<a href="scenario3/operations.html">scenario3</a>'
check "--no-local leaves it out" exits 0 "$A" per-token --model "$M" --profile ggml-avx512 --reference faulty --no-local
check "and the verdict is of the end" has "$T/out" "WITHIN_NOISE:"
verdict_of_gate() { # python that changes r: the gate's answer about metrics
	mkdir -p "$T/edit"
	cp "$R/tokens.json" "$T/edit/"
	python3 -c "
import json
r = json.load(open('$R/receipt.json'))
l = r['local']
$1
del r['content_sha256']
json.dump(r, open('$T/edit/receipt.json', 'w'))" && "$B/tests/seal" "$T/edit/receipt.json" &&
		"$A" gate --format json "$T/edit/receipt.json" >"$T/gate.json"
	python3 -c "
import json
r = json.load(open('$T/gate.json'))
r = r[0] if isinstance(r, list) else r
print([g['state'] for g in r['gates'] if g['gate'] == 'metrics'][0])"
}
if command -v python3 >/dev/null; then
	is() { [ "$(verdict_of_gate "$2")" = "$1" ]; }
	check "the gate takes it" is passed pass
	check "not with a distance beyond its bound" is failed "l['reference']['kinds']['scores']['worst_row_ulp'] = 257.0"
	check "not with another bound" is failed "l['reference']['kinds']['norm']['bound'] = 1e9"
	check "not with a kind left out" is failed "del l['reference']['kinds']['activation']"
	check "not with an operation missing" is failed "l['reference']['n_missing'] = 1"
	check "not with fewer operations" is failed "l['reference']['n_operations'] -= 1"
	check "not with other weights" is failed "l['weights_equal'] = False"
	check "not when our own run is another one" is failed "l['own']['kinds']['add']['bits_equal'] -= 1"
	check "not without the table" is failed "del r['local']"
	kept=$R
	export ASSAY_FLASH=1
	check "flash attention is EQUIVALENT" exits 0 "$A" sweep --model "$M" --reference faulty --out "$T/flash"
	unset ASSAY_FLASH
	R=$T/flash/scenario3
	check "in a row of its own" has "$R/report.txt" "✓ flash attention"
	check "the gate takes that" is passed pass
	check "not with another bound" is failed "l['reference']['kinds']['flash attention']['bound'] = 1e9"
	check "not beside a row of its parts" is failed "l['reference']['kinds']['values'] = dict(l['own']['kinds']['values'])"
	check "not left out" is failed "del l['reference']['kinds']['flash attention']"
	R=$kept
	check "not as DIVERGED's exit code" is failed "r['exit_code'] = 1; r['status'] = 'diverged'"
else
	echo "skip - mutations of the table # no python3 here"
fi

# ---- the files differ, or are read differently: no engine is blamed for that -------------------
cp "$M" "$T/edited.gguf"
if command -v python3 >/dev/null; then
	edit() { # FILE PYTHON: bytes d changed
		python3 -c "
import struct
d = bytearray(open('$1', 'rb').read())
$2
open('$1', 'wb').write(d)"
	}
	edit "$T/edited.gguf" "key = b'bitnet-b1.58.rope.freq_base'; struct.pack_into('<f', d, d.index(key) + len(key) + 4, 10000.0)"
	check "other metadata: exit 1" exits 1 "$A" explain --model "$M" --reference native --reference-model "$T/edited.gguf"
	check "the operation differs" has "$T/out" "differs by itself is q_rope of layer 0"
	check "no engine is at fault" has "$T/out" "Neither engine is at fault here"
	check "the metadata is" has "$T/out" "the files differ in their metadata. Which file is right is open"
	check "and what is in it" has "$T/out" "RoPE base 10000"
	"$A" gen-fixtures --preset tiny-bitnet --seed 42 --out "$T/locked.gguf" -q >/dev/null
	check "other weights: exit 1" exits 1 "$A" explain --model "$M" --reference native --reference-model "$T/locked.gguf" \
		--no-splice
	check "the tensor is named" has "$T/out" "and the files differ in token_embd.weight"
	check "the lockfile knows the reference's" has "$T/out" "is the lockfile's tiny-bitnet, our native's is not: our native's file"
	check "and the other way round" exits 1 "$A" explain --model "$T/locked.gguf" --reference native --reference-model "$M" \
		--no-splice
	check "the reference's file" has "$T/out" "reference native's is not: reference native's file is at fault"
else
	echo "skip - files that differ # no python3 here"
fi
check "a reader of its own" exits 0 env ASSAY_FAULT=read:-1:weight=2 "$A" explain --model "$M" --reference faulty
check "is told" has "$T/out" "faulty reads other values than this program from its file"

# ---- trace-diff -------------------------------------------------------------------------------
"$A" trace --model "$M" --out "$T/a" --values -q "2+2=" 2>/dev/null
"$A" trace --model "$M" --override-kv bitnet-b1.58.hidden_activation=str:silu --out "$T/b" --values -q "2+2=" 2>/dev/null
check "equal traces: exit 0" exits 0 "$A" trace-diff "$T/a" "$T/a"
check "other traces: exit 1" exits 1 "$A" trace-diff "$T/a" "$T/b"
check "the first difference" has "$T/out" "first difference beyond it: ffn_act of layer 0"
check "the picture" has "$T/out" "   0    = = = = = = = = = = = = = = = # # # #"
check "and as a page" exits 1 "$A" trace-diff --html "$T/picture.html" "$T/a" "$T/b"
check "with the same marks" shows "$T/picture.html" "0 _===============####"
check "and the numbers" has "$T/picture.html" 'title="ffn_act of layer 0: rel-RMS'
check "that needs nothing from elsewhere" test -z "$(grep -E '(src|href)="?http|@import|url\(' "$T/picture.html")"
check "JSON has the same exit code" exits 1 "$A" trace-diff --format json "$T/a" "$T/b"
check "tolerance" exits 0 "$A" trace-diff --tolerance 10 "$T/a" "$T/b"
: >"$T/empty"
check "no record is an error" exits 64 "$A" trace-diff "$T/a" "$T/empty"
echo "{}" >"$T/broken"
check "a record that does not parse is an error" exits 64 "$A" trace-diff "$T/broken" "$T/a"
check "with file and line" has "$T/err" "broken:1:"
"$A" tokenize --model "$M" "2+2=" >/dev/null
check "a trace instead of the reference" exits 1 "$A" explain --model "$M" $silu --prompt "2+2=" --prompt-template raw \
	--max-tokens 1 --trace "$T/b"
check "finds the same" has "$T/out" "ffn_act of layer 0"
mkdir "$T/cut"
cp "$T/a/values.f32" "$T/cut/"
grep -v '"stage":"ffn_sub_norm"' "$T/a/trace.jsonl" >"$T/cut/trace.jsonl"
asks() { "$A" explain --model "$M" --reference native --reference-override bitnet-b1.58.rope.freq_base=float:499999 \
	--prompt "2+2=" --prompt-template raw --max-tokens 1 --trace "$1"; }
check "a whole trace: nothing is wrong" exits 0 asks "$T/a"
check "an operation that is missing forbids it" exits 1 asks "$T/cut"
check "and is named" has "$T/out" "has no ffn_sub_norm of layer 0"

# ---- somebody's own engine behind the Python adapter -------------------------------------------
if command -v python3 >/dev/null; then
	P=$T/py.gguf
	"$A" gen-fixtures --preset tiny-llama --weights f32 --layers 2 --embd 64 --ff 128 --heads 2 --kv-heads 1 --out "$P" \
		-q >/dev/null
	py="--model $P --reference native --kv f32 --prompt-template raw --max-tokens 2"
	E="exec:python3 $PWD/tests/faulty_model.py"
	check "a Python model is EQUIVALENT to native" exits 0 "$A" crossval $py --local --engine "$E none"
	check "and said so" has "$T/out" "EQUIVALENT"
	check "engine-check takes it" exits 0 "$A" engine-check --model "$P" "python3 $PWD/tests/faulty_model.py neox"
	check "with a fault crossval diverges" exits 1 "$A" crossval $py --engine "$E neox"
	check "and names the command" has "$T/err" "assay explain --model"
	check "so does a sweep" exits 1 "$A" sweep --model "$P" --reference native --kv f32 --engine "$E neox"
	check "explain finds RoPE's flavour" exits 1 "$A" explain $py --engine "$E neox"
	check "operation, hypothesis" has "$T/out" "Its output is what \`rope_neox\` gives"
	check "side" has "$T/out" "our exec engine is at fault"
	check "and a forgotten residual" exits 1 "$A" explain $py --engine "$E residual"
	check "in its layer" has "$T/out" "goes wrong by itself is attn_residual of layer 1"

	# ---- adapters that go wrong: never a pass, never longer than their time, a sentence that helps -----
	O="exec:exec python3 $PWD/tests/odd_engine.py"
	ids="--model $P --kv f32 --tokens 1,5,7,9 --max-tokens 3"
	odd() { # mode, exit code, sentence: crossval with the local check asked for
		check "$1: exit $2" exits "$2" timeout 60 "$A" crossval $ids --reference native --timeout 20 --local --engine "$O $1"
		check "$1: says why" grep -qF -- "$3" "$T/out" "$T/err"
	}
	odd plain 0 "EQUIVALENT"
	odd nan 1 "NaN or Inf in the logits (ours 1 in all"
	odd scaled 1 "are not those that it traces"
	odd other-choice 6 "but the first maximum of its logits is id"
	odd no-choice 6 "LOGITS of position 3 name no token="
	odd no-pos 6 "LOGITS without pos= where position 0 was expected"
	odd miscounts 6 "DONE says n_pos=99 after 6 positions"
	odd hangs-up 6 "closed the wire (ASSAY_WIRE_FD) in the middle of its work"
	odd type-200 6 "a frame of type 200 (unknown) came where LOGITS or DONE was expected"
	odd says-diverged 16 "I give up"
	traced() { # mode, exit code, sentence
		check "explain, $1: exit $2" exits "$2" timeout 60 "$A" explain $ids --reference native --timeout 4 --engine "$O $1"
		check "explain, $1: says why" has "$T/err" "$3"
		check "explain, $1 as the reference: exit $2" exits "$2" timeout 60 "$A" explain $ids --reference "$O $1" --timeout 4
		check "record, $1: exit $2" exits "$2" timeout 60 "$A" record --model "$P" --tokens 1,5 --timeout 4 --trace all \
			--engine "$O $1" --out "$T/odd.tar.zst"
	}
	traced trace-huge 6 "its shape= has a dimension below 1 or more values than fit"
	traced trace-negative 6 "its shape= has a dimension below 1"
	traced trace-no-layer 6 "its layer= does not fit its stage"
	traced trace-stage 6 'is of stage "query", which does not exist'
	traced trace-short 6 "of its 256 values; parts follow each other"
	traced trace-gap 6 "parts follow each other"
	traced trace-hang 6 "passed its deadline of 4 s"
	check "a layer that the model has not: exit 6" exits 6 "$A" explain $ids --reference "$O trace-far-layer"
	check "says how many it has" has "$T/err" "the model has 2 layers"
	check "rows that no call has: exit 6" exits 6 "$A" explain $ids --reference native --engine "$O trace-rows"
	check "says so" has "$T/err" "shape= is positions first"
	check "a replay that is none: exit 64" exits 64 "$A" explain $ids --reference native --engine "$O claims-replay"
	check "says whose word that is" has "$T/err" "odd_engine.py claims-replay: I cannot do that after all"
	check "trace refuses the same record: exit 6" exits 6 "$A" trace --model "$P" --engine "$O trace-huge" --tokens 1,5
	check "engine-check too: exit 1" exits 1 "$A" engine-check --model "$P" "exec python3 $PWD/tests/odd_engine.py trace-no-layer"
	check "and says so" has "$T/out" "its layer= does not fit its stage"
	printf '[{"id": "a", "tokens": [1, 5, 7]}, {"id": "b", "tokens": [1, 5, 7]}]' >"$T/two.json"
	check "an engine that keeps something between requests: exit 1" exits 1 "$A" sweep --model "$P" --kv f32 \
		--reference native --local --scenarios "$T/two.json" -j 1 --engine "$O keeps-state" --out "$T/keeps"
	check "its first scenario is right" has "$T/keeps/a/receipt.json" '"verdict": "EQUIVALENT"'
	check "no proof of another run helps the second" has "$T/keeps/b/report.txt" "gave other logits in this run than in the one"
else
	echo "skip - a Python model # no python3 here"
fi
