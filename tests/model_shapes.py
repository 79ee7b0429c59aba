"""
Servers of every shape that HTTP allows, and of some that it does not: bytes on a socket, no HTTP
library in between. Each ends in the file or in a clear error with its exit code.

usage: model_shapes.py ASSAY [NAME]
"""
import email.utils
import gzip
import os
import re
import socket
import struct
import sys
import threading
import time

from model_scene import Scene, check, end

ONLY = sys.argv[2] if len(sys.argv) > 2 else ""


class Request:
    def __init__(self, raw, number):
        lines = raw.decode("latin1").split("\r\n")
        self.path = lines[0].split(" ")[1]
        self.headers = {l.split(":", 1)[0].lower(): l.split(":", 1)[1].strip() for l in lines[1:] if ":" in l}
        self.number = number
        span = re.match(r"bytes=(\d+)-(\d+)$", self.headers.get("range", ""))
        self.first, self.end = (int(span[1]), int(span[2]) + 1) if span else (0, None)


class Raw:
    """shape(server, request) gives the pieces of the answer; CUT and RESET end the connection."""

    def __init__(self, shape, data, host="127.0.0.1"):
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.socket.bind((host, 0))
        self.socket.listen(64)
        self.port = self.socket.getsockname()[1]
        self.origin = "http://%s:%d" % ("[%s]" % host if ":" in host else host, self.port)
        self.shape, self.data, self.requests, self.sent = shape, data, [], 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            threading.Thread(target=self.serve, args=(self.socket.accept()[0],), daemon=True).start()

    def serve(self, c):
        waiting = b""
        try:
            while True:
                while b"\r\n\r\n" not in waiting:
                    got = c.recv(65536)
                    if not got:
                        return
                    waiting += got
                raw, waiting = waiting.split(b"\r\n\r\n", 1)
                r = Request(raw, len(self.requests) + 1)
                self.requests.append(r)
                answer = self.shape(self, r)
                for piece in [answer] if isinstance(answer, bytes) else answer:
                    if piece is RESET:
                        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    if piece in (CUT, RESET):
                        return
                    c.sendall(piece)
                    self.sent += len(piece)
        except OSError:
            pass
        finally:
            c.close()

    def saw_token(self):
        return any("t0ken" in r.headers.get("authorization", "") for r in self.requests)


CUT, RESET = "cut", "reset"


def head(status, *lines, version="1.1"):
    return "".join(l + "\r\n" for l in ["HTTP/%s %s" % (version, status), *lines, ""]).encode("latin1")


def span(s, r, *lines, etag='"v1"', version="1.1", body=None):
    """The range that is asked for."""
    last = min(r.end, len(s.data))
    body = s.data[r.first:last] if body is None else body(last - r.first)
    tag = ["ETag: " + etag] if etag else []
    return head("206 Partial Content", "Content-Length: %d" % len(body), "Content-Range: bytes %d-%d/%d" %
                (r.first, last - 1, len(s.data)), *tag, *lines, version=version) + body


def whole(s, *lines, version="1.1"):
    return head("200 OK", "Content-Length: %d" % len(s.data), *lines, version=version) + s.data


def chunked(body):
    pieces = [body[i:i + 10000] for i in range(0, len(body), 10000)]
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


def none(status, *lines):
    return head(status, "Content-Length: 0", *lines)


def multipart(s, r):
    body = b"--B\r\nContent-Range: bytes 0-9/400000\r\n\r\n0123456789\r\n--B--\r\n"
    return head("206 Partial Content", "Content-Type: multipart/byteranges; boundary=B",
                "Content-Length: %d" % len(body)) + body


def relative(s, r):
    hops = {"/f.gguf": ("302", "a/b"), "/a/b": ("307", "../c?x=1&y=2"), "/c?x=1&y=2": ("308", "?z"),
            "/c?z": ("301", "//127.0.0.1:%d/d%%20e#part" % s.port), "/d%20e": ("303", "/end")}
    return none(hops[r.path][0] + " Moved", "Location: " + hops[r.path][1]) if r.path in hops else span(s, r)


def drip(answer, at, pause):
    yield answer[:at]
    for byte in answer[at:]:
        yield bytes([byte])
        time.sleep(pause)


def to_end(s, r, *pieces):
    return pieces if r.path != "/end" else [span(s, r)]


ZIP = gzip.compress(bytes(400000))
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 400000\n"
LONG = ["X-%d: %s" % (i, "a" * 100) for i in range(10000)]
# name, what is answered, exit code, words of the error
SHAPES = [
    ("HTTP/1.0", lambda s, r: [whole(s, version="1.0"), CUT], 0),
    ("HTTP/1.0 without a length", lambda s, r: [head("200 OK", version="1.0"), s.data, CUT], 0),
    ("HTTP/1.0 without a length, cut once",
     lambda s, r: [head("200 OK", version="1.0"), s.data[:200000 if r.number == 1 else None], CUT], 0),
    ("HTTP/1.0 without a length, always cut",
     lambda s, r: [head("200 OK", version="1.0"), s.data[:200000], CUT], 14, "ended early"),
    ("HTTP/1.0 with ranges", lambda s, r: [span(s, r, version="1.0"), CUT], 0),
    ("no ranges, always cut at half", lambda s, r: [whole(s)[:200000], CUT], 14, "remaining"),
    ("no ranges, each time a little more", lambda s, r: [whole(s)[:60000 * r.number], CUT], 0),
    ("chunked", lambda s, r: head("200 OK", "Transfer-Encoding: chunked") + chunked(s.data), 0),
    ("chunked, always cut",
     lambda s, r: [head("200 OK", "Transfer-Encoding: chunked"), chunked(s.data)[:100000], CUT], 14, "failed"),
    ("chunks of nonsense", lambda s, r: [head("200 OK", "Transfer-Encoding: chunked"), b"zz\r\n", CUT], 14),
    ("Accept-Ranges: none", lambda s, r: whole(s, "Accept-Ranges: none"), 0),
    ("multipart/byteranges", multipart, 14, "another range"),
    ("gzip, unasked", lambda s, r: head("200 OK", "Content-Encoding: gzip",
                                        "Content-Length: %d" % len(ZIP)) + ZIP, 14, "encoded as gzip"),
    ("a weak ETag", lambda s, r: span(s, r, etag='W/"a"'), 0),
    ("no ETag", lambda s, r: span(s, r, etag=None), 0),
    ("another ETag each time", lambda s, r: span(s, r, etag='"%d"' % r.number), 0),
    ("416 without a range", lambda s, r: none("416 R"), 14, "416"),
    ("a range of unknown total", lambda s, r: span(s, r).replace(b"/400000", b"/*", 1), 0),
    ("100 and 103 before the answer", lambda s, r: [head("100 Continue"), head("103 Hints", "Link: x"), span(s, r)], 0),
    ("100 without end", lambda s, r: (head("100 Continue") for _ in range(100000)), 14),
    ("204", lambda s, r: head("204 No Content"), 14, "204"),
    ("no HTTP", lambda s, r: [b"SSH-2.0-OpenSSH_9\r\n", CUT], 14),
    ("no head", lambda s, r: [s.data, CUT], 14),
    ("a header of 1 MB", lambda s, r: [whole(s, "X: " + "a" * 1000000), CUT], 14),
    ("headers of 1 MB", lambda s, r: [whole(s, *LONG), CUT], 14),
    ("headers of 60 KB", lambda s, r: span(s, r, *LONG[:500]), 0),
    ("a head that drips", lambda s, r: drip(span(s, r), 0, 0.1), 14, "has not answered"),
    ("a body that drips", lambda s, r: drip(span(s, r), 200, 0.3), 14, "sent next to nothing"),
    ("one body of several drips", lambda s, r: drip(span(s, r), 200, 0.3) if r.number == 3 else span(s, r), 0),
    ("reset before the head", lambda s, r: [RESET] if r.number % 2 else span(s, r), 0),
    ("reset in the head", lambda s, r: [span(s, r)[:10], RESET] if r.number % 2 else span(s, r), 0),
    ("reset in the body", lambda s, r: [span(s, r)[:40000], RESET] if r.number % 2 else span(s, r), 0),
    ("reset after the body", lambda s, r: [span(s, r), RESET], 0),
    ("reset always", lambda s, r: [RESET], 14),
    ("closed against its word", lambda s, r: [span(s, r, "Connection: keep-alive"), CUT], 0),
    ("503 for a second", lambda s, r: none("503 B", "Retry-After: 1") if r.number == 1 else span(s, r), 0),
    ("503 until a date", lambda s, r: none("503 B", "Retry-After: " + email.utils.formatdate(
        time.time() + 2, usegmt=True)) if r.number == 1 else span(s, r), 0),
    ("503 for an hour", lambda s, r: none("503 B", "Retry-After: 3600"), 12, "3600 s asked for"),
    ("429 without a time", lambda s, r: none("429 B") if r.number < 3 else span(s, r), 0),
    ("429 for ages", lambda s, r: none("429 B", "Retry-After: " + "9" * 30), 12, "long enough"),
    ("a web page of the right size", lambda s, r: whole(s, "Content-Type: text/html"), 14, "web page"),
    ("a page without a type", lambda s, r: head("200 OK", "Transfer-Encoding: chunked") + chunked(b"<html>"), 14),
    ("other bytes of the right size", lambda s, r: span(s, r, body=bytes), 13, "SHA-256"),
    ("a Git LFS pointer", lambda s, r: head("200 OK", "Content-Length: %d" % len(POINTER)) + POINTER, 13,
     "expected 400000"),
    ("302, 307, 308, 301, 303, relative", relative, 0),
    ("302 with an endless body", lambda s, r: to_end(s, r, head("302 F", "Location: /end"), *[bytes(65536)] * 999), 0),
    ("302 to a signature of 7 KB", lambda s, r: none("302 F", "Location: /" + "a" * 7000)
     if r.path == "/f.gguf" else span(s, r), 0),
    ("302 to nowhere", lambda s, r: none("302 F"), 14, "no usable address"),
    ("a cookie is needed", lambda s, r: none("302 F", "Set-Cookie: a=b", "Location: /f.gguf"), 14, "circle"),
    ("400 once a signature is old", lambda s, r: none("302 F", "Location: /%d" % len(s.requests))
     if r.path == "/f.gguf" else none("400 Expired") if r.number % 7 == 0 else span(s, r), 0),
    ("400", lambda s, r: none("400 B", "X-Error-Message: no such thing"), 14, "no such thing"),
    ("401", lambda s, r: none("401 U", "WWW-Authenticate: Basic realm=x"), 11, "denied"),
]


def shapes():
    for name, shape, code, *says in SHAPES:
        if ONLY not in name:
            continue
        s = Scene(size=400000, repository=None)
        server = Raw(shape, s.data)
        s.entry["mirrors"] = [server.origin + "/f.gguf"]
        got = s.run("--retries", "3", HF_TOKEN="t0ken", ASSAY_FETCH_TUNE=s.env["ASSAY_FETCH_TUNE"].replace(
            "stall_ms=2000", "stall_ms=500"))
        check(got == code and s.right() == (code == 0) and os.path.exists(s.path) == (code == 0) and
              all(t in s.err for t in says) and not server.saw_token(),
              "%s: %s" % (name, "the file" if code == 0 else "exit %d" % code), "exit %d" % got, s.err)


def ipv6():
    s = Scene()
    try:
        server = Raw(span, s.data, "::1")
    except OSError as e:
        print("skip - IPv6 # %s" % e)
        return
    code = s.run(HF_ENDPOINT=server.origin, HF_TOKEN="t0ken")
    check(code == 0 and s.right() and server.saw_token(), "a hub at [::1] gets its token", code, s.err)


def tokens():
    """Neither a clever Location nor a proxy gets the token."""
    for where in ("http://{hub}@{far}/x", "http://{hub}\\@{far}/x", "//{far}/x", "http://{far}#@{hub}/",
                  "http://{far}?@{hub}/", "HTTP://{far}/"):
        s = Scene()
        far = Raw(span, s.data, "127.0.0.3")
        hub = Raw(lambda h, r: none("302 F", "Location: " + where.format(
            hub=h.origin[7:], far=far.origin[7:])), s.data)
        code = s.run(HF_ENDPOINT=hub.origin, HF_TOKEN="t0ken")
        check(code == 0 and hub.saw_token() and not far.saw_token(), "the token stays at home: " + where, code, s.err)
    s = Scene()
    hub = Raw(span, s.data)
    code = s.run(HF_ENDPOINT=hub.origin, HF_TOKEN="t0ken", http_proxy="http://u:pass@proxy.invalid:3128")
    check(code == 0 and hub.saw_token(), "a proxy elsewhere does not see what is meant for this machine", code, s.err)
    s = Scene()
    code = s.run("--retries", "0", HF_ENDPOINT="http://hub.test", http_proxy="http://u:pass@no such host:1")
    check(code == 14 and "pass" not in s.err, "a proxy's password is not printed", code, s.err)


def main():
    shapes()
    if not ONLY:
        ipv6()
        tokens()
    return end()


sys.exit(main())
