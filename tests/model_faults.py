"""
Seeded schedules of faults against fetch-models, each crossed with kill -9 at random bytes, with one
and with two fetchers. What must hold, whatever happens:

  - under a final name there is the right file or none;
  - what was on disk before a kill is not fetched again, but for commit_bytes per connection (and
    what the sockets held);
  - every run ends, with the file or with a code and a sentence.

usage: model_faults.py ASSAY SCHEDULES [FIRST_SEED]
"""
import concurrent.futures
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

import fault_server as fs

ASSAY = os.path.abspath(sys.argv[1])
SCHEDULES = int(sys.argv[2])
FIRST = int(sys.argv[3]) if len(sys.argv) > 3 else 1
CONNECTIONS, COMMIT = 4, 65536
SOCKETS = 320 << 10     # per connection: in the server's and the fetcher's socket
CHUNK = 8 << 20
TOP = tempfile.mkdtemp(prefix="assay-faults-")
server, PORT = fs.start()
subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", TOP + "/key", "-out",
                TOP + "/crt", "-days", "2", "-subj", "/CN=wrong.test"], check=True, stderr=subprocess.DEVNULL)
with open(TOP + "/pem", "w") as pem:
    pem.write(open(TOP + "/key").read() + open(TOP + "/crt").read())
HTTPS_PORT = fs.start(TOP + "/pem")[1]
SERVED = set()
TUNE = "backoff_ms=4,tick_ms=4,stall_ms=250,commit_bytes=%d,range_bytes=131072,wait_max_ms=5000" % COMMIT


def direct(world, port, scheme="http"):
    """The same file at a host that must never see the token."""
    return "%s://127.0.0.3:%d/direct/%s/f.gguf" % (scheme, port, world.name)


def lockfile(path, world, chunks, mirror=False):
    model = {"id": "m", "tier": "integration", "repository": world.name + "/x", "file": "f.gguf",
             "size": len(world.data), "sha256": world.sha256, "licence": "MIT"}
    model["revision"] = world.revision
    if mirror:
        model["mirrors"] = [direct(world, PORT)]
    if chunks:
        model["chunk_sha256"] = [hashlib.sha256(world.data[i:i + CHUNK]).hexdigest()
                                 for i in range(0, len(world.data), CHUNK)]
    with open(path, "w") as f:
        json.dump({"schema_version": 1, "models": [model]}, f)


def environment(folder):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "ASSAY_")) and
           not k.lower().endswith("_proxy")}
    env.update(ASSAY_CACHE=folder + "/cache", HF_ENDPOINT="http://127.0.0.1:%d" % PORT, HOME=folder,
               ASSAY_FETCH_TUNE=TUNE, HF_TOKEN="secret", UV_THREADPOOL_SIZE="4")
    env.pop("XDG_CACHE_HOME", None)
    return env


def begin(folder):
    return subprocess.Popen([ASSAY, "fetch-models", "--lock", folder + "/lock.json", "--id", "m",
                             "--connections", str(CONNECTIONS), "--format", "json", "--quiet"],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(folder))


def end(process, problems):
    try:
        out, err = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        problems.append("a run did not end within 60 s")
        return -1, {}, ""
    code = process.returncode
    try:
        result = json.loads(out)["models"][0] if out else {}
    except (ValueError, LookupError):
        result = {}
        if code != -signal.SIGKILL:
            problems.append("exit %d with broken JSON" % code)
    return code, result, err.decode(errors="replace").strip()


def final_is_right(folder, world, problems):
    path = "%s/cache/models/%s/model.gguf" % (folder, world.sha256)
    if not os.path.exists(path):
        return False
    with open(path, "rb") as f:
        if hashlib.sha256(f.read()).hexdigest() != world.sha256:
            problems.append("a wrong file under the final name")
    return True


def on_disk(folder, world):
    """What the journal says is on disk: bytes that must not be asked for again."""
    path = "%s/cache/models/%s/model.gguf.part.journal" % (folder, world.sha256)
    held = bytearray(len(world.data))
    try:
        data = open(path, "rb").read()
    except OSError:
        return held
    for at in range(128, len(data) - 127, 128):
        if int.from_bytes(data[at + 4:at + 8], "little") == 2:
            a = int.from_bytes(data[at + 8:at + 16], "little")
            b = int.from_bytes(data[at + 16:at + 24], "little")
            held[a:b] = b"\1" * (b - a)
    return held


def schedule(seed):
    rng = random.Random(seed)
    folder = "%s/%d" % (TOP, seed)
    os.mkdir(folder)
    size = rng.choice([1, 4095, 65536, 300001, 1 << 20, 1500000, 3 << 20])
    data = rng.randbytes(size)
    world = fs.World("w%d" % seed, data, hashlib.sha256(data).hexdigest())
    fs.WORLDS[world.name] = world
    world.script, world.origin_script = fs.random_faults(
        rng, size, direct(world, PORT), direct(world, HTTPS_PORT, "https"))
    faults = world.script + world.origin_script
    restarts = any(f[0] in ("etag", "corrupt", "whole", "whole-chunked") for f in faults)
    chunks, mirror = rng.random() < 0.5, rng.random() < 0.25
    lockfile(folder + "/lock.json", world, chunks, mirror)
    # a 403 of a mirror is no signature that has expired: with the hub dead the run ends so
    codes = (11, 12, 13, 14) if mirror and any(f[0] == "expire" for f in faults) else (12, 13, 14)
    problems, log, done = [], [], False
    two = seed % 4 == 0
    kills = rng.randrange(0, 4)
    for attempt in range(12):
        held = on_disk(folder, world)
        world.requests.clear()
        processes = [begin(folder) for _ in range(2 if two else 1)]
        if attempt < kills:
            victim = rng.choice(processes)
            at = world.sent + rng.randrange(1, max(2, size))
            world.at_bytes = [(at, lambda p=victim: p.send_signal(signal.SIGKILL))]
        before = world.sent
        ends = [end(p, problems) for p in processes]
        world.at_bytes = []
        there = final_is_right(folder, world, problems)
        log.append([(c, e[-160:]) for c, _, e in ends])
        # ranges of the journal are asked for again only when something started over; the server
        # may write down a killed run's last request only now
        if not restarts:
            again = sum(sum(held[a:b]) for a, b in world.requests)
            if again > COMMIT:
                problems.append("%d bytes that were on disk are asked for again" % again)
        if two and not restarts and all(c == 0 for c, _, _ in ends):
            if min(r.get("transferred", 1) for _, r, _ in ends) != 0:
                problems.append("both of two fetchers transferred")
        for code, result, err in ends:
            if code == 0:
                done = True
                if not there:
                    problems.append("exit 0 without the file")
            elif code == -signal.SIGKILL:
                pass
            elif code not in codes:
                problems.append("exit %d: %s" % (code, err[-300:]))
            elif not err:
                problems.append("exit %d without a sentence" % code)
        if done and attempt >= kills:
            break
        if done:
            shutil.rmtree(folder + "/cache")
            done = False
            world.sent = 0
    if not done:
        problems.append("never done in 12 runs")
    if world.leaked:
        problems.append("the token went to another origin")
    if not world.authorized:
        problems.append("the token did not go to its own origin")
    SERVED.update(world.served)
    fs.WORLDS.pop(world.name)
    shutil.rmtree(folder, ignore_errors=True)
    return seed, problems, faults, log


def resume_bound():
    """Kills alone: per kill at most commit_bytes per connection, and the sockets, come twice."""
    worst = 0
    for seed in range(20):
        rng = random.Random(9000 + seed)
        folder = "%s/bound-%d" % (TOP, seed)
        os.mkdir(folder)
        data = rng.randbytes(6 << 20)
        world = fs.World("b%d" % seed, data, hashlib.sha256(data).hexdigest())
        fs.WORLDS[world.name] = world
        lockfile(folder + "/lock.json", world, False)
        kills = 3
        problems = []
        for _ in range(kills):
            process = begin(folder)
            world.at_bytes = [(world.sent + rng.randrange(1 << 20, 2 << 20),
                               lambda p=process: p.send_signal(signal.SIGKILL))]
            end(process, problems)
            world.at_bytes = []
        code, result, err = end(begin(folder), problems)
        if code != 0 or not final_is_right(folder, world, problems):
            problems.append("exit %d: %s" % (code, err))
        twice = (world.sent - len(data)) / kills
        worst = max(worst, twice)
        shutil.rmtree(folder, ignore_errors=True)
        if problems:
            return "seed %d: %s" % (seed, problems), worst
    return None, worst


def say(right, name, detail=""):
    print("%sok - %s%s" % ("" if right else "not ", name, detail if not right else ""), flush=True)
    return right


def main():
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        for seed, problems, faults, log in pool.map(schedule, range(FIRST, FIRST + SCHEDULES)):
            if problems:
                bad += 1
                print("# seed %d: %s\n#   faults %s\n#   runs %s" % (seed, problems, faults, log))
    right = say(bad == 0, "%d schedules of faults, each crossed with kill -9" % SCHEDULES,
                ": %d of them went wrong" % bad)
    missing = set(fs.KINDS + fs.ORIGIN_KINDS) - SERVED
    right &= say(SCHEDULES < 200 or not missing, "each of %d kinds of fault was served" %
                 len(fs.KINDS + fs.ORIGIN_KINDS), ": not " + ", ".join(sorted(missing)))
    problem, worst = resume_bound()
    limit = CONNECTIONS * (COMMIT + SOCKETS)
    right &= say(problem is None, "20 downloads killed three times each go on", ": %s" % problem)
    right &= say(worst <= limit, "a kill costs at most %d KiB (here: %d)" %
                 (limit >> 10, int(worst) >> 10), ": %d KiB" % (int(worst) >> 10))
    shutil.rmtree(TOP, ignore_errors=True)
    return 0 if right else 1


sys.exit(main())
