#!/usr/bin/env bash
# A night on small models: native against oracle; resumed, repeated, tampered with; and the reports.
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
		no "$name (exit $got, expected $want)"; tail -n 20 "$t/out" "$t/log" | sed 's/^/# /'
	fi
}
says() { grep -qF -- "$2" "$t/${3:-out}" && echo "ok - $1" || { no "$1"; head -n 30 "$t/${3:-out}" | sed 's/^/# /'; }; }
check "a model" 0 "$A" gen-fixtures --preset tiny-bitnet --out "$t/m.gguf"
# speed is judged by ci/perf.sh; a sanitizer's build on a busy machine gets a wide limit here
night() { "$A" nightly --model "$t/m.gguf" --reference oracle --cases decode-16 --reps 20 --threads 1 \
	--max-slowdown 900 --out "$t/work" "$@"; }

check "the first night" 0 night --publish "$t/h/2026-01-01-a" --date 2026-01-01
says "it says that there is no baseline yet" "no baseline yet"
for f in nightly.json m/sweep/scenario1/receipt.json m/bench/bench.json m/baseline.json; do
	[ -s "$t/h/2026-01-01-a/$f" ] && echo "ok - published: $f" || no "published: $f"
done
[ -s "$t/h/index.html" ] && echo "ok - with a trend page" || no "no trend page"
check "what was published passes the gates" 0 "$A" gate "$t/h/2026-01-01-a"
check "the same night again finds no regression" 0 night --publish "$t/h/2026-01-01-a" --date 2026-01-01
says "and is not published twice" "the same result lies in"
[ ! -e "$t/h/2026-01-01-a.2" ] && echo "ok - there is one folder" || no "it was published twice"
check "the next night is held against the first" 0 night --publish "$t/h/2026-01-02-a" --date 2026-01-02 --format json
python3 - "$t/out" <<'EOP' && echo "ok - JSON: steps, no failed part" || no "JSON of a night"
import json, sys
o = json.load(open(sys.argv[1]))
states = {s["part"]: s["state"] for s in o["steps"]}
assert o["failed_part"] is None and o["exit_code"] == 0, o
assert all(states[p] == "passed" for p in ("sweep", "bench", "gate", "baselines", "publish")), states
assert [c["state"] for c in o["models"][0]["cases"]] != ["absent"]
EOP

# interrupted: the journal without its end is a night that was killed after the sweep
run=$(ls -d "$t"/work/2* | tail -n 1)
grep -v -e '"end"' -e '"step":"bench' -e '"step":"gate' -e '"step":"base' -e '"step":"publish' "$run/journal.jsonl" >"$t/j"
cp "$t/j" "$run/journal.jsonl"
printf '{"step":"bench m","ke' >>"$run/journal.jsonl"
check "an interrupted night goes on" 0 night --publish "$t/h/2026-01-02-a" --date 2026-01-02
says "with the sweep from the journal" "taken from the journal"
[ "$(ls -d "$t"/work/2* | tail -n 1)" = "$run" ] && echo "ok - in its own folder" || no "a new folder was made"

# each part that fails is named by the exit code
check "a model that is not there" 10 "$A" nightly --model "$t/none.gguf" --reference oracle --out "$t/w2" --publish "$t/h2/x"
check "an unknown reference fails the provisioning" 64 "$A" nightly --model "$t/m.gguf" --cpp-backend nosuch --out "$t/w2" --publish "$t/h2/x"
says "and names the part" "provision failed"
check "a reference that is wrong fails the sweep" 1 "$A" nightly --model "$t/m.gguf" --out "$t/w2" --publish "$t/h2/y" \
	--reference "exec:exec $PWD/$B/tests/silu_reference" --cases decode-16 --reps 3 --format json
says "and names the part in JSON" '"failed_part": "sweep"'
grep -qi silu "$t/h2/y/m/sweep/scenario1/explain.txt" && echo "ok - what diverged is explained" || no "no explanation with the reason"
python3 - "$t/h/2026-01-02-a/m/baseline.json" "$t/fast.json" <<'EOP'
import json, sys
b = json.load(open(sys.argv[1]))
for c in b["cases"]:
    for s in c["series"]:
        s["samples"] = [x * 1000 for x in s["samples"]]
json.dump(b, open(sys.argv[2], "w"))
EOP
"$B/tests/seal" "$t/fast.json" || no "sealing"
check "slower than its baseline" 17 night --baseline "$t/fast.json" --publish "$t/h2/z" --date 2026-01-03
says "and names the part" "baselines failed: exit 17"
[ ! -e "$t/h2/z/m/baseline.json" ] && echo "ok - a slow night makes no baseline" || no "a slow night made a baseline"
python3 - "$t/h/2026-01-02-a/m/baseline.json" "$t/quiet.json" <<'EOP'
import json, sys
b = json.load(open(sys.argv[1]))
for c in b["cases"]:
    for s in c["series"]:
        # of a hundred the pace excuses 16 at least and 100 at most: 40 leaves room for noise on both sides
        s["samples"] = [x * 40 for x in s["samples"]]
        s["pace_ns"] = [x / 100 for x in s["pace_ns"]]
json.dump(b, open(sys.argv[2], "w"))
EOP
"$B/tests/seal" "$t/quiet.json" || no "sealing"
check "slower, and so is the machine: undecided" 7 night --baseline "$t/quiet.json" --publish "$t/h2/u" --date 2026-01-04 \
	--max-slowdown 10
says "it says so" "undecided"
says "it is no pass" "baselines failed: exit 7"
[ "$(grep -c 'undecided; measured on' "$t/out")" -eq 4 ] && echo "ok - and was measured on before" || no "how often it was measured on"
[ ! -e "$t/h2/u/m/baseline.json" ] && echo "ok - an undecided night makes no baseline" || no "an undecided night made a baseline"
check "two nights at once are refused" 64 flock "$t/work/.lock" "$A" nightly --model "$t/m.gguf" --reference oracle --out "$t/work" --publish "$t/h2/q"

# the trend page
check "the trend page of three nights" 0 "$A" report --history "$t/h"
says "two nights are drawn" "2 nights"
page=$t/h/index.html
python3 - "$t/h/2026-01-02-a/nightly.json" "$t/h/2026-01-02-a/m/bench/bench.json" <<'EOP' && echo "ok - what is drawn is what is judged" || no "speed of a night"
import json, sys
c = json.load(open(sys.argv[1]))["models"][0]["cases"][0]
s = json.load(open(sys.argv[2]))["cases"][0]["series"][0]
assert c["median"] <= c["speed"] <= c["max"] and len(s["sessions"]) == 3, c
EOP
grep -q '<svg' "$page" && echo "ok - with lines" || no "the page has no line"
grep -qE '(src|href)="?(https?:|//)|@import|url\(' "$page" && no "the page loads something" || echo "ok - and nothing from outside"
sed -i 's/"n_positions": [0-9]*/"n_positions": 7777/' "$t/h/2026-01-01-a/nightly.json"
check "a night that was changed" 0 "$A" report --history "$t/h"
grep -q "changed after it was published" "$page" && echo "ok - is told apart" || no "a changed night passes"
python3 - "$page" <<'EOP' && echo "ok - data in the page is JSON without <" || no "data in the page"
import json, re, sys
t = re.search(r'id="data">(.*?)</script>', open(sys.argv[1]).read(), re.S).group(1)
assert "<" not in t and len(json.loads(t)) == 2
EOP
mkdir "$t/none"
check "no night is no page" 7 "$A" report --history "$t/none"

# one run's forms
check "report of a run" 0 "$A" report "$t/h/2026-01-02-a/m/sweep"
check "as JUnit" 0 "$A" report "$t/h/2026-01-02-a/m/sweep" --format junit
python3 -c 'import sys, xml.dom.minidom as x; d = x.parse(sys.argv[1]); assert len(d.getElementsByTagName("testcase")) == 3' "$t/out" &&
	echo "ok - JUnit is XML with three cases" || no "JUnit"
check "of a run that diverged" 1 "$A" report "$t/h2/y/m/sweep" --format junit
says "JUnit has the failure" "<failure"
check "as a page" 0 "$A" report "$t/h/2026-01-02-a/m/sweep" --format html
says "with the verdict" 'class="badge good"'
says "and a chart of every comparison" 'scenario3 against oracle'
check "a page of what diverged" 1 "$A" report "$t/h2/y/m/sweep" --format html
says "has the reason below its row" 'class="why"'
[ "$(grep -c 'class="dot miss"' "$t/out")" -ge 1 ] && echo "ok - and a red point where it began" || no "no red point"
check "as Markdown" 0 "$A" report "$t/h/2026-01-02-a/m/sweep" --format markdown
says "with a table" "| scenario1 |"
exit $bad
