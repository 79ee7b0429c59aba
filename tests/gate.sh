#!/usr/bin/env bash
# The gates on real receipts: of a run that passes, of edited ones, of another directory; the schema
# by an independent validator (ajv) where one is installed.
set -u
B=${B:-build/cc}
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
bad=0
check() { # name, expected status, command…
	local name=$1 want=$2 got
	shift 2
	"$@" >"$t/log" 2>&1
	got=$?
	if [ $got -eq "$want" ]; then echo "ok - $name"; else
		echo "not ok - $name (exit $got, expected $want)"; tail -n 30 "$t/log" | sed 's/^/# /'; bad=1
	fi
}
says() { # text that the last command must have said
	if grep -qF -- "$1" "$t/log"; then echo "ok - says \"$1\""; else
		echo "not ok - does not say \"$1\""; tail -n 20 "$t/log" | sed 's/^/# /'; bad=1
	fi
}
check "a model" 0 "$B/assay" gen-fixtures --preset tiny-bitnet --out "$t/m.gguf"
check "a run with receipts" 0 "$B/assay" sweep --model "$t/m.gguf" --engine native --reference oracle --out "$t/run" --threads 2
check "all receipts pass" 0 "$B/assay" gate "$t/run"
check "with the model at hand and run again twice" 0 "$B/assay" gate "$t/run/scenario3/receipt.json" --model "$t/m.gguf" --rerun 2 --require
cp -r "$t/run/scenario3" "$t/elsewhere"
check "from another directory" 0 "$B/assay" gate "$t/elsewhere/receipt.json"
(cd / && "$OLDPWD/$B/assay" gate "$t/elsewhere" >/dev/null) && echo "ok - and working in another one" ||
	{ echo "not ok - the gate needs its own directory"; bad=1; }
check "another seed's model is another model" 0 "$B/assay" gen-fixtures --preset tiny-bitnet --seed 5 --out "$t/other.gguf"
check "a wrong model is refused" 20 "$B/assay" gate "$t/elsewhere/receipt.json" --model "$t/other.gguf"
grep -q "the model's file has SHA-256" "$t/log" && echo "ok - and said so" || { echo "not ok - no word about the hash"; bad=1; }
check "with what cannot be checked here required" 20 "$B/assay" gate "$t/elsewhere/receipt.json" --require
mkdir "$t/empty"
check "an empty folder is not a pass" 7 "$B/assay" gate "$t/empty"
check "mapper knows every tensor" 0 "$B/assay" gate mapper --model "$t/m.gguf"

G=("$B/tests/seal" "$t/m.gguf")
python3 tests/gate.py "$B/assay" "$t/run/scenario3/receipt.json" "${G[@]}" "$t/run/scenario1/receipt.json" || bad=1
python3 tests/gate.py "$B/assay" "$t/run/summary.json" "${G[@]}" || bad=1
check "an engine alone" 0 "$B/assay" sweep --model "$t/m.gguf" --backend native --out "$t/alone" --threads 2
check "passes, run again too" 0 "$B/assay" gate "$t/alone/scenario3/receipt.json" --model "$t/m.gguf" --rerun 1 --require
python3 tests/gate.py "$B/assay" "$t/alone/scenario3/receipt.json" "${G[@]}" "$t/alone/scenario1/receipt.json" || bad=1

# a summary that came alone is unchecked; beside some of its receipts it is wrong
mkdir "$t/lone" && cp "$t/run/summary.json" "$t/lone"
check "a summary without its receipts" 0 "$B/assay" gate "$t/lone"
check "is not checked by them" 20 "$B/assay" gate "$t/lone" --require
cp -r "$t/run/scenario1" "$t/lone"
check "with one of three it is wrong" 20 "$B/assay" gate "$t/lone"

# a scenario that the summary leaves out, everything else made to fit
cp -r "$t/run" "$t/less"
python3 - "$t/less/summary.json" <<'EOP'
import json, sys
r = json.load(open(sys.argv[1]))
r["scenarios"] = [s for s in r["scenarios"] if s["id"] != "scenario2"]
r["n_done"] -= 1
r["n_planned"] -= 1
del r["content_sha256"]
json.dump(r, open(sys.argv[1], "w"))
EOP
"$B/tests/seal" "$t/less/summary.json"
check "a summary that leaves a scenario out" 20 "$B/assay" gate "$t/less/summary.json"
says "scenario scenario2 was done in this run (journal.jsonl), the summary leaves it out"
rm -r "$t/less/scenario2"
check "its receipt removed, too" 20 "$B/assay" gate "$t/less/summary.json"
cp -r "$t/run/scenario2" "$t/less" && rm "$t/less/journal.jsonl"
check "the journal removed instead: unchecked" 20 "$B/assay" gate "$t/less/summary.json" --require
says "scenario2/receipt.json is here, the summary does not tell it"

# every count, counter, series and time times eight: all fits but the prompt
cp -r "$t/run/scenario3" "$t/longer" && rm "$t/longer/tokens.json"
python3 - "$t/longer/receipt.json" <<'EOP'
import json, sys
r = json.load(open(sys.argv[1]))
for s in r["engines"].values():
    s["counters"] = {k: 8 * v for k, v in s["counters"].items()}
    s["n_positions"] = s["done"]["n_pos"] = 8 * s["n_positions"]
    s["n_tokens"] = s["n_positions"] - len(s["greedy"]) + 1
    s["eval_us"] = s["done"]["eval_us"] = 8 * s["eval_us"]
r["tokens"]["n_ours"] = r["tokens"]["n_reference"] = r["engines"]["ours"]["n_tokens"]
for k in ("per_token_cosine_sim", "per_token_l2_dist"):
    r[k] *= 8
for k in r["positions"]:
    r["positions"][k] *= 8
s = r["summary"]
s["n_positions"] *= 8
s["n_bits_equal"] *= 8
s["n_decode"] = len(r["engines"]["ours"]["greedy"]) - 1
s["n_prefill"] = s["n_positions"] - s["n_decode"]
r["wall_us"] *= 8
del r["content_sha256"]
json.dump(r, open(sys.argv[1], "w"))
EOP
"$B/tests/seal" "$t/longer/receipt.json"
check "a run of eight times the length" 20 "$B/assay" gate "$t/longer"
says "ids of a prompt of 13 bytes"

# a command that a receipt names is not run because somebody checks the receipt
cp -r "$t/run/scenario3" "$t/command"
sed -i "s|\"engine\": \"native\"|\"engine\": \"exec:touch $t/ran\"|" "$t/command/receipt.json"
"$B/assay" gate "$t/command" --model "$t/m.gguf" --rerun 1 >"$t/log" 2>&1
[ ! -e "$t/ran" ] && echo "ok - a command in a receipt is not run" || { echo "not ok - a command in a receipt was run"; bad=1; }
says "not run unasked: --run-commands"
"$B/assay" gate "$t/command" --model "$t/m.gguf" --rerun 1 --run-commands >"$t/log" 2>&1
[ -e "$t/ran" ] && echo "ok - unless that is asked for" || { echo "not ok - --run-commands runs nothing"; bad=1; }

# one bad file hides no other
mkdir "$t/mixed" && cp -r "$t/run"/scenario[12] "$t/mixed" && echo '{"kind": ' >"$t/mixed/scenario1/receipt.json"
# what lies there instead of a receipt is refused, and reading ends
mkdir -p "$t/pipes/x" && mkfifo "$t/pipes/x/receipt.json" "$t/pipe"
check "a pipe among the receipts is not waited for" 20 timeout 60 "$B/assay" gate "$t/pipes"
check "nor by a report" 20 timeout 60 "$B/assay" report "$t/pipe"
check "nor as a baseline" 20 timeout 60 "$B/assay" check-perf --baseline "$t/pipe" "$t/pipe"
check "a pipe that somebody writes to is a receipt" 0 "$B/assay" gate <(cat "$t/run/scenario3/receipt.json")
truncate -s 8G "$t/huge.json"
check "8 GiB are no receipt" 20 timeout 60 "$B/assay" gate "$t/huge.json"
check "nor for a report" 20 timeout 60 "$B/assay" report "$t/huge.json"
rm "$t/huge.json"
check "a file that is no JSON fails the gate" 20 "$B/assay" gate "$t/mixed"
grep -q "1 receipts passed, 1 are invalid" "$t/log" && echo "ok - and the next is still looked at" ||
	{ echo "not ok - the rest was not looked at"; bad=1; }
printf 'another prompt' >"$t/elsewhere/prompt.txt"
check "another prompt beside the receipt" 20 "$B/assay" gate "$t/elsewhere/receipt.json"

check "a bench" 0 "$B/assay" bench --model "$t/m.gguf" --against oracle --cases decode-4,prefill-8,load --reps 6 --sessions 2 \
	--threads 1 --out "$t/bench" --quiet
check "passes too" 0 "$B/assay" gate "$t/bench" --model "$t/m.gguf" --require
grep -q "a bench claims nothing of the kind" "$t/log" && echo "ok - and what it does not claim is not ticked off" ||
	{ echo "not ok - gates that looked at nothing are ticked off"; bad=1; }
python3 tests/gate.py "$B/assay" "$t/bench/bench.json" "${G[@]}" || bad=1

# what may differ between two runs of one scenario: when, how long, how much memory
check "the same run again" 0 "$B/assay" sweep --model "$t/m.gguf" --engine native --reference oracle --out "$t/again" --threads 2
python3 - "$t/run" "$t/again" <<'EOP' && echo "ok - receipts of two runs are equal but for times and memory" || { echo "not ok - two runs differ"; bad=1; }
import glob, json, os, sys
times = {"started", "finished", "wall_us", "compare_us", "eval_us", "prefill_us", "open_us", "tokens_per_second",
         "peak_kib", "peak_rss_bytes", "content_sha256"}
def differences(a, b, path=""):
    if isinstance(a, dict) and isinstance(b, dict):
        for k in a.keys() | b.keys():
            if k not in times:
                yield from differences(a.get(k), b.get(k), path + "." + k)
    elif a != b:
        yield path
found = sorted(glob.glob(sys.argv[1] + "/*/receipt.json"))
assert len(found) == 3, found
for f in found:
    other = f.replace(sys.argv[1], sys.argv[2], 1)
    assert os.path.samefile(f, other) is False
    d = list(differences(json.load(open(f)), json.load(open(other))))
    assert not d, (f, d)
EOP

# the engine is a grandchild: what a shell holds is not what the engine holds
W="exec:true; $PWD/$B/assay-worker --engine native; exit \$?"
check "an engine behind a shell" 0 "$B/assay" sweep --model "$t/m.gguf" --engine "$W" --reference native --out "$t/shell" --threads 2
check "its memory is the engine's" 0 "$B/assay" gate "$t/shell"

"$B/assay" receipt keygen "$t/key" >/dev/null
sed 's/"verdict": "[A-Z_]*"/"verdict": "IDENTICAL"/' "$t/run/scenario3/receipt.json" >"$t/lie.json"
check "a changed receipt is not signed" 20 "$B/assay" receipt sign "$t/lie.json" --key "$t/key"
check "a folder is no key" 64 "$B/assay" receipt sign "$t/run/scenario3/receipt.json" --key "$t"
grep -q "not a regular file" "$t/log" && echo "ok - and said so" || { echo "not ok - no word about the folder"; bad=1; }
check "a receipt is signed" 0 "$B/assay" receipt sign "$t/run/scenario3/receipt.json" --key "$t/key"
check "and verified" 0 "$B/assay" receipt verify "$t/run/scenario3/receipt.json.dsse.json" --pub "$t/key.pub" --receipt "$t/run/scenario3/receipt.json"
check "another receipt is not the signed one" 20 "$B/assay" receipt verify "$t/run/scenario3/receipt.json.dsse.json" --pub "$t/key.pub" --receipt "$t/run/scenario1/receipt.json"

# keys of other kinds: refused with a word, and nobody is asked for a passphrase
if command -v openssl >/dev/null; then
	openssl genpkey -algorithm ed25519 -aes256 -pass pass:x -out "$t/locked" 2>/dev/null
	openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out "$t/rsa" 2>/dev/null
	chmod 600 "$t/locked" "$t/rsa"
	check "an encrypted key" 64 timeout 20 setsid "$B/assay" receipt sign "$t/run/scenario3/receipt.json" --key "$t/locked"
	says "not an unencrypted PEM private key"
	script -qec "timeout 20 $B/assay receipt sign $t/run/scenario3/receipt.json --key $t/locked" /dev/null </dev/null >"$t/log" 2>&1
	grep -q "pass phrase" "$t/log" && { echo "not ok - asks for a passphrase"; bad=1; } || echo "ok - and nothing is asked on a terminal"
	check "an RSA key" 20 "$B/assay" receipt sign "$t/run/scenario3/receipt.json" --key "$t/rsa"
	says "not an Ed25519 key"
	check "a private key as the public one" 64 "$B/assay" receipt verify "$t/run/scenario3/receipt.json.dsse.json" --pub "$t/key"
	check "a receipt as the envelope" 20 "$B/assay" receipt verify "$t/run/scenario3/receipt.json" --pub "$t/key.pub"
else
	echo "skip - keys of other kinds # no openssl here"
fi
check "a key that cannot be written whole" 18 bash -c "ulimit -f 0; trap '' XFSZ; exec $B/assay receipt keygen $t/full"
[ ! -e "$t/full" ] && [ ! -e "$t/full.pub" ] && echo "ok - leaves nothing behind" || { echo "not ok - half a key is left"; bad=1; }

ajv() { # the independent validator: npm ajv, kept beside the build
	local dir=build/ajv
	[ -d "$dir/node_modules/ajv" ] || (mkdir -p "$dir" && cd "$dir" && npm init -y >/dev/null 2>&1 &&
		npm install --silent --no-fund --no-audit ajv@8 >/dev/null 2>&1)
	[ -d "$dir/node_modules/ajv" ] || return 77
	NODE_PATH=$dir/node_modules node -e '
		const Ajv = require("ajv"), fs = require("fs");
		const v = new Ajv({strict: false, allErrors: true}).compile(JSON.parse(fs.readFileSync("docs/schema/receipt-1.0.0.schema.json")));
		for (const f of process.argv.slice(1))
			if (!v(JSON.parse(fs.readFileSync(f)))) { console.error(f, v.errors); process.exit(1); }' "$@"
}
if command -v npm >/dev/null; then
	ajv "$t"/run/scenario*/receipt.json "$t"/alone/scenario*/receipt.json "$t/run/summary.json" "$t/bench/bench.json" >"$t/log" 2>&1
	case $? in
	0) echo "ok - ajv accepts receipts of two and of one, the summary and the bench" ;;
	77) echo "skip - ajv # the npm package could not be installed" ;;
	*) echo "not ok - ajv refuses a receipt"; sed 's/^/# /' "$t/log" | head -30; bad=1 ;;
	esac
else
	echo "skip - ajv # no npm here"
fi
exit $bad
