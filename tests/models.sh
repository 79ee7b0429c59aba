#!/usr/bin/env bash
# gen-mini-gguf, gen-fixtures and verify as a person uses them: output, files and exit codes.
set -u
. tests/expect.sh

says() { grep -qF -- "$1" "$T/out" "$T/err"; }
size_is() { [ "$(stat -c %s "$1")" -eq "$2" ]; }

check 'the mini file is written' exits 0 "$A" gen-mini-gguf --out "$T/mini.gguf"
check 'it has 224 bytes' size_is "$T/mini.gguf" 224
check 'verify accepts it' exits 0 "$A" verify "$T/mini.gguf"
check 'by --model as well' exits 0 "$A" verify --model "$T/mini.gguf"
check 'and says that nothing is in it' says 'there are no tensors'
check 'the older layout is written' exits 0 "$A" gen-mini-gguf --out "$T/old.gguf" --layout legacy
check 'verify refuses it with 15' exits 15 "$A" verify "$T/old.gguf"
check 'version 4 is refused' exits 64 "$A" gen-mini-gguf --out "$T/x.gguf" --version 4

check 'a fixture is written' exits 0 "$A" gen-fixtures --preset tiny-bitnet --out "$T/a.gguf" --format json
check 'and its size is told' says "\"bytes\": $(stat -c %s "$T/a.gguf")"
check 'the same again' exits 0 "$A" gen-fixtures --preset tiny-bitnet --out "$T/b.gguf"
check 'has the same bytes' cmp -s "$T/a.gguf" "$T/b.gguf"
check 'verify accepts it' exits 0 "$A" verify "$T/a.gguf"
check 'its types are told' says 'tensor types f32:13 f16:1 i2_s:21'
check 'its norm weights are told' says 'attn_sub_norm: 3 tensors, RMS'
check 'as JSON' exits 0 "$A" verify "$T/a.gguf" --format json
check 'with every tensor' says '"name": "blk.2.ffn_down.weight"'
check 'an unknown preset is usage' exits 64 "$A" gen-fixtures --preset gigantic --out "$T/c.gguf"
check 'and the presets are told' says 'bitnet-2b4t'

check 'weights are hashed' exits 0 "$A" verify --weights "$T/a.gguf"
grep -E '^[0-9a-f]{64}' "$T/out" | sed 's/i2_s\|tq2_0//' >"$T/i2_s.txt"
"$A" gen-fixtures --preset tiny-bitnet --weights tq2_0 --out "$T/t.gguf" >/dev/null
"$A" verify --weights "$T/t.gguf" | grep -E '^[0-9a-f]{64}' | sed 's/i2_s\|tq2_0//' >"$T/tq2_0.txt"
check '35 of them' test "$(wc -l <"$T/i2_s.txt")" -eq 35
check 'TQ2_0 holds the same numbers as I2_S' diff -bq "$T/i2_s.txt" "$T/tq2_0.txt"

check 'a missing file is 10' exits 10 "$A" verify "$T/absent.gguf"
check 'with the command that helps' says 'assay fetch-models'
head -c 300000 "$T/a.gguf" >"$T/cut.gguf"
check 'a cut file is 15' exits 15 "$A" verify "$T/cut.gguf"
check 'and the tensor is named' says 'lies outside the file'
# a tensor called otherwise: the structure holds, the model does not
sed 's/blk\.1\.attn_sub_norm\.weight/blk.1.attn_xxx_norm.weight/' "$T/a.gguf" >"$T/renamed.gguf"
check 'a missing tensor is 15' exits 15 "$A" verify "$T/renamed.gguf"
check 'and is named' says 'blk.1.attn_sub_norm.weight is missing'
sed 's/tokenizer\.ggml\.pre/tokenizer.ggml.prx/' "$T/a.gguf" >"$T/nopre.gguf"
check 'a missing pre-tokenizer is no error' exits 0 "$A" verify "$T/nopre.gguf"
check 'but is told' says 'tokenizer.ggml.pre is missing'
