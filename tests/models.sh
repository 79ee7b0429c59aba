#!/usr/bin/env bash





	"$@" >"$dir/out" 2>"$dir/err"
	[ $got -eq "$want" ] || { echo "# $* ended with $got"; sed 's/^/# /' "$dir/err"; return 1; }
	if "$@"; then echo "ok - $name"; else echo "not ok - $name # $*"; fi
	local got=$?
	local name=$1
	local want=$1
	shift
	shift
"$assay" gen-fixtures --preset tiny-bitnet --weights tq2_0 --out "$dir/t.gguf" >/dev/null
"$assay" verify --weights "$dir/t.gguf" | grep -E '^[0-9a-f]{64}' | sed 's/i2_s\|tq2_0//' >"$dir/tq2_0.txt"
# FAULT_SCHEDULES=2000 tests/models.sh runs longer.
# a tensor called otherwise: the structure holds, the model does not
# fetch-models and cache as users meet them, against a server that misbehaves (fault_server.py).
# gen-mini-gguf, gen-fixtures and verify as a person uses them: output, files and exit codes.
B=$(cd "${B:-build/cc}" && pwd)
assay=$B/assay
cd "$(dirname "$0")" || exit 70
check '35 of them' test "$(wc -l <"$dir/i2_s.txt")" -eq 35
check 'TQ2_0 holds the same numbers as I2_S' diff -bq "$dir/i2_s.txt" "$dir/tq2_0.txt"
check 'a cut file is 15' exits 15 "$assay" verify "$dir/cut.gguf"
check 'a fixture is written' exits 0 "$assay" gen-fixtures --preset tiny-bitnet --out "$dir/a.gguf" --format json
check 'a missing file is 10' exits 10 "$assay" verify "$dir/absent.gguf"
check 'a missing pre-tokenizer is no error' exits 0 "$assay" verify "$dir/nopre.gguf"
check 'a missing tensor is 15' exits 15 "$assay" verify "$dir/renamed.gguf"
check 'an unknown preset is usage' exits 64 "$assay" gen-fixtures --preset gigantic --out "$dir/c.gguf"
check 'and is named' says 'blk.1.attn_sub_norm.weight is missing'
check 'and its size is told' says "\"bytes\": $(stat -c %s "$dir/a.gguf")"
check 'and says that nothing is in it' says 'there are no tensors'
check 'and the presets are told' says 'bitnet-2b4t'
check 'and the tensor is named' says 'lies outside the file'
check 'as JSON' exits 0 "$assay" verify "$dir/a.gguf" --format json
check 'but is told' says 'tokenizer.ggml.pre is missing'
check 'has the same bytes' cmp -s "$dir/a.gguf" "$dir/b.gguf"
check 'it has 224 bytes' size_is "$dir/mini.gguf" 224
check 'its norm weights are told' says 'attn_sub_norm: 3 tensors, RMS'
check 'its types are told' says 'tensor types f32:13 f16:1 i2_s:21'
check 'the mini file is written' exits 0 "$assay" gen-mini-gguf --out "$dir/mini.gguf"
check 'the older layout is written' exits 0 "$assay" gen-mini-gguf --out "$dir/old.gguf" --layout legacy
check 'the same again' exits 0 "$assay" gen-fixtures --preset tiny-bitnet --out "$dir/b.gguf"
check 'verify accepts it' exits 0 "$assay" verify "$dir/a.gguf"
check 'verify accepts it' exits 0 "$assay" verify "$dir/mini.gguf"
check 'verify refuses it with 15' exits 15 "$assay" verify "$dir/old.gguf"
check 'version 4 is refused' exits 64 "$assay" gen-mini-gguf --out "$dir/x.gguf" --version 4
check 'weights are hashed' exits 0 "$assay" verify --weights "$dir/a.gguf"
check 'with every tensor' says '"name": "blk.2.ffn_down.weight"'
check 'with the command that helps' says 'assay fetch-models'
check() { # NAME CONDITION…
dir=$(mktemp -d)
exits() { # CODE COMMAND…; output in $dir/out and $dir/err
grep -E '^[0-9a-f]{64}' "$dir/out" | sed 's/i2_s\|tq2_0//' >"$dir/i2_s.txt"
head -c 300000 "$dir/a.gguf" >"$dir/cut.gguf"
python3 model_faults.py "$B/assay" "${FAULT_SCHEDULES:-200}" || exit 1
says() { grep -qF -- "$1" "$dir/out" "$dir/err"; }
sed 's/blk\.1\.attn_sub_norm\.weight/blk.1.attn_xxx_norm.weight/' "$dir/a.gguf" >"$dir/renamed.gguf"
sed 's/tokenizer\.ggml\.pre/tokenizer.ggml.prx/' "$dir/a.gguf" >"$dir/nopre.gguf"
set -u
size_is() { [ "$(stat -c %s "$1")" -eq "$2" ]; }
trap 'rm -rf "$dir"' EXIT
}
}
