#!/usr/bin/env python3
"""Types a line and TAB at an interactive shell in a terminal and looks at what stands there then.

usage: ci/tab.py bash|zsh|fish COMPLETION_FILE
Prints "ok - …" and "not ok - …" lines; exit 1 when one is not ok.
"""
import os, pty, re, select, shutil, signal, sys, tempfile, time

shell, file = sys.argv[1], os.path.abspath(sys.argv[2])
CASES = [  # typed, what has to appear
    ("assay swe\t", ["assay sweep"]),
    ("assay sweep --mod\t", ["--model"]),
    ("assay bench --format \t\t", ["json", "markdown", "text"]),
    ("assay nigh\t", ["assay nightly"]),
    ("assay nightly --ti\t", ["--tier"]),
    ("assay check-\t", ["check-perf"]),
]


def start():
    home = tempfile.mkdtemp()
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(home)
        env = {"HOME": home, "TERM": "xterm", "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "COLUMNS": "160"}
        args = {"bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"], "fish": ["fish", "--no-config", "-i"]}[shell]
        os.execvpe(args[0], args, env)
    os.set_blocking(fd, False)
    return pid, fd, home


def read(fd, seconds, until=None):
    text, end = "", time.time() + seconds
    while time.time() < end:
        if select.select([fd], [], [], 0.1)[0]:
            try:
                got = os.read(fd, 65536).decode(errors="replace")
            except OSError:
                break
            # fish asks the terminal who it is and where the cursor stands
            if "\x1b[c" in got or "\x1b[0c" in got:
                os.write(fd, b"\x1b[?62;c")
            if "\x1b[6n" in got:
                os.write(fd, b"\x1b[1;1R")
            text += got
            if until and until in plain(text):
                return text
    return text


def plain(text):
    text = re.sub(r"\x1b\][^\x07\x1b]*(\x07|\x1b\\)|\x1b[\[?][0-9;?>=]*[ -/]*[@-~]|\x1b[()=>][B0]?|[\x00-\x08\x0e-\x1f]", "", text)
    return text.replace("\r", "\n")


SETUP = {
    "bash": f"PS1=; bind 'set show-all-if-ambiguous on'; bind 'set enable-bracketed-paste off'; source {file}",
    "zsh": f"PS1=; fpath=({os.path.dirname(file)} $fpath); autoload -Uz compinit; compinit -u -d $HOME/dump",
    "fish": f"source {file}",
}
bad = 0
for typed, wanted in CASES:
    pid, fd, home = start()
    read(fd, 1.0)
    os.write(fd, (SETUP[shell] + "; echo rea''dy\n").encode())
    read(fd, 20, "ready")
    read(fd, 0.5)
    os.write(fd, typed.encode())
    seen, end = "", time.time() + 10
    while time.time() < end and not all(w in seen for w in wanted):
        seen += plain(read(fd, 0.5))
    name = f"{shell}: {typed.strip()!s} and TAB gives {' '.join(wanted)}"
    if all(w in seen for w in wanted):
        print(f"ok - {name}")
    else:
        bad = 1
        print(f"not ok - {name}\n# {seen!r}")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(fd)
    shutil.rmtree(home, ignore_errors=True)
sys.exit(bad)
