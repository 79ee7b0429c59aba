#!/usr/bin/env bash
# Text, JSON, Markdown, JUnit, HTML and receipts of one result say the same numbers.
set -u
. tests/expect.sh
tests/numbers.py "$A" "$T"
