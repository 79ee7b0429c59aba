#!/usr/bin/env python3
"""A night killed (SIGKILL) in each of its steps: the same command completes it and publishes once.

A step has begun when its log exists; publishing has when the folder that is renamed at its end does.
The reference computes SiLU where the model has squared ReLU, so that there is something to explain.
"""
import glob, json, os, shutil, signal, subprocess, sys, tempfile, time

ASSAY, SILU = (os.path.abspath(p) for p in sys.argv[1:3])
STEPS = ["provision-models", "sweep-tiny-bitnet", "explain-tiny-bitnet-scenario2", "bench-tiny-bitnet",
         "gate-tiny-bitnet", "baselines-tiny-bitnet", "baselines-new", "sweep-tiny-llama", "publish",
         "publish-trend-page"]
bad = 0


def check(name, fact, why=""):
    global bad
    print(f"{'ok' if fact else 'not ok'} - {name}")
    if not fact:
        bad = 1
        print(*("# " + line for line in str(why).splitlines()[-30:]), sep="\n")


class Night:
    """Two nights of one history: the second, which has a baseline, is the one that is killed."""

    def __init__(self, top):
        self.top = top
        self.env = dict(os.environ, ASSAY_CACHE=f"{top}/cache")

    def args(self, day):
        return [ASSAY, "nightly", "--tier", "ci-light", "--reference", f"exec:exec {SILU}", "--cases", "decode-16",
                "--reps", "3", "--threads", "1", "--max-slowdown", "900", "--out", f"{self.top}/work",
                "--date", f"2026-01-0{day}", "--publish", f"{self.top}/history/2026-01-0{day}-a", "--format", "json"]

    def run(self, day):
        return subprocess.run(self.args(day), env=self.env, capture_output=True, text=True, timeout=600)

    def begun(self, step, old):
        if step == "publish":
            return os.path.exists(f"{self.top}/history/2026-01-02-a.partial")
        return any(not p.startswith(tuple(old)) for p in glob.glob(f"{self.top}/work/2*/logs/*-{step}.log"))

    def kill_in(self, step):
        """True when the night died in that step; its workers and steps with it."""
        old = set(glob.glob(f"{self.top}/work/2*")) or {"-"}
        p = subprocess.Popen(self.args(2), env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while p.poll() is None and not self.begun(step, old):
            if step != "publish":
                time.sleep(0.001)
        p.send_signal(signal.SIGKILL)
        return p.wait() == -signal.SIGKILL


def left_over(top):
    """Processes of this night: its folders are in their arguments or environment."""
    found = []
    for p in glob.glob("/proc/[0-9]*"):
        try:
            if int(p[6:]) != os.getpid() and top.encode() in open(p + "/cmdline", "rb").read() + open(
                    p + "/environ", "rb").read():
                found.append(open(p + "/cmdline", "rb").read().replace(b"\0", b" "))
        except OSError:
            pass
    return found


def facts(record):
    """What a night found, without times."""
    return [(m["label"], m["scenarios"], [c["state"] for c in m["cases"]]) for m in record["models"]]


def one(first, whole, step):
    with tempfile.TemporaryDirectory() as top:
        night = Night(top)
        shutil.copytree(first, top, dirs_exist_ok=True)
        if step == "provision-models":
            shutil.rmtree(f"{top}/cache")
        check(f"{step}: killed in it", night.kill_in(step), "it had ended before")
        for _ in range(100):
            left = left_over(top)
            if not left:
                break
            time.sleep(0.1)
        check(f"{step}: no process outlives it", not left, left)
        run = max(glob.glob(f"{top}/work/2*"))
        done = open(run + "/journal.jsonl").read().count('"step"') if os.path.exists(run + "/journal.jsonl") else 0
        again = night.run(2)
        check(f"{step}: the same command completes it", again.returncode == 1, f"{again.returncode} {again.stderr}")
        record = json.loads(again.stdout or "{}")
        parts = {s["part"] for s in record.get("steps", [])}
        check(f"{step}: with every part", len(parts) == 7 and record.get("failed_part") == "sweep", parts)
        check(f"{step}: what was done is not done again", run == record.get("run") and
              sum(s["resumed"] for s in record["steps"]) in (done, done - 1), (done, record.get("steps")))
        check(f"{step}: and finds the same", facts(record) == whole, facts(record))
        twice = night.run(2)
        there = sorted(os.listdir(f"{top}/history"))
        check(f"{step}: published once", twice.returncode == 1 and there ==
              ["2026-01-01-a", "2026-01-02-a", "index.html"], there)
        gate = subprocess.run([ASSAY, "gate", f"{top}/history"], capture_output=True, text=True)
        check(f"{step}: what is published passes the gates", gate.returncode == 0, gate.stdout + gate.stderr)
        page = open(f"{top}/history/index.html").read()
        check(f"{step}: the trend page has both nights", "2026-01-01" in page and "2026-01-02" in page)


def main():
    with tempfile.TemporaryDirectory() as top:
        first = Night(top)
        ended = first.run(1)
        check("a first night", ended.returncode == 1 and json.loads(ended.stdout)["failed_part"] == "sweep", ended.stderr)
        with tempfile.TemporaryDirectory() as other:
            shutil.copytree(top, other, dirs_exist_ok=True)
            whole = facts(json.loads(Night(other).run(2).stdout))
        for step in sys.argv[3:] or STEPS:
            one(top, whole, step)
    sys.exit(bad)


main()
