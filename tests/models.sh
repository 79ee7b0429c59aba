#!/usr/bin/env bash
# gen-mini-gguf, gen-fixtures and verify as a person uses them: output, files and exit codes.
set -u
assay=$B/assay
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

check() { # NAME CONDITION…
	local name=$1
	shift
	if "$@"; then echo "ok - $name"; else echo "not ok - $name # $*"; fi
}
exits() { # CODE COMMAND…; output in $dir/out and $dir/err
	local want=$1
	shift
	"$@" >"$dir/out" 2>"$dir/err"
	local got=$?
	[ $got -eq "$want" ] || { echo "# $* ended with $got"; sed 's/^/# /' "$dir/err"; return 1; }
}
says() { grep -qF -- "$1" "$dir/out" "$dir/err"; }
size_is() { [ "$(stat -c %s "$1")" -eq "$2" ]; }

check 'the mini file is written' exits 0 "$assay" gen-mini-gguf --out "$dir/mini.gguf"
check 'it has 224 bytes' size_is "$dir/mini.gguf" 224
check 'verify accepts it' exits 0 "$assay" verify "$dir/mini.gguf"
check 'and says that nothing is in it' says 'there are no tensors'
check 'the older layout is written' exits 0 "$assay" gen-mini-gguf --out "$dir/old.gguf" --layout legacy
check 'verify refuses it with 15' exits 15 "$assay" verify "$dir/old.gguf"
check 'version 4 is refused' exits 64 "$assay" gen-mini-gguf --out "$dir/x.gguf" --version 4

check 'a fixture is written' exits 0 "$assay" gen-fixtures --preset tiny-bitnet --out "$dir/a.gguf" --format json
check 'and its size is told' says "\"bytes\": $(stat -c %s "$dir/a.gguf")"
check 'the same again' exits 0 "$assay" gen-fixtures --preset tiny-bitnet --out "$dir/b.gguf"
check 'has the same bytes' cmp -s "$dir/a.gguf" "$dir/b.gguf"
check 'verify accepts it' exits 0 "$assay" verify "$dir/a.gguf"
check 'its types are told' says 'tensor types f32:13 f16:1 i2_s:21'
check 'its norm weights are told' says 'attn_sub_norm: 3 tensors, RMS'
check 'as JSON' exits 0 "$assay" verify "$dir/a.gguf" --format json
check 'with every tensor' says '"name": "blk.2.ffn_down.weight"'
check 'an unknown preset is usage' exits 64 "$assay" gen-fixtures --preset gigantic --out "$dir/c.gguf"
check 'and the presets are told' says 'bitnet-2b4t'

check 'weights are hashed' exits 0 "$assay" verify --weights "$dir/a.gguf"
grep -E '^[0-9a-f]{64}' "$dir/out" | sed 's/i2_s\|tq2_0//' >"$dir/i2_s.txt"
"$assay" gen-fixtures --preset tiny-bitnet --weights tq2_0 --out "$dir/t.gguf" >/dev/null
"$assay" verify --weights "$dir/t.gguf" | grep -E '^[0-9a-f]{64}' | sed 's/i2_s\|tq2_0//' >"$dir/tq2_0.txt"
check '35 of them' test "$(wc -l <"$dir/i2_s.txt")" -eq 35
check 'TQ2_0 holds the same numbers as I2_S' diff -bq "$dir/i2_s.txt" "$dir/tq2_0.txt"

check 'a missing file is 10' exits 10 "$assay" verify "$dir/absent.gguf"
check 'with the command that helps' says 'assay fetch-models'
head -c 300000 "$dir/a.gguf" >"$dir/cut.gguf"
check 'a cut file is 15' exits 15 "$assay" verify "$dir/cut.gguf"
check 'and the tensor is named' says 'lies outside the file'
# a tensor called otherwise: the structure holds, the model does not
sed 's/blk\.1\.attn_sub_norm\.weight/blk.1.attn_xxx_norm.weight/' "$dir/a.gguf" >"$dir/renamed.gguf"
check 'a missing tensor is 15' exits 15 "$assay" verify "$dir/renamed.gguf"
check 'and is named' says 'blk.1.attn_sub_norm.weight is missing'
sed 's/tokenizer\.ggml\.pre/tokenizer.ggml.prx/' "$dir/a.gguf" >"$dir/nopre.gguf"
check 'a missing pre-tokenizer is no error' exits 0 "$assay" verify "$dir/nopre.gguf"
check 'but is told' says 'tokenizer.ggml.pre is missing'
