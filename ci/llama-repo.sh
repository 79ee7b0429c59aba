#!/usr/bin/env bash
# Prints the path of a repository to clone llama.cpp from, and makes it when it is not there: the
# npm package node-llama-cpp 3.22.1 carries the release as a git bundle (docs/references.md).
set -u
commit=de3ff815ea7d559ee917f063901b8986f038abc6
cache=${ASSAY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/assay}
repo=${LLAMA_REPO:-$cache/llama.cpp.git}
if [ ! -d "$repo" ]; then
	mkdir -p "$cache" && t=$(mktemp -d "$cache/llama-repo.XXXXXX") || exit 1
	trap 'rm -rf "$t"' EXIT
	(cd "$t" && npm pack --silent node-llama-cpp@3.22.1 >/dev/null &&
		tar xzf node-llama-cpp-3.22.1.tgz package/llama/gitRelease.bundle) &&
		git clone -q --bare "$t/package/llama/gitRelease.bundle" "$t/repo" &&
		git -C "$t/repo" update-ref refs/heads/main $commit &&
		git -C "$t/repo" symbolic-ref HEAD refs/heads/main || exit 1
	# two at once: the first one stays
	mv -T "$t/repo" "$repo" 2>/dev/null || [ -d "$repo" ] || exit 1
fi
echo "$repo"
