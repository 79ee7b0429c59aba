#!/usr/bin/env bash
# Sound but unusual models: beside the oracle here, bit by bit beside llama.cpp in ci/bits.sh.
set -u
. tests/expect.sh
python3 tests/odd_models.py "$A" "$T"
