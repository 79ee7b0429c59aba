#!/usr/bin/env bash
# One night, as the workflows and cron call it; the same on a laptop.
#
# TIER       integration (default) or ci-light
# BACKEND    the C++ reference: bitnet, or llama for ci-light
# HISTORY    folder of published nights (docs/baselines)
# Everything else goes to `assay nightly`: ci/nightly.sh --reps 50 --date 2026-01-31
set -u
cd "$(dirname "$0")/.." || exit 70
TIER=${TIER:-integration}
HISTORY=${HISTORY:-docs/baselines}
B=${B:-build/cc}
make -s all >&2 || exit 70
args=(--tier "$TIER")
if [ "$TIER" = ci-light ]; then
	repo=$(ci/llama-repo.sh) || exit 3
	# a millisecond a sample and many of them: what ci/perf.sh shows to work on a noisy machine
	args+=(--cpp-backend "${BACKEND:-llama}" --repo "$repo" --cases decode-16,prefill-64 --reps 1000 --threads 1)
else
	args+=(--cpp-backend "${BACKEND:-bitnet}")
fi
commit=$(git rev-parse --short=12 HEAD 2>/dev/null || echo unversioned)
exec "$B/assay" nightly "${args[@]}" --publish "$HISTORY/$(date -u +%F)-$commit" "$@"
