"""
fetch-models and cache as users meet them, one situation after the other.

usage: model_scenarios.py ASSAY FAIL_IO.so [NAME]
"""
import errno
import fcntl
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile

import fault_server as fs
from model_scene import ASSAY, MIB, PORT, TOP, Scene, check, end, expect

FAIL_IO = os.path.abspath(sys.argv[2])
ONLY = sys.argv[3] if len(sys.argv) > 3 else ""


# ---- the hub ----------------------------------------------------------------------------------

def hub_shapes():
    s = Scene()
    expect(s, 0, "resolve, 302, CDN with a signature", HF_TOKEN="t0ken")
    check(s.out.strip() == s.path, "standard output is the path", s.out)
    check(s.world.authorized == 1 and not s.world.leaked, "the token is seen by the hub alone")
    n, origins = len(s.world.requests), s.world.origins
    begin = time.time()
    expect(s, 0, "a second call", "--format", "json")
    check(len(s.world.requests) == n and s.world.origins == origins and
          s.json()["how"] == "cached", "transfers nothing")
    check(time.time() - begin < 2, "and returns at once")
    s = Scene()
    s.world.at_bytes = [(100000, lambda: setattr(s.world, "signature", 9))]
    expect(s, 0, "a signature that expires in mid-file is renewed")
    check(s.world.origins > 1, "at the origin")
    os.makedirs(s.folder + "/hf")
    with open(s.folder + "/hf/token", "w") as f:
        f.write("filed\n")
    s = Scene()
    s.world.need_token = "filed"
    os.makedirs(s.folder + "/hf")
    with open(s.folder + "/hf/token", "w") as f:
        f.write("filed\n")
    expect(s, 0, "the token of HF_HOME/token", HF_HOME=s.folder + "/hf")


def gated():
    s = Scene()
    s.world.need_token = "right"
    page = "http://127.0.0.1:%d/%s/x" % (PORT, s.world.name)
    expect(s, 11, "gated (401) without a token", says=(page, "HF_TOKEN", "restricted"))
    expect(s, 11, "with a wrong one", HF_TOKEN="wrong", says=(page, "account"))
    s.world.origin_script = [("status", (403, {}))]
    expect(s, 11, "gated (403)", HF_TOKEN="right", says=(page,))
    expect(s, 0, "with the right one", HF_TOKEN="right")


def contradictions():
    for name, linked in (("hash", {"X_Linked_ETag": '"%s"' % ("a" * 64)}),
                         ("size", {"X_Linked_Size": "5"}), ("commit", {"X_Repo_Commit": "1" * 40})):
        s = Scene(revision="0" * 40)
        s.world.origin_script = [("linked", linked)]
        expect(s, 13, "the hub announces another %s" % name, says=("nothing was downloaded",))
        check(s.world.sent == 0 and not s.world.requests, "nothing is transferred then")
        expect(s, 0, "and all is well when it does not")
    s = Scene()
    s.world.permanent = ("total", 77)
    expect(s, 13, "a range of a file of another size", says=("77",))


def redirects():
    s = Scene()
    s.world.origin_script = [("loop", None)] * 40
    expect(s, 14, "a circle of redirects", says=("circle",))
    for where in ("file:///etc/passwd", "ftp://127.0.0.1/x", "http://", "gopher://x/"):
        s = Scene()
        s.world.origin_script = [("to", where)] * 9
        expect(s, 14, "a redirect to %s" % where, says=("no usable address",))
    s = Scene()
    other = Scene()
    s.world.origin_script = [("to", other.direct("127.0.0.3"))] * 9
    other.world.permanent = None
    expect(s, 13, "a redirect to a foreign host with another file", HF_TOKEN="t0ken", file=False)
    check(not other.world.leaked, "which never sees the token")


def tls():
    _, port = fs.start(certificate("wrong.test"))
    s = Scene(repository=None)
    url = "https://127.0.0.1:%d/direct/%s/f.gguf" % (port, s.world.name)
    s.entry["mirrors"] = [url]
    expect(s, 14, "a wrong certificate", says=("certificate",))
    check(s.world.sent == 0, "and nothing was asked of it")
    s.entry["mirrors"] = [url, s.direct()]
    expect(s, 0, "the next mirror serves")


def certificate(name, *extra):
    """A key and a certificate that signs itself."""
    pem = "%s/%s.pem" % (TOP, name)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", pem, "-out",
                    pem + ".crt", "-days", "2", "-subj", "/CN=" + name, *extra], check=True,
                   stderr=subprocess.DEVNULL)
    with open(pem + ".crt") as f, open(pem, "a") as out:
        out.write(f.read())
    return pem


def connect_proxy():
    """https through a proxy that only tunnels: end to end TLS, the token inside it alone."""
    pem = certificate("hub.test", "-addext", "subjectAltName=DNS:hub.test")
    _, hub = fs.start(pem)
    _, proxy = fs.start(handler=fs.Tunnel)
    s = Scene(size=2 * MIB, repository=None)
    fs.Tunnel.world = s.world
    fs.Tunnel.where = {"hub.test:%d" % hub: "127.0.0.1:%d" % hub}
    s.entry["mirrors"] = ["https://hub.test:%d/direct/%s/f.gguf" % (hub, s.world.name)]
    env = {"https_proxy": "http://user:word@127.0.0.1:%d" % proxy, "SSL_CERT_FILE": pem + ".crt"}
    expect(s, 0, "https through a CONNECT proxy", HF_TOKEN="t0ken",
           HF_ENDPOINT="https://hub.test:%d" % hub, **env)
    heads = [h for _, h in s.world.tunnels]
    check(s.world.tunnels and all(where == "hub.test:%d" % hub for where, _ in s.world.tunnels),
          "every connection is a tunnel to the hub's name", s.world.tunnels)
    check(all("authorization" not in h for h in heads) and s.world.leaked,
          "the token goes through the tunnel, not to the proxy", heads)
    check(all(h.get("proxy-authorization", "").startswith("Basic ") for h in heads),
          "the proxy gets its own password", heads)
    shutil.rmtree(s.folder + "/cache")
    s.world.origin_script = [("status", (502, {}))] * 2
    expect(s, 0, "a proxy that fails twice", **env)
    shutil.rmtree(s.folder + "/cache")
    s.world.origin_script = [("status", (407, {}))] * 60
    expect(s, 14, "a proxy that refuses", "--retries", "1", says=("407",), **env)
    s.world.origin_script = []
    expect(s, 14, "the tunnel does not make a wrong certificate right", "--retries", "1",
           says=("certificate",), **{**env, "SSL_CERT_FILE": certificate("other.test") + ".crt"})
    n = len(s.world.tunnels)
    expect(s, 14, "no_proxy goes past it", "--retries", "0", no_proxy="hub.test", **env)
    check(len(s.world.tunnels) == n, "and asks it nothing", s.world.tunnels[n:])


# ---- waiting ----------------------------------------------------------------------------------

def limits():
    s = Scene()
    s.world.permanent = ("status", (429, {"Retry_After": "0"}))
    expect(s, 12, "429 for ever", "--retries", "2", says=("429",))
    s = Scene()
    s.world.permanent = ("status", (429, {"Retry_After": "3600"}))
    begin = time.time()
    expect(s, 12, "429 with an hour to wait", says=("3600",))
    check(time.time() - begin < 5, "is not waited for")
    s = Scene()
    s.world.script = [("status", (429, {"Retry_After": fs.http_date(2)}))]
    begin = time.time()
    expect(s, 0, "429 with a date")
    check(time.time() - begin >= 0.9, "is waited for", time.time() - begin)
    s = Scene()
    s.world.permanent = ("status", (500, {}))
    expect(s, 14, "500 for ever", "--retries", "2", says=("500",))
    s = Scene()
    s.world.permanent = ("status", (429, {"Retry_After": "4"}))
    other = Scene(data=s.data)
    s.entry["mirrors"] = [other.direct()]
    begin = time.time()
    expect(s, 0, "another mirror serves while the first asks for patience")
    check(time.time() - begin < 3.5, "at once", time.time() - begin)


def stalls():
    s = Scene(size=2 * MIB)
    s.world.script = [("stall", 40000)]
    begin = time.time()
    expect(s, 0, "one range of several stalls")
    check(s.world.sent < 2 * MIB + 600000, "it reconnects alone", s.world.sent)


# ---- wrong bodies -----------------------------------------------------------------------------

def bodies():
    s = Scene()
    s.world.permanent = ("html", None)
    expect(s, 14, "a web page instead of the file", says=("web page",))
    s = Scene()
    s.world.permanent = ("endless", None)
    expect(s, 0, "a range without end is cut at its end")
    # much lies in the socket: the end is found while a paused transfer goes on
    s = Scene(size=4 * MIB)
    s.world.permanent, s.world.block = ("endless", None), MIB
    begin = time.time()
    expect(s, 0, "a fast range without end", "--connections", "1", 
           ASSAY_FETCH_TUNE="stall_ms=50000,tick_ms=4,commit_bytes=4096,range_bytes=65536")
    check(time.time() - begin < 8, "is cut at once, not when libcurl looks again", time.time() - begin)
    s = Scene()
    s.entry["size"] = len(s.data)
    s.world.permanent = ("whole-chunked", None)
    expect(s, 0, "no ranges and no length")
    s = Scene()
    s.world.permanent = ("whole", None)
    expect(s, 0, "no ranges")
    s = Scene()
    s.world.permanent = ("corrupt", 5)
    expect(s, 13, "damaged every time", says=("SHA-256",))
    check(not os.path.exists(s.path + ".part"), "nothing of it is kept", os.listdir(TOP))
    s = Scene()
    s.world.script = [("corrupt", 5)]
    expect(s, 0, "damaged once")
    s = Scene()
    s.world.permanent = ("range", 3)
    expect(s, 14, "always another range than asked", "--retries", "2", says=("another range",))
    s = Scene(size=20 * MIB)
    s.entry["chunk_sha256"] = [hashlib.sha256(s.data[i:i + 8 * MIB]).hexdigest()
                               for i in range(0, len(s.data), 8 * MIB)]
    s.world.script = [(None, None)] * 3 + [("corrupt", 9)]
    expect(s, 0, "damaged once, with chunk hashes", "--format", "json", says=("damaged",))
    check(s.json()["transferred"] <= len(s.data) + 8 * MIB + 200000, "only the chunk comes again", s.out)


def sizes_unknown():
    for fault in (None, "whole", "whole-chunked"):
        s = Scene(file="tokenizer.json", size=300000)
        del s.entry["size"]
        s.world.permanent = (fault, None)
        s.world.origin_script = [("linked", {"X_Linked_Size": ""})] * 20
        expect(s, 0, "a size that only the server knows (%s)" % (fault or "ranges"))
    s = Scene(file="tokenizer.json", size=300000)
    del s.entry["size"]
    s.world.permanent = ("corrupt", 9)
    expect(s, 13, "and a wrong file then")


def mirrors():
    s = Scene(size=2 * MIB)
    other = Scene(data=s.data)
    s.entry["mirrors"] = [other.direct()]
    s.world.script = [(None, None)] * 2  # less than the file, however large its ranges grow meanwhile
    s.world.permanent = ("drop", 0)
    expect(s, 0, "the source dies in mid-file", "--retries", "2", says=("going on from",))
    asked = end_of = 0      # bytes, each once: the rest of a slow range is asked for by two
    for a, b in sorted(other.world.requests):
        asked += max(0, b - max(a, end_of))
        end_of = max(end_of, b)
    check(0 < asked < 2 * MIB, "the mirror gives the rest only", asked)
    s = Scene()
    other = Scene(data=s.data)
    s.entry["mirrors"] = [other.direct()]
    s.world.need_token = "none"
    expect(s, 0, "a gated source with an open mirror")
    s = Scene()
    s.entry["mirrors"] = ["http://127.0.0.1:1/nobody", s.direct().replace("direct/s", "direct/none")]
    s.world.need_token = "none"
    expect(s, 11, "no source at all", "--retries", "1", says=("none of 3 sources",))


def whole_once():
    """A server without ranges sends the file once, however many connections there might be."""
    s = Scene(size=8 * MIB, repository=None)
    s.entry["mirrors"] = [s.direct()]
    s.world.permanent = ("whole", None)
    expect(s, 0, "a server without ranges", "--format", "json")
    check(s.json()["transferred"] == 8 * MIB, "sends the file once", s.out)


def refused_once():
    """A mirror that has sent some of the file and refuses a request: neither gated nor the end."""
    s = Scene(size=MIB, repository=None)
    s.entry["mirrors"] = [s.direct()]
    s.world.script = [(None, None)] * 3 + [("status", (403, {}))]
    expect(s, 0, "a mirror refuses one of its requests", says=("403",))
    s = Scene(size=MIB, repository=None)
    s.entry["mirrors"] = [s.direct()]
    s.world.script = [(None, None)] * 3
    s.world.permanent = ("status", (403, {}))
    expect(s, 11, "and every further one", "--retries", "2", says=("403", "access is denied"))


# ---- people and other processes ---------------------------------------------------------------

def interrupted():
    s = Scene(size=2 * MIB)
    s.world.permanent = ("slow", 0.02)
    p = s.start("--events", "jsonl")
    while s.world.sent < MIB:
        time.sleep(0.01)
    p.send_signal(signal.SIGINT)
    _, err = p.communicate(timeout=20)
    check(p.returncode == 130 and b"kept" in err, "Ctrl-C ends with 130", p.returncode, err)
    check(os.path.exists(s.path + ".part") and not os.path.exists(s.path), "and keeps the part")
    events = [json.loads(l) for l in err.decode().splitlines() if l.startswith("{")]
    check([e["event"] for e in events][0] == "fetch.started" and events[-1]["event"] == "fetch.failed"
          and events[-1]["exit_code"] == 130, "events are JSON lines", err)
    s.world.permanent = None
    before = s.world.sent
    expect(s, 0, "the same command goes on", "--format", "json")
    check(s.json()["resumed"] > MIB / 2 and s.world.sent - before < 1.5 * MIB, "where it was", s.out)


def together():
    s = Scene(size=MIB)
    s.world.permanent = ("slow", 0.005)
    processes = [s.start("--format", "json") for _ in range(3)]
    ends = [(p.communicate(timeout=60)[0], p.returncode) for p in processes]
    moved = [json.loads(out)["models"][0]["transferred"] for out, _ in ends]
    check([c for _, c in ends] == [0, 0, 0] and s.right() and sorted(moved)[:2] == [0, 0],
          "of three fetchers one transfers", moved, ends)
    s = Scene(size=MIB)
    s.world.permanent = ("slow", 0.05)
    first = s.start()
    while s.world.sent < MIB / 3:
        time.sleep(0.005)
    second = s.start("--format", "json")
    time.sleep(0.2)
    first.kill()
    first.communicate()
    out, _ = second.communicate(timeout=60)
    check(second.returncode == 0 and s.right() and json.loads(out)["models"][0]["resumed"] > 0,
          "when the one is killed, the waiting one goes on from there", out)


def offline_and_proxy():
    s = Scene()
    expect(s, 14, "HF_HUB_OFFLINE", HF_HUB_OFFLINE="1", says=("HF_HUB_OFFLINE",))
    check(s.world.origins == 0, "asks nobody")
    expect(s, 0, "through a proxy", HF_ENDPOINT="http://hub.test", HF_TOKEN="t0ken",
           http_proxy="http://127.0.0.1:%d" % PORT)
    check(s.world.proxied > 1 and s.world.authorized == 0,
          "the token does not travel over plain http to another machine", s.world.proxied)
    s = Scene()
    expect(s, 14, "nobody listens", "--retries", "1", HF_ENDPOINT="http://127.0.0.1:1")
    check(not os.path.exists(s.dir), "and nothing is left of it", os.path.exists(s.dir))


def space():
    s = Scene(size=1000)
    s.entry["size"] = 1 << 42
    expect(s, 18, "no room for 4 TiB", says=("GB", "ASSAY_CACHE"))
    check(s.world.origins == 0, "is known before the first byte")
    s = Scene()
    expect(s, 18, "no room when it is allocated", LD_PRELOAD=FAIL_IO, FAIL_IO="fallocate:1:28")
    s = Scene(size=4 * MIB)
    expect(s, 18, "no room in the middle", says=("make room",), LD_PRELOAD=FAIL_IO,
           FAIL_IO="write:150:28:always")
    check(os.path.exists(s.path + ".part"), "the part is kept")
    expect(s, 0, "and gone on from", "--format", "json")
    check(s.json()["resumed"] > 0, "where it was", s.out)
    s = Scene()
    expect(s, 0, "a file system that cannot allocate", LD_PRELOAD=FAIL_IO, FAIL_IO="fallocate:1:95")


# ---- the cache --------------------------------------------------------------------------------

def adoption():
    s = Scene(size=MIB)
    blob = "%s/.cache/huggingface/hub/models--o--x/blobs/%s" % (s.folder, s.sha256)
    os.makedirs(os.path.dirname(blob))
    with open(blob, "wb") as f:
        f.write(s.data[:-1] + bytes([s.data[-1] ^ 1]))
    expect(s, 0, "a damaged file in a Hugging Face cache is passed over")
    check(s.world.sent >= MIB, "and fetched")
    shutil.rmtree(s.folder + "/cache")
    with open(blob, "wb") as f:
        f.write(s.data)
    os.chmod(blob, 0o640)
    s.world.sent = 0
    expect(s, 0, "a right one is adopted", says=("taken from",))
    check(s.world.sent == 0, "without a transfer")
    check(os.stat(blob).st_mode & 0o777 == 0o640, "the other's file stays as it is")
    s = Scene(size=1000, file="tokenizer.json")
    snapshot = "%s/hub/models--%s--x/snapshots/abc" % (s.folder, s.world.name)
    os.makedirs(snapshot)
    with open(snapshot + "/tokenizer.json", "wb") as f:
        f.write(s.data)
    expect(s, 0, "a small file is found in a snapshot", HF_HUB_CACHE=s.folder + "/hub")
    check(s.world.origins == 0, "without a request")


def hashing_is_heard():
    s = Scene(size=1000)
    s.entry["size"] = 3 << 30
    blob = "%s/.cache/huggingface/hub/models--o--x/blobs/%s" % (s.folder, s.sha256)
    os.makedirs(os.path.dirname(blob))
    with open(blob, "wb") as f:
        f.truncate(3 << 30)
    code = s.run("--events", "jsonl", HF_HUB_OFFLINE="1")
    events = [json.loads(line) for line in s.err.splitlines() if line.startswith("{")]
    steps = [e for e in events if e["event"] == "hash.progress"]
    check(code == 14 and steps and all(e["id"] == "m" and 0 < e["bytes"] <= e["total"] == 3 << 30 for e in steps),
          "a file that takes long to hash is heard of each second", code, s.err)


def unwritable():
    s = Scene()
    with open(s.folder + "/file", "w"):
        pass
    for cache, why in ((s.folder + "/file/cache", "Not a directory"), ("/proc/self/x", "")):
        expect(s, 64, "a cache that cannot be made is not an internal error", says=("set ASSAY_CACHE", why),
               ASSAY_CACHE=cache)


def ways_of_adoption():
    """Shared extents, a hard link, a copy: in this order; an edit of what is linked is noticed."""
    for why, calls in ((None, ["clone", "link"]), (errno.EXDEV, ["clone", "link", "clone", "copy"])):
        s = Scene(size=MIB)
        blob = "%s/.cache/huggingface/hub/models--o--x/blobs/%s" % (s.folder, s.sha256)
        os.makedirs(os.path.dirname(blob))
        with open(blob, "wb") as f:
            f.write(s.data)
        log = s.folder + "/calls"
        fail = {"FAIL_IO": "link:1:%d" % why} if why else {}
        expect(s, 0, "adopted" + (" where no link can be made" if why else ""), "--format", "json",
               LD_PRELOAD=FAIL_IO, FAIL_IO_LOG=log, **fail)
        with open(log) as f:
            seen = list(dict.fromkeys(f.read().split())) if not why else f.read().split()
        linked = os.stat(blob).st_ino == os.stat(s.path).st_ino
        shared = seen == ["clone"]      # this filesystem shares extents
        check(shared or seen[:len(calls)] == calls and linked == (not why),
              "by " + ("shared extents" if shared else calls[-1]), seen, linked)
        with open(blob, "r+b") as f:    # its owner edits the other file
            f.write(b"edited")
        expect(s, 0, "and the other file edited: the cache is right still", "--format", "json")
        check(s.json()["how"] == ("downloaded" if linked else "cached"), "which was noticed", s.out, s.err)


def damage():
    s = Scene(size=20 * MIB)
    s.entry["chunk_sha256"] = [hashlib.sha256(s.data[i:i + 8 * MIB]).hexdigest()
                               for i in range(0, len(s.data), 8 * MIB)]
    expect(s, 0, "20 MiB")
    times = os.stat(s.path)
    os.chmod(s.path, 0o644)
    with open(s.path, "r+b") as f:
        f.seek(9 * MIB)
        f.write(b"\0\0\0\0")
    os.utime(s.path, ns=(times.st_atime_ns, times.st_mtime_ns))
    check(s.run("verify", command="cache") == 13 and "damaged" in s.out, "cache verify finds the damage",
          s.out, s.err)
    s.world.sent, s.world.requests = 0, []
    code = s.run("verify", "--repair", command="cache")
    check(code == 0 and s.right(), "cache verify --repair repairs it", code, s.out, s.err)
    # and what lies in the sockets of connections whose rest another one has taken over
    check(s.world.sent <= 8 * MIB + 8 * 320 * 1024, "and fetches one chunk", s.world.sent)
    os.chmod(s.path, 0o644)
    with open(s.path, "r+b") as f:
        f.write(b"\1\2\3\4")
    expect(s, 0, "fetch-models notices a changed file", says=("not what the lockfile says",))


def is_leased(s):
    with open(s.dir + "/lease", "a") as lease:
        try:
            fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True


def leases():
    """What a command works with is not deleted under it, however the command came to it."""
    fixture = TOP + "/fixture.gguf"
    subprocess.run([ASSAY, "gen-fixtures", "--preset", "tiny-bitnet", "--out", fixture, "-q"], check=True,
                   stdout=subprocess.DEVNULL)
    with open(fixture, "rb") as f:
        s = Scene(data=f.read())
    expect(s, 0, "a model")
    os.symlink(s.path, s.folder + "/link.gguf")
    shutil.copy(fixture, s.folder + "/other.gguf")
    inside = s.dir + "/files/sub/inside.gguf"
    hang = ["--engine", "exec:sleep 8"]
    both = hang + ["--reference", "exec:sleep 8", "--prompt", "hi"]
    for name, command, args in (
            ("logits", "logits", ["--model", s.path, *hang, "hi"]),
            ("crossval", "crossval", ["--model", s.path, *both]),
            ("a sweep", "sweep", ["--model", s.path, *both[:4], "--workers", "2"]),
            ("a sweep's reference", "sweep", ["--model", "other.gguf", "--reference-model", s.path, *both[:4]]),
            ("a sweep's tokenizer", "sweep", ["--model", "other.gguf", "--tokenizer", s.path, *both[:4]]),
            ("a sweep, through a link", "sweep", ["--model", "link.gguf", *both[:4]]),
            ("a sweep, out of an archive", "sweep", ["--model", inside, *both[:4]]),
            ("the first of a nightly's models", "nightly",
             ["--model", s.path, "--model", "other.gguf", *both[:4], "--publish", s.folder + "/docs"])):
        os.makedirs(s.dir + "/files/sub", exist_ok=True)
        shutil.copy(fixture, inside)
        p = s.start(*args, command=command, lock=False)
        end = time.time() + 10
        while time.time() < end and p.poll() is None and not is_leased(s):
            time.sleep(0.02)
        code = s.run("prune", "--yes", "--older-than", "0", command="cache")
        kept = s.run("clean", "m", "--yes", command="cache") == 0 and "in use" in s.out
        check(p.poll() is None and code == 0 and kept and s.right(),
              "a model stays while %s works with it" % name, p.poll(), s.out,
              p.communicate()[1] if p.poll() is not None else "")
        p.kill()
        p.communicate()
        if not s.right():
            s.run()
    end = time.time() + 10  # its workers see their end a moment later
    while time.time() < end and is_leased(s):
        time.sleep(0.02)
    check(not is_leased(s), "the end of the command is the end of its lease")


def clean_up():
    s = Scene(size=MIB)
    expect(s, 0, "a model")
    check(open(s.folder + "/cache/CACHEDIR.TAG").read().startswith(
        "Signature: 8a477f597d28d172789f06886806bc55"), "the cache is tagged")
    code = s.run("ls", "--format", "json", command="cache")
    item = json.loads(s.out)["items"][0]
    check(code == 0 and item["id"] == "m" and item["state"] == "ready" and item["bytes"] >= MIB,
          "cache ls", s.out)
    check(s.run("clean", command="cache") == 64, "clean wants to know what")
    check(s.run("prune", "--yes", "--older-than", "-1", command="cache") == 64 and s.right(),
          "an age below zero is refused", s.err)
    for verb in ("ls", "verify", "clean", "prune"):
        check(s.run(verb, "mm", "--yes", command="cache") == 64 and '"mm"' in s.err and s.right(),
              "%s of a name that nobody knows is refused" % verb, s.out, s.err)
    s.others = [dict(s.entry, id="other", sha256="b" * 64)]
    check(s.run("verify", "other", command="cache") == 7 and "nothing was verified" in s.err,
          "verify of what is not there has verified nothing", s.out, s.err)
    s.others = []
    check(s.run("clean", "--all", command="cache") == 0 and s.right() and "--yes" in s.err,
          "clean deletes nothing without --yes", s.out, s.err)
    with open(s.dir + "/lease", "a") as lease:
        fcntl.flock(lease, fcntl.LOCK_SH)
        check(s.run("clean", "--all", "--yes", command="cache") == 0 and s.right() and
              "in use" in s.out, "a lease keeps a model", s.out)
    with open(s.dir + "/mine.txt", "w") as f:
        f.write("mine")
    check(s.run("clean", "m", "--yes", command="cache") == 0 and not os.path.exists(s.path) and
          os.path.exists(s.dir + "/mine.txt"), "clean deletes the model, not a user's file", s.out, s.err)
    s = Scene(size=MIB)
    s.world.permanent = ("drop", 60000)
    s.run("--retries", "0")
    check(os.path.exists(s.path + ".part"), "an unfinished part", s.err)
    check(s.run("prune", "--yes", command="cache") == 0 and not os.path.exists(s.dir),
          "prune deletes it", s.out, s.err)
    expect(s, 14, "download-model fails alike", "--retries", "0", command="download-model",
           says=("closed with",))
    s.world.permanent = None
    expect(s, 0, "download-model", command="download-model")
    check(s.run("--all", "--yes", command="clean-cache") == 0 and not s.right(), "clean-cache", s.out)


def placing():
    s = Scene()
    expect(s, 0, "--out NAME", "--out", s.folder + "/here.gguf")
    check(open(s.folder + "/here.gguf", "rb").read() == s.data, "places the file")
    expect(s, 0, "--out FOLDER/", "--out", s.folder + "/sub/")
    check(open(s.folder + "/sub/f.gguf", "rb").read() == s.data, "places it there")
    os.remove(s.folder + "/here.gguf")
    with open(s.folder + "/here.gguf", "w") as f:
        f.write("precious")
    expect(s, 64, "another file is not replaced", "--out", s.folder + "/here.gguf", file=True)
    check(open(s.folder + "/here.gguf").read() == "precious", "it is as it was")
    expect(s, 0, "but with --force", "--out", s.folder + "/here.gguf", "--force")


def lockfile():
    s = Scene()
    expect(s, 0, "--lock-check", "--lock-check", file=False)
    s.entry["sha256"] = "xyz"
    check(s.run() == 64 and "models/0/sha256" in s.err and "lock.json:" in s.err,
          "a bad lockfile is refused with its line", s.err)
    s = Scene(file="new.gguf")
    lock = s.folder + "/own.json"
    url = "%s/%s/x/resolve/main/new.gguf" % (s.env["HF_ENDPOINT"], s.world.name)
    code = s.run("--lock", lock, "--lock-add", url, lock=False)
    check(code == 0 and s.right() and "trusted on first use" in s.err, "--lock-add", code, s.out, s.err)
    entry = json.load(open(lock))["models"][0]
    check(entry["sha256"] == s.sha256 and entry["repository"] == s.world.name + "/x" and
          entry["revision"] == "0" * 40 and entry["file"] == "new.gguf" and
          entry["size"] == len(s.data) and entry["chunk_sha256"] == [s.sha256], "writes repository, commit, size and hash", entry)
    s.world.sent = 0
    check(s.run("--lock", lock, "--id", "new.gguf", lock=False) == 0 and s.world.sent == 0,
          "and the entry is found in the cache", s.err)
    check(s.run("--lock-add", url, lock=False) == 64, "--lock-add needs --lock", s.err)
    code = s.run("--lock", lock, "--lock-add", url, lock=False)
    check(code == 64 and "already" in s.err and s.world.sent == 0, "a taken id is refused before the transfer", s.err)
    code = s.run("--lock", s.folder + "/none/own.json", "--lock-add", url, lock=False)
    check(code == 64 and "cannot be written" in s.err and s.world.sent == 0, "and so is a folder that is not there", s.err)
    check(s.run("--id", "nonsense") == 64 and "there are: m" in s.err, "an unknown id", s.err)


def generated():
    s = Scene()
    code = s.run("--tier", "ci-light", "--format", "json", lock=False)
    item = json.loads(s.out)["models"][0] if s.out else {}
    check(code == 0 and item["how"] == "generated", "the ci-light model is generated", code, s.err)
    check(hashlib.sha256(open(item["path"], "rb").read()).hexdigest() == item["sha256"],
          "and is what the lockfile pins")
    code = s.run("--tier", "ci-light", "--format", "json", lock=False)
    check(code == 0 and json.loads(s.out)["models"][0]["how"] == "cached", "once")


def archives():
    def tar(entries):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz") as t:
            for name, data, kind in entries:
                info = tarfile.TarInfo(name)
                info.type, info.size = kind, len(data) if kind == tarfile.REGTYPE else 0
                info.linkname = data.decode() if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
                t.addfile(info, io.BytesIO(data))
        return out.getvalue()

    reg, sym, hard = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
    s = Scene(file="m.tar.gz", data=tar([("a/b.gguf", b"model", reg), ("c.json", b"{}", reg)]))
    expect(s, 0, "an archive", says=("2 entries",))
    check(open(s.dir + "/files/a/b.gguf").read() == "model", "is unpacked")
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as t:
        info = tarfile.TarInfo("z.gguf")
        info.size = 6
        t.addfile(info, io.BytesIO(b"packed"))
    body = plain.getvalue()     # a Zstandard frame (RFC 8878) of one raw block
    frame = b"\x28\xb5\x2f\xfd\xa0" + len(body).to_bytes(4, "little")
    frame += (1 | len(body) << 3).to_bytes(3, "little") + body
    s = Scene(file="m.tar.zst", data=frame)
    expect(s, 0, "a tar.zst")
    check(open(s.dir + "/files/z.gguf").read() == "packed", "is unpacked")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("x.gguf", "zipped")
    s = Scene(file="m.zip", data=out.getvalue())
    expect(s, 0, "a zip")
    check(open(s.dir + "/files/x.gguf").read() == "zipped", "is unpacked")
    for name, entries in (("out of the folder", [("../evil", b"x", reg)]),
                          ("to an absolute path", [("/tmp/assay-evil", b"x", reg)]),
                          ("through a link", [("l", b"/tmp", sym), ("l/assay-evil", b"x", reg)]),
                          ("by a hard link", [("h", b"/etc/passwd", hard)]),
                          ("twice to one name", [("a", b"1", reg), ("a", b"2", reg)]),
                          ("below a file", [("a", b"1", reg), ("a/b", b"2", reg)]),
                          ("for a device", [("d", b"", tarfile.CHRTYPE)]),
                          ("with a bomb", [("big", bytes(64 * MIB), reg)]),
                          ("without entries", [])):
        s = Scene(file="m.tar.gz", data=tar(entries))
        code = s.run()
        check(code == 15 and not os.path.exists(s.dir + "/files") and
              not os.path.exists("/tmp/assay-evil") and os.listdir(s.dir).count("files") == 0,
              "an archive that reaches %s is refused" % name, code, s.err)
    s = Scene(file="m.tar.gz", size=5000)
    expect(s, 15, "an archive that is none", file=True)
    s = Scene(file="m.tar.gz", data=tar([("\u00e9\u2603.gguf", b"x", reg), ("b", os.urandom(MIB), reg)]))
    s.world.permanent = ("slow", 0.01)
    both = [s.start() for _ in range(3)]
    ends = [p.communicate(timeout=60) and p.returncode for p in both]
    check(ends == [0, 0, 0] and os.path.exists(s.dir + "/files/\u00e9\u2603.gguf"),
          "three fetchers unpack one archive, its names in UTF-8", ends)
    code = s.run("ls", "--format", "json", command="cache")
    check(json.loads(s.out)["items"][0]["bytes"] >= MIB, "cache ls counts what is unpacked", s.out)
    shutil.rmtree(s.dir + "/files")
    os.makedirs(s.dir + "/files.unpacking/sub")
    with open(s.dir + "/files.unpacking/sub/old", "w") as f:
        f.write("of a killed run")
    expect(s, 0, "what a killed run has unpacked")
    check(not os.path.exists(s.dir + "/files/sub"), "is not mixed with it")
    shutil.copytree(s.dir + "/files", s.dir + "/files.unpacking")
    check(s.run("prune", "--yes", command="cache") == 0 and not os.path.exists(s.dir + "/files.unpacking")
          and s.right(), "prune deletes it", s.out)
    os.makedirs(s.dir + "/files.unpacking/sub")
    check(s.run("clean", "m", "--yes", command="cache") == 0 and not os.path.exists(s.dir), "and clean", s.out)


def failing_io():
    """Each n-th failing call leaves a cache that the next run repairs."""
    for call, errno_ in (("write", 5), ("write", 28), ("fsync", 5), ("rename", 5), ("ftruncate", 5),
                         ("open", 24), ("open", 13), ("fallocate", 5)):
        n, broken, wrong = 0, 0, []
        while n < 200:
            n += 1
            s = Scene(size=300000)
            code = s.run(LD_PRELOAD=FAIL_IO, FAIL_IO="%s:%d:%d" % (call, n, errno_))
            if code == 0:
                if not s.right():
                    wrong.append((n, "exit 0 without the file"))
                again = s.run()
                if again != 0 or not s.right():
                    wrong.append((n, again, s.err))
                shutil.rmtree(s.folder)
                # nothing failed any more, a few times over: every call has been tried
                broken += 1
                if broken > 3:
                    break
                continue
            broken = 0
            if os.path.exists(s.path) and not s.right():
                wrong.append((n, "a wrong file under the final name"))
            if code not in ((64, 70) if errno_ == errno.EACCES else (18, 70)) or not s.err.strip():
                wrong.append((n, code, s.err))
            if s.run() != 0 or not s.right():
                wrong.append((n, "not repaired", s.err))
            shutil.rmtree(s.folder)
        check(not wrong and 200 > n > 4 - (call == "fallocate"), "each of %d failing %s (errno %d) is survived" %
              (n - 4, call, errno_), *wrong[:3])


def main():
    scenes = [hub_shapes, gated, contradictions, redirects, tls, connect_proxy, limits, stalls, bodies, sizes_unknown,
              mirrors, whole_once, refused_once, interrupted, together, offline_and_proxy, space, adoption,
              ways_of_adoption, hashing_is_heard, unwritable, damage, leases, clean_up, placing, lockfile, generated,
              archives, failing_io]
    for scene in scenes:
        if ONLY in scene.__name__:
            scene()
    return end()


sys.exit(main())
