#!/usr/bin/env bash
# Planted faults: each is detected and localised, no harmless change is called a divergence.
B=${B:-build/cc}
command -v python3 >/dev/null || { echo "skip - planted faults # no python3 here"; exit 0; }
exec python3 tests/faults.py "$PWD/$B/assay" "$PWD/$B"
