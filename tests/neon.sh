#!/usr/bin/env bash
# The kernels for ARM: cross-compiled, and every variant run against the plain C by qemu-aarch64;
# then the recorded operations of the references, with the plain C and with NEON.
set -u
cc=aarch64-linux-gnu-gcc
for tool in $cc qemu-aarch64; do
	if ! command -v $tool >/dev/null; then
		echo "skip - kernels on ARM # no $tool here"
		exit 0
	fi
done
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
flags="-std=c11 -D_GNU_SOURCE -ffp-contract=off -fno-math-errno -Iinclude -Iworkers -Iworkers/common -Iworkers/kernels
	-Iworkers/model -Itests -Wall -Wextra -Wshadow -Wvla -Werror"
status=0
for f in kernels/base_c kernels/cpu kernels/dequantize kernels/half kernels/kernels kernels/math \
	kernels/profile kernels/tl kernels/tl_config kernels/weight_type kernels/i2s_neon common/err common/utf8 model/gguf model/gguf_keys \
	model/gguf_parse; do
	isa=
	[ $f = kernels/i2s_neon ] && isa=-march=armv8.2-a+dotprod
	$cc $flags -O3 -fno-trapping-math $isa -c workers/$f.c -o "$dir/$(basename $f).o" || status=1
done
for t in kernels golden_ops; do
	$cc $flags -O2 tests/unit/${t}_test.c "$dir"/*.o -static -lm -o "$dir/$t" || status=1
done
if [ $status != 0 ]; then
	echo "not ok - kernels compile for ARM without a warning"
	exit 1
fi
echo "ok - kernels compile for ARM without a warning"
ASSAY_TEST_BRIEF=1 QEMU_CPU=max qemu-aarch64 "$dir/kernels" | grep -v '^skip' || status=1
[ "${PIPESTATUS[0]}" = 0 ] || status=1
QEMU_CPU=max qemu-aarch64 "$dir/golden_ops" avx2/ || status=1
exit $status
