#!/usr/bin/env bash
# `assay kl` beside llama.cpp's own llama-perplexity on the same models, text and cut: the numbers
# must be the same but for the tool's 16-bit base file and float32 logarithms (docs/scenarios.md).
#
# usage: ci/perplexity.sh REPOSITORY COMMIT
# LLAMA_PERPLEXITY	a built tool, instead of building it (some minutes)
set -u
cd "$(dirname "$0")/.." || exit 70
repo=$1 commit=$2
A=${B:-build/cc}/assay
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
tool=${LLAMA_PERPLEXITY:-$T/b/bin/llama-perplexity}
bad=0
if [ ! -x "$tool" ]; then
	git clone -q "$repo" "$T/src" && git -C "$T/src" checkout -q "$commit" &&
		cmake -S "$T/src" -B "$T/b" -DCMAKE_BUILD_TYPE=Release -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
			-DLLAMA_BUILD_SERVER=OFF -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DGGML_NATIVE=OFF -DGGML_AVX=ON \
			-DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON -DGGML_AVX512=OFF -DGGML_LLAMAFILE=OFF \
			>"$T/log" 2>&1 &&
		cmake --build "$T/b" --target llama-perplexity -j2 >>"$T/log" 2>&1 ||
		{ tail -n 20 "$T/log"; echo "not ok - llama-perplexity is built"; exit 1; }
fi
git -C "$repo" show "$commit:models/ggml-vocab-llama-bpe.gguf" >"$T/vocab.gguf"
for w in f16 q8_0 q4_0; do
	"$A" gen-fixtures --preset tiny-llama --weights $w --vocab "$T/vocab.gguf" --seed 3 --out "$T/$w.gguf" -q >"$T/log"
done
cat docs/*.md >"$T/text"
how=(-f "$T/text" -c 64 --chunks 12 -t 2 -fa off --no-repack --kl-divergence-base "$T/base")
"$tool" -m "$T/f16.gguf" "${how[@]}" >"$T/f16.log" 2>&1
for w in q8_0 q4_0; do
	"$tool" -m "$T/$w.gguf" "${how[@]}" --kl-divergence >"$T/$w.log" 2>&1
	"$A" kl --model "$T/$w.gguf" --reference native --reference-model "$T/f16.gguf" --text "$T/text" --chunk 64 \
		--chunks 12 --profile ggml-avx2 --no-local --format json -q >"$T/$w.json"
	python3 - "$T" $w <<'P' || bad=1
import json, re, sys
d, w = sys.argv[1:]
k, base, log = json.load(open(f"{d}/{w}.json")), open(f"{d}/f16.log").read(), open(f"{d}/{w}.log").read()
NUMBER = r"\s*(-?[\d.]+)%?(?: (?:±|\+/-)\s*([\d.]+))?"
bad = 0
def same(text, words, ours, relative, absolute):
    global bad
    m = re.search(re.escape(words) + NUMBER, text)
    theirs = [float(x) for x in m.groups() if x] if m else []
    fine = bool(theirs) and all(abs(a - b) <= relative * abs(b) + absolute for a, b in zip(ours, theirs))
    bad |= not fine
    print("%s - %s, %s: llama-perplexity %s, assay %s" % ("ok" if fine else "not ok", w, words.strip(" :="), theirs, ours))
p, u = k["perplexity"], k["kl"]
same(base, "Final estimate: PPL =", [p["reference"], p["reference_error"]], 1e-6, 6e-5)
same(log, "Mean PPL(Q)                   :", [p["ours"], p["ours_error"]], 1e-6, 1e-6)
for words, name in (("Mean    KLD:", "mean"), ("Median  KLD:", "median"), ("Maximum KLD:", "max"), ("99.9%   KLD:", "p99_9"),
                    ("99.0%   KLD:", "p99"), (" 1.0%   KLD:", "p1")):
    same(log, words, [u[name]] + ([u["mean_error"]] if name == "mean" else []), 0.01, 5e-5)
same(log, "Same top p:", [100 * k["same_top1"], 100 * k["same_top1_error"]], 0, 6e-4)
same(log, "RMS Δp    :", [100 * k["delta_p_rms"], 100 * k["delta_p_rms_error"]], 1e-3, 6e-4)
sys.exit(bad)
P
done
exit $bad
