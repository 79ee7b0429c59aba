#!/usr/bin/env bash
# Builds a Debian package from the built tree: ci/deb.sh VERSION OUTPUT_DIR
set -eu
cd "$(dirname "$0")/.."
version=$1 out=$2
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
make -s install DESTDIR="$root" PREFIX=/usr >/dev/null
gzip -9n "$root"/usr/share/man/man1/*.1
doc=$root/usr/share/doc/assay
seconds=$(git log -1 --format=%ct 2>/dev/null || date +%s)
date=$(date -R -u -d "@$seconds")
{
	echo "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/"
	printf 'Upstream-Name: assay\n\nFiles: *\nCopyright: %s the authors of assay\nLicense: Apache-2.0\n' \
		"$(date -u -d "@$seconds" +%Y)"
	echo " On Debian systems the text of the licence is in /usr/share/common-licenses/Apache-2.0."
} >"$doc/copyright"
rm -f "$doc/LICENSE"
printf 'assay (%s) unstable; urgency=low\n\n  * Built from the tree of this version.\n\n -- %s  %s\n' "$version" \
	"assay maintainers <maintainers@assay.invalid>" "$date" | gzip -9n >"$doc/changelog.gz"
strip "$root/usr/bin/assay" "$root/usr/libexec/assay/assay-worker"
depends=$(ldd "$root/usr/bin/assay" "$root/usr/libexec/assay/assay-worker" | awk '/=> \//{print $3}' |
	sort -u | grep -E 'lib(uv|curl|archive|git2|jansson|ssl|crypto|c)\.' | while read -r lib; do
	dpkg-query -S "$(realpath "$lib")" 2>/dev/null || dpkg-query -S "*/$(basename "$(realpath "$lib")")"
done | cut -d: -f1 | sort -u | paste -sd, | sed 's/,/, /g')
mkdir -p "$root/DEBIAN" "$out"
cat > "$root/DEBIAN/control" <<EOM
Package: assay
Version: $version
Section: devel
Priority: optional
Architecture: $(dpkg --print-architecture)
Depends: $depends
Recommends: cmake, g++, git
Maintainer: assay maintainers <maintainers@assay.invalid>
Description: proves an LLM inference engine against its reference
 Fetches and verifies models, builds the C++ reference, compares token by
 token, logit by logit, tensor by tensor, and issues receipts.
EOM
chmod -R go-w "$root"
dpkg-deb --root-owner-group --build "$root" "$out/assay_${version}_$(dpkg --print-architecture).deb" >/dev/null
echo "$out/assay_${version}_$(dpkg --print-architecture).deb"
