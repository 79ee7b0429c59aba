"""
A loopback HTTP server that misbehaves to order: what a test puts into World.script decides, request
by request, how the answer goes wrong. It shapes its URLs like the hub: an origin at 127.0.0.1 that
redirects (302, X-Linked-*) to a "CDN" at 127.0.0.2 with a signature that expires.
"""
import email.utils
import http.server
import os
import random
import socket
import socketserver
import ssl
import struct
import threading
import time


class World:
    """One file as one fetcher sees it, and everything that is counted about it."""

    def __init__(self, name, data, sha256, script=(), revision="0" * 40):
        self.name, self.data, self.sha256 = name, data, sha256
        self.script = list(script)      # [([kind,] fault, argument)], one per request of the CDN
        self.origin_script = []         # the same for the origin
        self.revision = revision
        self.lock = threading.Lock()
        self.sent = 0                   # body bytes handed to sockets
        self.requests = []              # (from, to) asked of the CDN
        self.at_bytes = []              # [(sent, function)], called once when sent reaches it
        self.leaked = []                # Authorization seen where it must not be
        self.authorized = 0
        self.signature = 0
        self.permanent = None           # a fault for every request
        self.etag = '"v1"'
        self.need_token = None
        self.block = 16384
        self.proxied = 0
        self.origins = 0                # requests of the origin
        self.served = set()             # kinds of the script, where it names them
        self.tunnels = []               # CONNECTs of a proxy

    def next_fault(self, origin):
        with self.lock:
            script = self.origin_script if origin else self.script
            if script:
                *kind, what, argument = script.pop(0)
                self.served.update(k for k in kind if k)
                return what, argument
            if not origin and self.permanent:
                return self.permanent
            return None, None

    def count(self, n):
        due = []
        with self.lock:
            self.sent += n
            while self.at_bytes and self.sent >= self.at_bytes[0][0]:
                due.append(self.at_bytes.pop(0)[1])
        for f in due:
            f()


WORLDS = {}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20

    def log_message(self, *args):
        pass

    def do_GET(self):
        try:
            self.answer()
        except (ConnectionError, TimeoutError, BrokenPipeError):
            self.close_connection = True

    def head(self, status, length, **headers):
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def refuse(self, status, **headers):
        body = b"refused\n"
        self.head(status, len(body), **headers)
        self.wfile.write(body)

    def answer(self):
        if self.path.startswith("http://"):     # asked as a proxy
            self.path = "/" + self.path.split("/", 3)[3]
            self.proxied = True
        parts = self.path.split("?")[0].strip("/").split("/")
        world = WORLDS.get(parts[1] if parts[0] in ("cdn", "direct") else parts[0])
        if not world:
            return self.refuse(404)
        world.proxied += getattr(self, "proxied", False)
        if parts[0] == "direct":        # a plain mirror: /direct/WORLD/FILE
            return self.cdn(world)
        if parts[0] == "cdn":
            return self.cdn(world)
        return self.origin(world)

    # /WORLD/resolve/main/FILE (the endpoint is http://127.0.0.1:PORT, the repository WORLD/…)
    def origin(self, w):
        token = self.headers.get("Authorization")
        w.authorized += token is not None
        w.origins += 1
        fault, arg = w.next_fault(True)
        if w.need_token and token != "Bearer " + w.need_token:
            return self.refuse(401, X_Error_Message="Access to model is restricted.")
        if fault == "status":
            return self.refuse(arg[0], **arg[1])
        linked = {"X_Linked_Size": str(len(w.data)), "X_Linked_ETag": '"%s"' % w.sha256,
                  "X_Repo_Commit": w.revision}
        if fault == "linked":
            linked.update(arg)
        port = self.server.server_address[1]
        where = "http://127.0.0.2:%d/cdn/%s/f?sig=%d" % (port, w.name, w.signature)
        if fault == "loop":
            where = self.path
        if fault == "to":
            where = arg
        return self.head(302, 0, Location=where, **linked)

    def requested(self, w):
        value = self.headers.get("Range")
        if not value:
            return 0, len(w.data), False
        first, last = value.split("=")[1].split("-")
        return int(first), int(last) + 1 if last else len(w.data), True

    def cdn(self, w):
        if self.headers.get("Authorization"):
            w.leaked.append(self.path)
        if "sig=%d" % w.signature not in self.path and "sig=" in self.path:
            return self.refuse(403)
        begin, end, ranged = self.requested(w)
        fault, arg = w.next_fault(False)
        with w.lock:
            w.requests.append((begin, end))
        if fault == "status":
            return self.refuse(arg[0], **arg[1])
        if fault == "expire":
            w.signature += 1
            return self.refuse(403)
        if fault == "html":
            body = b"<html>please log in</html>"
            self.head(200, len(body), Content_Type="text/html; charset=utf-8")
            return self.wfile.write(body)
        if fault == "etag":
            w.etag = arg
        if_range = self.headers.get("If-Range")
        if fault == "whole" or (if_range and if_range != w.etag) or fault == "whole-chunked":
            ranged, begin, end = False, 0, len(w.data)
        if fault == "416" or begin >= len(w.data):
            return self.refuse(416, Content_Range="bytes */%d" % len(w.data))
        end = min(end, len(w.data))
        body = memoryview(w.data)[begin:end]
        if fault == "corrupt":
            body = bytearray(body)
            body[arg % len(body)] ^= 0x40
            body = memoryview(body)
        headers = {"ETag": w.etag, "Content_Type": "application/octet-stream"}
        if ranged:
            shift = arg if fault == "range" else 0
            total = arg if fault == "total" else len(w.data)
            headers["Content_Range"] = "bytes %d-%d/%d" % (begin + shift, end + shift - 1, total)
        if fault in ("endless", "whole-chunked"):
            headers["Transfer_Encoding"] = "chunked"
            self.head(206 if ranged else 200, None, **headers)
            return self.chunked(w, body, fault == "endless")
        self.head(206 if ranged else 200, len(body), **headers)
        self.body(w, body, fault, arg)

    def chunked(self, w, body, endless):
        if w.block > 65536:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * w.block)
        for at in range(0, len(body), w.block):
            piece = body[at:at + w.block]
            self.wfile.write(b"%x\r\n" % len(piece) + piece + b"\r\n")
            w.count(len(piece))
        while endless:
            self.wfile.write(b"%x\r\n" % w.block + bytes(w.block) + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def body(self, w, body, fault, arg):
        limit = len(body)
        if fault in ("drop", "reset", "stall"):
            limit = min(limit, arg)
        for at in range(0, limit, w.block):
            piece = body[at:min(at + w.block, limit)]
            self.wfile.write(piece)
            w.count(len(piece))
            if fault == "slow":
                time.sleep(arg)
        if limit == len(body):
            return
        self.close_connection = True
        if fault == "stall":
            self.wfile.flush()
            time.sleep(0.8)
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Tunnel(http.server.BaseHTTPRequestHandler):
    """A proxy that knows CONNECT alone. World.script of Tunnel.world decides how it goes wrong."""
    protocol_version = "HTTP/1.1"
    world = None            # counts what is asked: [(host:port, headers)] in tunnels
    where = {}              # host:port asked for -> host:port reached

    def log_message(self, *args):
        pass

    def do_CONNECT(self):
        self.close_connection = True
        self.world.tunnels.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
        fault, arg = self.world.next_fault(True)
        if fault == "status":
            self.send_response(arg[0])
            self.send_header("Content-Length", "0")
            return self.end_headers()
        host, port = self.where.get(self.path, self.path).rsplit(":", 1)
        far = socket.create_connection((host, int(port)))
        self.send_response(200, "Connection established")
        self.send_header("X-Linked-Size", "1")      # a proxy's own head is not the hub's
        self.end_headers()
        back = threading.Thread(target=self.pump, args=(far, self.connection, None), daemon=True)
        back.start()
        self.pump(self.connection, far, None)
        back.join()

    def pump(self, a, b, _):
        try:
            while data := a.recv(65536):
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 256
    allow_reuse_address = True

    def server_bind(self):
        # what lies in the sockets of a killed fetcher is not its fault: keep it small
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
        super().server_bind()

    def get_request(self):
        connection, address = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, address

    def handle_error(self, request, client_address):
        pass


def start(certificate=None, handler=Handler):
    server = Server(("0.0.0.0", 0), handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server, server.server_address[1]


def http_date(seconds_from_now):
    return email.utils.formatdate(time.time() + seconds_from_now, usegmt=True)


# What may go wrong at the CDN: each is served somewhere in 200 schedules, which is checked.
KINDS = ["drop", "reset", "truncated", "stall", "slow", "500", "502", "503", "408", "429", "429-date",
         "503-seconds", "503-date", "range", "whole", "whole-chunked", "endless", "html", "total",
         "expire", "416", "etag", "corrupt"]
# … and at the origin, which redirects there.
ORIGIN_KINDS = ["loop", "foreign", "tls", "linked-hash", "linked-size", "linked-commit", "origin-500",
                "origin-429-date"]
FATAL = ["html", "total"] + ORIGIN_KINDS[:6]      # a run ends with them; the next goes on


def fault(kind, rng, size, foreign, https):
    """(what next_fault answers, its argument) of one kind."""
    if kind in ("drop", "reset", "stall"):
        return kind, rng.choice([0, 1, rng.randrange(size), rng.randrange(65536)])
    if kind == "truncated":
        return "drop", size - 1
    simple = {"slow": ("slow", 0.002), "range": ("range", rng.choice([1, -1, 4096])),
              "total": ("total", size + rng.choice([-1, 1])), "loop": ("loop", None),
              "etag": ("etag", '"v%d"' % rng.randrange(2, 4)), "corrupt": ("corrupt", rng.randrange(size)),
              "foreign": ("to", foreign), "tls": ("to", https),
              "linked-hash": ("linked", {"X_Linked_ETag": '"%s"' % ("a" * 64)}),
              "linked-size": ("linked", {"X_Linked_Size": str(size + 1)}),
              "linked-commit": ("linked", {"X_Repo_Commit": "1" * 40})}
    if kind in simple:
        return simple[kind]
    words = kind.replace("origin-", "").split("-")
    if words[0].isdigit() and words[0] != "416":
        after = {"date": [http_date(1), http_date(-5)], "seconds": ["0", "1"]}.get(words[-1], ["0"])
        headers = {"Retry_After": rng.choice(after)} if len(words) > 1 or kind == "429" else {}
        return "status", (int(words[0]), headers)
    return kind, None


def random_faults(rng, size, foreign, https):
    """What may go wrong and still leave a download that can succeed: for the CDN, for the origin."""
    often = [k for k in KINDS if k not in FATAL]
    kinds = [rng.choice(often + ["drop", "reset", None, None, None]) for _ in range(rng.randrange(1, 9))]
    if rng.random() < 0.2:
        kinds.insert(rng.randrange(len(kinds) + 1), rng.choice(["html", "total"]))
    at_origin = [rng.choice(ORIGIN_KINDS + [None])] if rng.random() < 0.5 else []
    both = [[(k,) + (fault(k, rng, size, foreign, https) if k else (None, None)) for k in ks]
            for ks in (kinds, at_origin)]
    return both
