#!/usr/bin/env bash
# fetch-models and cache as users meet them, against a server that misbehaves (fault_server.py).
# model_shapes.py: servers of other shapes. FAULT_SCHEDULES=2000 tests/fetch_models.sh runs longer.
set -u
B=$(cd "${B:-build/cc}" && pwd)
cd "$(dirname "$0")" || exit 70
export PYTHONDONTWRITEBYTECODE=1
so=$(mktemp /tmp/assay-fail-io-XXXXXX.so)
trap 'rm -f "$so"' EXIT
${CC:-cc} -std=c11 -D_GNU_SOURCE -O1 -shared -fPIC -o "$so" fail_io.c -ldl || exit 1
status=0
python3 model_scenarios.py "$B/assay" "$so" || status=1
python3 model_shapes.py "$B/assay" || status=1
python3 model_faults.py "$B/assay" "${FAULT_SCHEDULES:-200}" || status=1
exit $status
