#!/usr/bin/env bash
# Installs what assay needs to build (and, with --test, to run its whole test suite).
# On a system without apt it prints the list instead and exits 1 when something is missing.
set -eu
build=(gcc make pkg-config libuv1-dev libcurl4-openssl-dev libarchive-dev libgit2-dev libjansson-dev
	libssl-dev cmake g++ git)
test=(clang libclang-rt-14-dev clang-format ninja-build ccache universal-ctags valgrind nginx-light
	fcgiwrap b3sum python3 openssl nodejs npm qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross
	zsh fish bash-completion zstd)
want=("${build[@]}")
[ "${1:-}" = --test ] && want+=("${test[@]}")

missing=()
if command -v dpkg-query >/dev/null; then
	for p in "${want[@]}"; do
		case $p in # another package may provide the same program
		nginx-light) command -v nginx >/dev/null && continue ;;
		nodejs) command -v node >/dev/null && continue ;;
		python3) command -v python3 >/dev/null && continue ;;
		npm) command -v npm >/dev/null && continue ;;
		esac
		dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
	done
else
	for m in libuv libcurl libarchive libgit2 jansson libcrypto libssl; do
		pkg-config --exists "$m" 2>/dev/null || missing+=("$m")
	done
fi
[ ${#missing[@]} -eq 0 ] && exit 0

if command -v apt-get >/dev/null; then
	sudo=
	[ "$(id -u)" -eq 0 ] || sudo=sudo
	echo "installing: ${missing[*]}" >&2
	export DEBIAN_FRONTEND=noninteractive
	$sudo apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1 || {
		$sudo apt-get update >/dev/null
		$sudo apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null
	}
	exit 0
fi
cat >&2 <<EOM
These are needed and were not found: ${missing[*]}
Debian/Ubuntu: ${build[*]}
Fedora: gcc make pkgconf libuv-devel libcurl-devel libarchive-devel libgit2-devel jansson-devel openssl-devel cmake gcc-c++ git
Arch: gcc make pkgconf libuv curl libarchive libgit2 jansson openssl cmake git
Alpine: gcc musl-dev make pkgconf libuv-dev curl-dev libarchive-dev libgit2-dev jansson-dev openssl-dev cmake g++ git bash
EOM
exit 1
