#!/usr/bin/env bash
# The real thing: a real llama.cpp, built by assay itself in the parity configuration, against
# `native` on models with the real Llama-3 vocabulary. The built reference is cached by build key.
#
# LLAMA_REPO   a repository to clone llama.cpp from; default: the npm package node-llama-cpp
#              carries the release as a git bundle, which becomes a local bare repository.
set -u
cd "$(dirname "$0")/.." || exit 70
B=${B:-build/cc}
A=$B/assay
bad=0
out=out/ci
mkdir -p "$out"
cache=${ASSAY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/assay}
ok() { echo "ok - $1"; }
no() { echo "not ok - $1"; bad=1; }
check() { # name, expected status, command…
	local name=$1 want=$2 got
	shift 2
	"$@" >"$out/log" 2>&1
	got=$?
	if [ $got -eq "$want" ]; then ok "$name"; else
		no "$name (exit $got, expected $want)"
		tail -n 40 "$out/log" | sed 's/^/# /'
	fi
}

# 1. llama.cpp's repository
commit=de3ff815ea7d559ee917f063901b8986f038abc6
repo=$(ci/llama-repo.sh)
if [ -d "$repo" ]; then ok "llama.cpp's repository is here"; else no "llama.cpp's repository could not be had"; exit 1; fi

# 2. Clone, build, self-check (a second call must be instant)
t=$SECONDS
check "fetch-cpp llama: clone, build, self-check" 0 "$A" fetch-cpp llama --repo "$repo"
how="cached: the libraries were built before"
grep -q "^libraries: configured" "$out/log" && how="cold: cloned, built and checked"
echo "# fetch-cpp took $((SECONDS - t)) s ($how)"
t=$SECONDS
check "fetch-cpp llama: again, nothing to do" 0 "$A" fetch-cpp llama --repo "$repo"
[ $((SECONDS - t)) -le 10 ] && ok "the second call took $((SECONDS - t)) s" || no "the second call took $((SECONDS - t)) s"
check "full-crossval: from nothing to a verdict, no model named" 0 "$A" full-crossval --cpp-backend llama \
	--repo "$repo" --out "$out/full-crossval"
grep -E "scenario[0-9] .*(IDENTICAL|EQUIVALENT)" "$out/log" | sed 's/^/# /'

# 2b. The same over git's own HTTP: the source is cloned anew, the built libraries are found
. tests/git_http.sh
scratch=$(mktemp -d)
if git_http_start "$(dirname "$(realpath "$repo")")" "$scratch"; then
	rm -rf "$cache/references/sources" "$cache/references/by-name/llama"
	over_http() { # what is there already, cache
		t=$SECONDS
		check "fetch-cpp llama over git http-backend behind nginx, $1" 0 env ASSAY_CACHE="$2" "$A" \
			fetch-cpp llama --check --repo "http://127.0.0.1:$git_http_port/$(basename "$repo")"
		echo "# clone over HTTP and self-check, $1: $((SECONDS - t)) s"
		grep -E "^(source|libraries|numerics)" "$out/log" | sed 's/^/# /'
	}
	over_http "libraries cached" "$cache"
	# everything from nothing, no ccache: minutes, so only where all stages are asked for
	[ "${ALL:-0}" = 1 ] && ASSAY_CCACHE=0 over_http "cold" "$scratch/cache"
	git_http_stop
else
	no "git http-backend could not be served (nginx, fcgiwrap)"
fi
rm -rf "$scratch"

# 3. The real vocabulary comes from that tree's models/
vocab=$out/ggml-vocab-llama-bpe.gguf
git -C "$repo" show $commit:models/ggml-vocab-llama-bpe.gguf >"$vocab"

# 4. Sweeps: native against llama.cpp
for m in tiny-llama:f16:llama tiny-llama:f32:llama tiny-llama:q8_0:llama tiny-bitnet-silu:tq2_0:bitnet; do
	IFS=: read -r preset weights arch <<<"$m"
	model=$out/$preset-$weights.gguf
	check "gen-fixtures $preset $weights" 0 "$A" gen-fixtures --preset "$preset" --weights "$weights" --vocab "$vocab" --out "$model"
	check "sweep $arch $weights: native against llama.cpp" 0 "$A" sweep --model "$model" --backend both --cpp-backend llama --out "$out/sweep-$preset-$weights"
	sed 's/^/# /' "$out/log" | tail -n 12
done

# 5. Every text of the vocabulary's own vectors: both tokenizers, and all positions
python3 - "$repo" $commit "$out/vectors.json" <<'EOF'
import json, subprocess, sys
repo, commit, out = sys.argv[1:]
raw = subprocess.run(["git", "-C", repo, "show", commit + ":models/ggml-vocab-llama-bpe.gguf.inp"],
                     capture_output=True, check=True).stdout.decode("utf-8")
texts = raw.split("\n__ggml_vocab_test__\n")
json.dump({"schema_version": "1.0.0", "scenarios": [
    {"id": "vector%02d" % i, "prompt": t, "template": "raw", "max_new_tokens": 1}
    for i, t in enumerate(texts) if t]}, open(out, "w"))
EOF
check "all texts of the vocabulary vectors: ids and bits" 0 "$A" sweep --model "$out/tiny-llama-q8_0.gguf" \
	--backend both --cpp-backend llama --scenarios "$out/vectors.json" --out "$out/sweep-vectors"
tail -n 4 "$out/log" | sed 's/^/# /'
grep -c IDENTICAL "$out/log" | sed 's/^/# identical: /'

# 6. Built with its own flags and with flash attention llama.cpp orders sums differently: EQUIVALENT,
# each operation on its own inputs
check "fetch-cpp llama with its own flags" 0 "$A" fetch-cpp llama --for speed --repo "$repo"
for m in tiny-llama:f16:llama tiny-llama:q8_0:llama tiny-llama:q4_0:llama tiny-bitnet:tq2_0:bitnet; do
	IFS=: read -r preset weights arch <<<"$m"
	check "gen-fixtures $preset $weights" 0 "$A" gen-fixtures --preset "$preset" --weights "$weights" --arch "$arch" \
		--out "$out/own-$weights.gguf"
	check "$arch $weights: native against llama.cpp's own flags" 0 "$A" crossval --model "$out/own-$weights.gguf" \
		--cpp-backend llama.speed --prompt "2+2="
	if grep -qE ': (EQUIVALENT|IDENTICAL)$' "$out/log"; then ok "$arch $weights is EQUIVALENT or IDENTICAL"; else
		no "$arch $weights is neither EQUIVALENT nor IDENTICAL"
	fi
	sed -n '/^local check/,$p' "$out/log" | head -n 12 | sed 's/^/# /'
done

# 7. Perplexity and KL beside llama.cpp's own tool; building it takes minutes
if [ "${ALL:-0}" = 1 ]; then
	check "kl beside llama-perplexity" 0 ci/perplexity.sh "$repo" "$commit"
	grep -E "^(not )?ok" "$out/log" | sed 's/^/# /'
fi
exit $bad
