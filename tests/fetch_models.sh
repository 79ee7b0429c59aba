#!/usr/bin/env bash
# fetch-models and cache as users meet them, against a server that misbehaves (fault_server.py).
# FAULT_SCHEDULES=2000 tests/fetch_models.sh runs longer.
set -u
B=$(cd "${B:-build/cc}" && pwd)
cd "$(dirname "$0")" || exit 70
python3 model_faults.py "$B/assay" "${FAULT_SCHEDULES:-200}" || exit 1
