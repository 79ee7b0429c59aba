#!/usr/bin/env bash
# Installs assay as its users would and tries it: make install, the Debian package, completions.
set -u
cd "$(dirname "$0")/.." || exit 70
bad=0
check() { if "${@:2}" >"$log" 2>&1; then echo "ok - $1"; else echo "not ok - $1"; sed 's/^/# /' "$log" | tail -n 20; bad=1; fi; }
log=$(mktemp)
root=$(mktemp -d)
trap 'rm -rf "$root" "$log"' EXIT

check "make install" make -s install DESTDIR="$root/a" PREFIX=/usr
check "the installed program runs" "$root/a/usr/bin/assay" --version
check "it finds its worker" "$root/a/usr/bin/assay" gen-fixtures --preset tiny-llama --out "$root/m.gguf"
check "it evaluates" "$root/a/usr/bin/assay" infer --model "$root/m.gguf" --max-new-tokens 2 Hello
check "manual pages format cleanly" sh -c "
	for f in $root/a/usr/share/man/man1/*.1; do
		man --warnings -E UTF-8 -l -Tutf8 -Z \$f 2>&1 >/dev/null | grep . && exit 1
		groff -man -ww -Tutf8 \$f 2>&1 >/dev/null | grep . && exit 1; done; exit 0"

# by dpkg itself, its database in the scratch root; what it depends on is this system's
deb() {
	local admin=$root/b/var/lib/dpkg
	make -s deb || return 1
	mkdir -p "$admin/info" "$admin/updates" && : >"$admin/status" && : >"$admin/available"
	dpkg --instdir="$root/b" --admindir="$admin" --log=/dev/null --force-depends --force-not-root \
		--force-script-chrootless -i build/dist/assay_*.deb &&
		dpkg-query --admindir="$admin" -W -f='${Status}\n' assay | grep -q 'install ok installed' &&
		"$root/b/usr/bin/assay" --version &&
		"$root/b/usr/bin/assay" infer --model "$root/m.gguf" --max-new-tokens 2 Hello
}
check "the Debian package is installed into a scratch root and runs" deb
depends_known() { dpkg-deb -f build/dist/assay_*.deb Depends | tr ',' '\n' | while read -r p; do dpkg-query -W "$p" || exit 1; done; }
check "what it depends on are packages of this system" depends_known
# what somebody does who has the archive and no git; not optimised, to be short
dist() {
	local archive
	archive=$(make -s dist) && mkdir "$root/d" && tar -xf "$archive" -C "$root/d" --strip-components=1 &&
		make -s -C "$root/d" WERROR= CFLAGS=-O0 && "$root/d/build/cc/assay" --version &&
		"$root/d/build/cc/assay" infer --model "$root/m.gguf" --max-new-tokens 2 Hello
}
check "make dist, and its archive builds in an empty folder" dist

share=$root/a/usr/share
# as a user does it: an interactive shell in a terminal, the line typed, TAB
for shell in bash:bash-completion/completions/assay zsh:zsh/vendor-completions/_assay fish:fish/vendor_completions.d/assay.fish; do
	if ! command -v "${shell%%:*}" >/dev/null; then echo "not ok - ${shell%%:*} is not here"; bad=1; continue; fi
	ci/tab.py "${shell%%:*}" "$share/${shell#*:}" || bad=1
done
exit $bad
