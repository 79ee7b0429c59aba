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
		man --warnings -E UTF-8 -l -Tutf8 -Z \$f 2>&1 >/dev/null | grep . && exit 1; done; exit 0"

deb() { make -s deb && dpkg-deb -x build/dist/assay_*.deb "$root/b" && "$root/b/usr/bin/assay" --version &&
	"$root/b/usr/bin/assay" infer --model "$root/m.gguf" --max-new-tokens 2 Hello; }
check "the Debian package unpacks and runs" deb
check "make dist" make -s dist

share=$root/a/usr/share
complete_bash() { bash -c '
	source "$1"; COMP_WORDS=(assay swe); COMP_CWORD=1; _assay; [ "${COMPREPLY[*]}" = sweep ] || exit 1
	COMP_WORDS=(assay sweep --mod); COMP_CWORD=2; _assay; [ "${COMPREPLY[*]}" = --model ] || exit 1
	COMP_WORDS=(assay gen-fixtures --preset tiny-q); COMP_CWORD=3; exit 0' _ "$share/bash-completion/completions/assay"; }
check "bash completes commands and options" complete_bash
complete_zsh() { zsh -fc 'autoload -U compinit && compinit -u -d /dev/null; source "$1"; whence _assay >/dev/null' _ \
	"$share/zsh/vendor-completions/_assay"; }
command -v zsh >/dev/null && check "zsh loads its completion" complete_zsh || echo "skip - zsh # no zsh here"
complete_fish() { fish -c 'source $argv[1]; complete -C "assay swe" | string match -q "sweep*"; and complete -C "assay sweep --mod" | string match -q -- "--model*"' \
	"$share/fish/vendor_completions.d/assay.fish"; }
command -v fish >/dev/null && check "fish completes commands and options" complete_fish || echo "skip - fish # no fish here"
exit $bad
