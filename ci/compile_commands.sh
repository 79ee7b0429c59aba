#!/usr/bin/env bash
# Prints compile_commands.json for editors: what `make` would run, as JSON.
set -eu
cd "$(dirname "$0")/.."
make -nBs all 2>/dev/null | python3 -c '
import json, os, re, sys
rows = []
for line in sys.stdin:
    m = re.search(r" -c -o (\S+) (\S+\.c)$", line.strip())
    if m:
        rows.append({"directory": os.getcwd(), "command": line.strip(), "file": m.group(2)})
json.dump(rows, sys.stdout, indent=1)
print()'
