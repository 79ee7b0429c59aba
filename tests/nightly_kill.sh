#!/usr/bin/env bash
# A night killed in its steps. KILL_STEPS chooses them; make test takes some of ten, ci/nights.sh all.
B=${B:-build/cc}
command -v python3 >/dev/null || { echo "skip - killed nights # no python3 here"; exit 0; }
# shellcheck disable=SC2086
exec python3 tests/nightly_kill.py "$PWD/$B/assay" "$PWD/$B/tests/silu_reference" \
	${KILL_STEPS-sweep-tiny-bitnet bench-tiny-bitnet baselines-new publish}
