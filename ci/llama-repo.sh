#!/usr/bin/env bash
# Prints the path of a repository to clone llama.cpp from, and makes it when it is not there: the
# npm package node-llama-cpp 3.22.1 carries the release as a git bundle (docs/references.md).
set -u
commit=de3ff815ea7d559ee917f063901b8986f038abc6
cache=${ASSAY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/assay}
repo=${LLAMA_REPO:-$cache/llama.cpp.git}
if [ ! -d "$repo" ]; then
	t=$(mktemp -d)
	trap 'rm -rf "$t"' EXIT
	(cd "$t" && npm pack --silent node-llama-cpp@3.22.1 >/dev/null &&
		tar xzf node-llama-cpp-3.22.1.tgz package/llama/gitRelease.bundle) &&
		mkdir -p "$cache" && tmp=$repo.$$ && rm -rf "$tmp" &&
		git clone -q --bare "$t/package/llama/gitRelease.bundle" "$tmp" &&
		git -C "$tmp" update-ref refs/heads/main $commit &&
		git -C "$tmp" symbolic-ref HEAD refs/heads/main && { mv -T "$tmp" "$repo" 2>/dev/null || rm -rf "$tmp"; } && [ -d "$repo" ] || exit 1
fi
echo "$repo"
