#!/usr/bin/env bash
# bench, gen-baselines, check-perf and bench-compare as a user calls them. What they judge is speed, so
# nothing here expects two measurements to be near each other: ci/perf.sh does that.
set -u
B=${B:-build/cc}
A=$PWD/$B/assay
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
bad=0
no() { echo "not ok - $1"; bad=1; }
check() { # name, expected status, command…
	local name=$1 want=$2 got
	shift 2
	"$@" >"$t/out" 2>"$t/log"
	got=$?
	if [ $got -eq "$want" ]; then echo "ok - $name"; else
		no "$name (exit $got, expected $want)"; tail -n 20 "$t/out" "$t/log" | sed 's/^/# /'; fi
}
says() { grep -qF -- "$2" "$t/${3:-out}" && echo "ok - $1" || { no "$1"; head -n 30 "$t/${3:-out}" | sed 's/^/# /'; }; }
bench() { "$A" bench --model "$t/m.gguf" --threads 1 --cases decode-4,load "$@"; }

check "a model" 0 "$A" gen-fixtures --preset tiny-bitnet --out "$t/m.gguf"
check "three sessions" 0 bench --reps 7 --sessions 3 --out "$t/base/a"
check "one session" 0 bench --reps 4 --out "$t/base/b"
check "more sessions than repetitions are as many" 0 bench --reps 2 --sessions 3 --out "$t/base/c"
check "no session is refused" 64 bench --sessions 0
check "their receipts pass the gates" 0 "$A" gate "$t/base"
python3 - "$t/base/a/bench.json" <<'EOP' && echo "ok - sessions share the repetitions, each sample has its pace" || no "sessions"
import json, sys
o = json.load(open(sys.argv[1]))
s, m = o["cases"][0]["series"][0], o["machine"]
assert m["read_gb_s"] >= m["read_gb_s_1"] > 0 and m["int8_gmac_s"] >= m["int8_gmac_s_1"], m
assert s["sessions"] == [2, 2, 3], s["sessions"]
assert len(s["samples"]) == len(s["pace_ns"]) == 7 and min(s["pace_ns"]) > 1000, s
EOP
check "a depth and none" 0 "$A" bench --model "$t/m.gguf" --threads 1 --cases decode-4,decode-4@64 --reps 4 --out "$t/deep"
says "says what it keeps" "decode-4@64: native keeps "
check "its receipt passes the gates" 0 "$A" gate "$t/deep"
for change in share case; do
	mkdir -p "$t/bad"
	python3 - "$t/deep/bench.json" "$t/bad/bench.json" <<EOP || no "a forged depth"
import json, sys
o = json.load(open(sys.argv[1]))
beside = o["cases"][1]["without_depth"]
assert beside["case"] == "decode-4" and beside["kept"][0]["low"] <= beside["kept"][0]["mid"], beside
if "$change" == "share":
    beside["kept"][0]["mid"] += 0.5
else:
    beside["case"] = "decode-4@64"
json.dump(o, open(sys.argv[2], "w"))
EOP
	"$B/tests/seal" "$t/bad/bench.json" || no "sealing"
	check "sealed, but the $change beside a depth is forged" 20 "$A" gate "$t/bad/bench.json"
done
check "a baseline of three receipts" 0 "$A" gen-baselines --from "$t/base" --out "$t/b.json"
python3 - "$t/b.json" <<'EOP' && echo "ok - it knows every session" || no "sessions of a baseline"
import json, sys
s = json.load(open(sys.argv[1]))["cases"][0]["series"][0]
assert s["sessions"] == [2, 2, 3, 4, 1, 1], s["sessions"]
assert len(s["samples"]) == len(s["pace_ns"]) == 13
EOP
wide="--max-slowdown 9900"
check "two receipts against it" 0 "$A" check-perf $wide --baseline "$t/b.json" "$t/base/a/bench.json" "$t/base/b/bench.json"
says "names the case" "decode-4"
check "as JSON" 0 "$A" check-perf $wide --format json --baseline "$t/b.json" "$t/base/a/bench.json" "$t/base/b/bench.json"
python3 - "$t/out" <<'EOP' && echo "ok - JSON: sessions of both sides, two intervals" || no "JSON"
import json, sys
o = json.load(open(sys.argv[1]))
c = o["cases"][0]
assert o["comparable"] is True and c["sessions"] == [6, 4], c
for k in ("change", "paced"):
    assert c[k]["low"] <= c[k]["mid"] <= c[k]["high"], c
EOP
check "as Markdown" 0 "$A" check-perf $wide --format markdown --baseline "$t/b.json" "$t/base/a/bench.json"
says "a table" "|---|---|---|---|---|"
check "as JUnit" 0 "$A" check-perf $wide --format junit --baseline "$t/b.json" "$t/base/a/bench.json"
python3 -c 'import sys, xml.dom.minidom as x; assert len(x.parse(sys.argv[1]).getElementsByTagName("testcase")) == 2' "$t/out" &&
	echo "ok - JUnit is XML with two cases" || no "JUnit"
python3 - "$t/b.json" "$t/fast.json" "$t/host.json" "$t/clock.json" <<'EOP'
import json, sys
def write(path, change):
    b = json.load(open(sys.argv[1]))
    change(b)
    json.dump(b, open(path, "w"))
def times(b, key, by): # decode-4 alone: opening a model has no pace beside it
    s = b["cases"][0]["series"][0]
    s[key] = [x * by for x in s[key]]
def fast(b):
    times(b, "samples", 100)
def clock(b):
    fast(b)
    times(b, "pace_ns", 0.01)
    del b["cases"][1]
def host(b):
    b["host"]["n_cpus"] += 1
write(sys.argv[2], fast)
write(sys.argv[3], host)
write(sys.argv[4], clock)
EOP
check "a baseline that somebody edited is refused" 20 "$A" check-perf --baseline "$t/fast.json" "$t/base/a/bench.json"
says "and says so" "the baseline was changed" log
"$B/tests/seal" "$t/fast.json" "$t/host.json" "$t/clock.json" || no "sealing"
sed 's/"decode-4"/"decode-5"/; s/"load"/"prefill-5"/' "$t/b.json" >"$t/others.json"
"$B/tests/seal" "$t/others.json" || no "sealing"
check "a baseline of other cases holds nothing" 7 "$A" check-perf --baseline "$t/others.json" "$t/base/a/bench.json"
check "a receipt is no baseline unless it passes its gates" 0 "$A" check-perf $wide --baseline "$t/base/b/bench.json" "$t/base/a/bench.json"
check "a summary is none" 20 "$A" check-perf --baseline docs/schema/receipt-1.0.0.schema.json "$t/base/a/bench.json"
check "a baseline that is a hundred times quicker" 17 "$A" check-perf --baseline "$t/fast.json" "$t/base/a/bench.json"
says "says that it regressed" "regressed"
check "as JUnit it is a failure" 17 "$A" check-perf --format junit --baseline "$t/fast.json" "$t/base/a/bench.json"
says "JUnit has it" "<failure message="
check "a machine that was a hundred times quicker leaves it undecided" 7 "$A" check-perf --baseline "$t/clock.json" "$t/base/a/bench.json"
says "and is told" "the machine itself -99 %"
check "another kind of host is not comparable" 7 "$A" check-perf --baseline "$t/host.json" "$t/base/a/bench.json"
says "and says what differs" "not comparable: n_cpus"
for change in '"sessions": \[/"sessions": [9,' '"pace_ns": \[/"pace_ns": [15000,'; do
	mkdir -p "$t/bad"
	sed "s/${change}/" "$t/base/a/bench.json" >"$t/bad/bench.json"
	"$B/tests/seal" "$t/bad/bench.json" || no "sealing"
	check "sealed, but ${change%%:*} does not fit the samples" 20 "$A" gate "$t/bad/bench.json"
	check "and check-perf refuses it" 20 "$A" check-perf --baseline "$t/b.json" "$t/bad/bench.json"
done
check "bench-compare of a build with itself" 0 "$A" bench-compare --model "$t/m.gguf" --threads 1 --cases decode-4 --reps 3 \
	--max-slowdown 9900 native "$B/assay-worker"
exit $bad
