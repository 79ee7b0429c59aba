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
        self.script = list(script)      # [(fault, argument)], one per request of the CDN
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

    def next_fault(self, origin):
        with self.lock:
            script = self.origin_script if origin else self.script
            if script:
                return script.pop(0)
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


def start(certificate=None):
    server = Server(("0.0.0.0", 0), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server, server.server_address[1]


def http_date(seconds_from_now):
    return email.utils.formatdate(time.time() + seconds_from_now, usegmt=True)


def random_faults(rng, size):
    """What may go wrong and still leave a download that can succeed."""
    def one():
        kind = rng.choice(["drop", "drop", "drop", "reset", "reset", "stall", "status", "status",
                           "retry", "range", "slow", "whole", "whole-chunked", "expire", "416",
                           "etag", "corrupt", "ok", "ok", "ok"])
        if kind in ("drop", "reset", "stall"):
            return kind, rng.choice([0, 1, rng.randrange(size), rng.randrange(65536)])
        if kind == "status":
            return "status", (rng.choice([500, 502, 503, 408]), {})
        if kind == "retry":
            after = rng.choice(["0", "0", "1", http_date(1), http_date(-5)])
            return "status", (rng.choice([429, 503]), {"Retry_After": after})
        if kind == "range":
            return "range", rng.choice([1, -1, 4096])
        if kind == "slow":
            return "slow", 0.002
        if kind == "etag":
            return "etag", '"v%d"' % rng.randrange(2, 4)
        if kind == "corrupt":
            return "corrupt", rng.randrange(size)
        if kind == "ok":
            return None, None
        return kind, None
    return [one() for _ in range(rng.randrange(1, 9))]
