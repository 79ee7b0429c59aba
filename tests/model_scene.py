"""What the tests of the model commands share: one cache, one world, one lockfile, one verdict."""
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile

import fault_server as fs

ASSAY = os.path.abspath(sys.argv[1])
TOP = tempfile.mkdtemp(prefix="assay-scenes-")
SERVER, PORT = fs.start()
MIB = 1 << 20
TUNE = "backoff_ms=4,tick_ms=4,stall_ms=2000,commit_bytes=65536,range_bytes=131072,wait_max_ms=5000"


class Scene:
    """One cache, one world, one lockfile."""
    counter = 0

    def __init__(self, size=400000, file="f.gguf", data=None, **entry):
        Scene.counter += 1
        self.folder = "%s/%d" % (TOP, Scene.counter)
        os.mkdir(self.folder)
        self.data = data if data is not None else random.Random(Scene.counter).randbytes(size)
        self.sha256 = hashlib.sha256(self.data).hexdigest()
        self.world = fs.World("s%d" % Scene.counter, self.data, self.sha256)
        fs.WORLDS[self.world.name] = self.world
        self.entry = {"id": "m", "tier": "integration", "repository": self.world.name + "/x",
                      "file": file, "size": len(self.data), "sha256": self.sha256, "licence": "MIT"}
        self.entry.update(entry)
        self.entry = {k: v for k, v in self.entry.items() if v is not None}
        self.others = []
        self.env = {k: v for k, v in os.environ.items()
                    if not k.startswith(("HF_", "ASSAY_", "XDG_", "CURL_", "SSL_")) and not k.lower().endswith("_proxy")}
        # for builds with a sanitizer: fail_io.so is loaded before its library
        self.env["ASAN_OPTIONS"] = "verify_asan_link_order=0:" + self.env.get("ASAN_OPTIONS", "")
        self.env.update(ASSAY_CACHE=self.folder + "/cache", HOME=self.folder, ASSAY_FETCH_TUNE=TUNE,
                        HF_ENDPOINT="http://127.0.0.1:%d" % PORT)
        self.lock = self.folder + "/lock.json"
        name = "model.gguf" if file.endswith(".gguf") else file
        self.dir = "%s/cache/models/%s" % (self.folder, self.sha256)
        self.path = "%s/%s" % (self.dir, name)

    def direct(self, host="127.0.0.1"):
        return "http://%s:%d/direct/%s/f.gguf" % (host, PORT, self.world.name)

    def write_lock(self):
        with open(self.lock + ".new", "w") as f:     # another fetcher may be reading it
            json.dump({"schema_version": 1, "models": [self.entry] + self.others}, f, indent=1)
        os.replace(self.lock + ".new", self.lock)

    def start(self, *args, command="fetch-models", lock=True, **env):
        self.write_lock()
        words = [ASSAY, command] + (["--lock", self.lock] if lock else []) + list(args)
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                env={**self.env, **env}, cwd=self.folder)

    def run(self, *args, **more):
        p = self.start(*args, **more)
        self.out, self.err = (b.decode(errors="replace") for b in p.communicate(timeout=60))
        return p.returncode

    def right(self):
        try:
            with open(self.path, "rb") as f:
                return hashlib.sha256(f.read()).hexdigest() == self.sha256
        except OSError:
            return False

    def json(self):
        return json.loads(self.out)["models"][0]


failures = []


def check(right, name, *details):
    if not right:
        failures.append(name)
    print(("ok - " if right else "not ok - ") + name, flush=True)
    if not right:
        for d in details:
            print("#   " + str(d)[-600:])


def expect(s, want, name, *args, says=(), file=None, **more):
    code = s.run(*args, **more)
    file = want == 0 if file is None else file
    right = code == want and s.right() == file and all(t in s.err for t in says)
    check(right, name, "exit %d, file %s" % (code, s.right()), s.err, s.out)
    return right


def end():
    """The exit status of a whole file of tests."""
    shutil.rmtree(TOP, ignore_errors=True)
    return 1 if failures else 0
