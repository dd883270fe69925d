#!/usr/bin/env python3
"""Measures what real proxies do in front of httpserver, and compares it with the tables of README.md beside this file.

usage: check.py BINARY PROXY=PROGRAM...      measure these proxies and compare
       check.py --write BINARY PROXY=PROGRAM...   and write the measured tables into README.md

Each proxy is tried as it comes ("by default") and with the lines of its configuration that end in "#? set" ("with
the settings"). What has to hold for every proxy with the settings is in MUST; what one of them cannot do is in EXCEPT,
and has to be true as well. All facts are compared with the tables.

Everything runs on free ports of 127.0.0.1, in a folder of its own, and is ended by its process id. Only the waits for
limits of a minute and more run for all proxies at once, in the background.
"""
import concurrent.futures
import contextlib
import http.client
import itertools
import json
import os
import pathlib
import random
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
SECONDS = int(os.environ.get("PROXIES_SECONDS", "20"))
CLIENT = "127.0.0.9"  # differs from the proxy's own address, so that the two cannot be confused
KIB, MIB = 1024, 1024 * 1024
PATIENCE = 30  # seconds that a state may take to come on a busy machine
LONG = 130  # seconds that a limit of a proxy is waited for
TLS = ["nginx", "caddy", "traefik"]
CONFIG = {
    "nginx": "nginx.conf", "haproxy": "haproxy.cfg", "apache": "apache.conf", "varnish": "varnish.vcl",
    "caddy": "caddy.conf", "lighttpd": "lighttpd.conf", "traefik": "traefik-routes.yml",
}
VERSION = {
    "nginx": "-v", "haproxy": "-v", "apache": "-v", "varnish": "-V", "caddy": "version", "lighttpd": "-v",
    "traefik": "version",
}


# ---- processes

taken, lock = set(), threading.Lock()


def free_port():
    """A port that no other process gets: below those that the kernel gives to outgoing connections."""
    while True:
        port = random.randrange(10000, 32000)
        with lock, socket.socket() as s:
            if port not in taken and s.connect_ex(("127.0.0.1", port)) != 0:
                taken.add(port)
                return port


def wait_for(what, ready, limit=PATIENCE):
    """Waits until `ready` returns something true, and returns it."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        found = ready()
        if found:
            return found
        time.sleep(0.02)
    raise TimeoutError(f"{what}: not within {limit} s")


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


class Process:
    """A program in the background with its output in files."""

    started = []

    def __init__(self, command, folder, name, env=None):
        self.command, self.name = command, name
        self.out, self.err = folder / f"{name}.out", folder / f"{name}.err"
        with open(self.out, "ab") as out, open(self.err, "ab") as err:
            self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=folder,
                                          start_new_session=True, env=dict(os.environ, **(env or {})))
        self.started.append(self)

    def stop(self, how=signal.SIGTERM):
        """Ends the process and waits; returns its exit status."""
        if self.child.poll() is None:
            self.child.send_signal(how)
        try:
            return self.child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
            return None

    def ended(self):
        return self.child.poll() is not None

    def text(self):
        return self.err.read_text(errors="replace") + self.out.read_text(errors="replace")


class Server(Process):
    """httpserver with a log in JSON."""

    binary = None

    def __init__(self, folder, name, port=0, **settings):
        settings = {"delay-max": "0s", "trusted-proxies": "127.0.0.1/32", "max-head": "48KiB", **settings}
        flags = [word for k, v in settings.items() for word in ("--" + k.replace("_", "-"), v)]
        skip = (folder / f"{name}.err").stat().st_size if (folder / f"{name}.err").exists() else 0
        super().__init__([self.binary, "--listen", f"127.0.0.1:{port}", "--log-format", "json", *flags], folder, name)
        found = wait_for("httpserver listens", lambda: self.ended() or re.search(
            r"listening on [\d.]+:(\d+)", self.err.read_text()[skip:]))
        if found is True:
            raise RuntimeError(f"httpserver does not start: {self.text()}")
        self.port = int(found[1])

    def lines(self):
        """The access log, without a line that is still being written."""
        return [json.loads(line) for line in self.out.read_text().splitlines(True) if line.endswith("\n")]

    def with_id(self, ident):
        """The lines whose target holds `ident`."""
        return [line for line in self.lines() if ident in line["target"]]


def render(text, words, values):
    """The lines of a configuration that belong to `words`, and the arguments that it names."""
    values, arguments, kept = dict(values), [], []
    for line in text.splitlines():
        line, _, needed = line.partition("#?")
        if any(("set" in words) if word == "unset" else word not in words for word in needed.split()):
            continue
        if line.startswith("#= "):
            name, _, more = line[3:].strip().partition(" ")
            values[name] = f"{values.get(name, '')} {more}".strip()
        elif line.startswith("#- "):
            arguments.append(line[3:])
        elif not line.lstrip().startswith("#"):
            kept.append(line.rstrip())
    fill = lambda s: re.sub(r"@(\w+)@", lambda m: str(values.get(m[1], "")), s)
    return fill("\n".join(kept) + "\n"), shlex.split(fill(" ".join(arguments)))


class Proxy(Process):
    """One proxy in front of `upstreams`, with the lines of its configuration that belong to `words`."""

    programs, key, crt = {}, None, None

    def __init__(self, kind, work, words, *upstreams):
        self.kind, self.port, self.tls = kind, free_port(), free_port()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=work))
        self.folder.chmod(0o755)
        file = self.folder / CONFIG[kind]
        a, b = (upstreams * 2)[:2]
        values = {"a": a, "b": b, "port": self.port, "tls": self.tls, "dir": self.folder, "file": file,
                  "crt": self.crt, "key": self.key}
        text, arguments = render((HERE / CONFIG[kind]).read_text(), words, values)
        file.write_text(text)
        home = {name: str(self.folder) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
        super().__init__([self.programs[kind], *arguments], self.folder, kind, home)
        wait_for(f"{kind} listens", lambda: self.ended() or listens(self.port))
        if self.ended():
            raise RuntimeError(f"{kind} does not start: {self.text()}")

    def await_upstream(self):
        """Waits until a request gets through: some proxies listen before they know their servers."""
        wait_for(f"{self.kind} reaches its server", lambda: ask(self.port, "GET", "/healthz").status == 200)


def version_of(kind, program):
    text = subprocess.run([program, VERSION[kind]], capture_output=True, text=True)
    return re.search(r"(\d+\.\d+)(\.\d+)?", text.stdout + text.stderr)[1]


# ---- a client

class Response:
    def __init__(self, status, fields=(), body=b"", error=""):
        self.status, self.fields, self.body, self.error = status, list(fields), body, error

    def field(self, name):
        return ", ".join(v for k, v in self.fields if k.lower() == name.lower())


def dial(port, limit=PATIENCE):
    return socket.create_connection(("127.0.0.1", port), limit, source_address=(CLIENT, 0))


def connect(port, limit=PATIENCE):
    return http.client.HTTPConnection("127.0.0.1", port, limit, source_address=(CLIENT, 0))


def ask(port, method, target, fields=(), body=None, limit=PATIENCE, connection=None):
    """One request; a failure is status 0. A body that is a list goes out chunked, an element each."""
    c = connection or connect(port, limit)
    try:
        c.putrequest(method, target, skip_accept_encoding=True)
        for name, value in fields:
            c.putheader(name, value)
        if isinstance(body, list):
            c.putheader("Transfer-Encoding", "chunked")
        elif body is not None:
            c.putheader("Content-Length", len(body))
        c.endheaders()
        try:
            if isinstance(body, list):
                for part in body:
                    c.send(b"%x\r\n%b\r\n" % (len(part), part))
                c.send(b"0\r\n\r\n")
            elif body:
                for start in range(0, len(body), 64 * KIB):
                    c.send(body[start:start + 64 * KIB])
        except OSError:
            pass  # the response may stand there already: 413 comes before the end of the body
        r = c.getresponse()
        return Response(r.status, r.getheaders(), r.read())
    except (OSError, http.client.HTTPException) as e:
        return Response(0, error=f"{type(e).__name__} {e}")
    finally:
        if connection is None:
            c.close()


def describe(port, target="/", fields=(), **more):
    """The echo's description of the request as JSON, or None."""
    r = ask(port, "GET", target, [("Accept", "application/json"), *fields], **more)
    return json.loads(r.body) if r.status == 200 else None


def raw(port, data, limit, until=lambda got: False):
    """What comes back for `data` until the end, `until`, or `limit` seconds without a byte."""
    got = b""
    try:
        with dial(port, limit) as s:
            s.sendall(data)
            while not until(got):
                part = s.recv(64 * KIB)
                if not part:
                    break
                got += part
    except OSError:
        pass
    return got


def statuses(got):
    return [int(s) for s in re.findall(rb"HTTP/1\.[01] (\d{3})[^\r\n]*\r\n", got)]


serial = itertools.count()


def ident():
    """A word that no other request of this run has."""
    return f"id-{next(serial)}-x"


# ---- a server that misbehaves, to see what a proxy does then

class Upstream:
    """Records each request head. /stall never responds, /empty closes, anything else gets 200 after its body's end."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.open, self.closed = {}, {}  # connection -> socket, time of its end
        self.seen = []  # (connection, time, request line, seconds that the connection was idle before)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        for number in range(1 << 30):
            s = self.open[number] = self.listener.accept()[0]
            threading.Thread(target=self.serve, args=(s, number), daemon=True).start()

    def serve(self, s, number):
        data, idle_since = b"", time.monotonic()
        s.settimeout(LONG + 60)
        try:
            while True:
                while b"\r\n\r\n" not in data:
                    part = s.recv(64 * KIB)
                    if not part:
                        return
                    data += part
                head, _, data = data.partition(b"\r\n\r\n")
                line = head.split(b"\r\n")[0].decode()
                self.seen.append((number, time.monotonic(), line, time.monotonic() - idle_since))
                if "/stall" in line:
                    while s.recv(64 * KIB):
                        pass
                    return
                if "/empty" in line:
                    return
                data = self.skip_body(s, head, data)
                s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                idle_since = time.monotonic()
        except OSError:
            pass
        finally:
            self.closed[number] = time.monotonic()
            s.close()

    def drop(self):
        """Closes all connections; a second is enough for the other side to see it."""
        for s in list(self.open.values()):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
        time.sleep(1)

    @staticmethod
    def skip_body(s, head, data):
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if length:
            while len(data) < int(length[1]):
                data += s.recv(64 * KIB) or b"\0" * int(length[1])
            return data[int(length[1]):]
        if re.search(rb"(?i)\r\ntransfer-encoding:", head):
            while not data.endswith(b"0\r\n\r\n"):
                data += s.recv(64 * KIB) or b"0\r\n\r\n"
            return b""
        return data

    def requests(self, word):
        return [entry for entry in self.seen if word in entry[2]]

    def await_request(self, word):
        return wait_for(f"{word} arrives", lambda: self.requests(word))[0]


class Slow:
    """What takes a minute and more: the time limits of a proxy, seen from a server that does not respond."""

    def __init__(self, kind, work, words):
        self.upstream, self.facts = Upstream(), {}
        self.proxy = Proxy(kind, work, words, self.upstream.port)
        wait_for(f"{kind} reaches its server", lambda: ask(self.proxy.port, "GET", "/start").status == 200)

    def quick(self):
        """What shows at once; runs before the long waits."""
        self.facts["a client that leaves"] = self.leave()
        self.facts["a server that closes"] = self.again()
        self.facts["uploads"] = self.upload()

    def leave(self):
        word = ident()
        with dial(self.proxy.port) as s:
            s.sendall(f"GET /stall/{word} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            number = self.upstream.await_request(word)[0]
        try:
            wait_for("the end", lambda: number in self.upstream.closed, 5)
            return "the server sees it"
        except TimeoutError:
            return "the server does not see it"

    def again(self):
        """How often a request goes to a server that closes a kept connection instead of responding."""
        told = []
        for method, body in (("GET", None), ("POST", b"x")):
            word = ident()
            with contextlib.closing(connect(self.proxy.port)) as one:
                ask(self.proxy.port, "GET", f"/{word}-first", connection=one)
                r = ask(self.proxy.port, method, f"/empty/{word}", body=body, connection=one)
            times = len(self.upstream.requests(f"/empty/{word}"))
            told.append(f"{method} sent {f'{times}×' if times < 5 else 'many times'}, then {r.status or 'close'}")
        return "; ".join(told)

    def upload(self):
        word, half = ident(), b"x" * 500_000  # nginx takes 1 MiB by default
        with dial(self.proxy.port) as s:
            s.sendall(f"POST /{word} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n".encode() + half)
            try:
                wait_for("the head", lambda: self.upstream.requests(word), 3)
                flows = "flow"
            except TimeoutError:
                flows = "are held back"
            s.sendall(half)
            self.upstream.await_request(word)
        return flows

    def wait(self):
        self.upstream.drop()  # a request on a kept connection may be sent again, which doubles the time
        with concurrent.futures.ThreadPoolExecutor() as pool:
            stall, idle = pool.submit(self.stall), pool.submit(self.idle)
            self.facts["time for a response"] = stall.result()
            self.facts["idle connection to the server"] = idle.result()

    def stall(self):
        start = time.monotonic()
        r = ask(self.proxy.port, "GET", "/stall/long", limit=LONG)
        took = time.monotonic() - start
        if took > LONG - 2:
            return f"no limit in {LONG} s"
        return f"{around(took)}, then {r.status or 'close'}"

    def idle(self):
        self.upstream.await_request("/stall/long")
        if ask(self.proxy.port, "GET", "/idle/first").status != 200:
            return "no response"
        number, since = self.upstream.await_request("/idle/first")[:2]
        time.sleep(70)
        with concurrent.futures.ThreadPoolExecutor(6) as pool:  # at once, so that each takes another connection
            list(pool.map(lambda n: ask(self.proxy.port, "GET", f"/idle/again/{n}"), range(6)))
        if any(idle > 60 for *_, idle in self.upstream.requests("/idle/again")):
            return "used after 70 s"
        end = self.upstream.closed.get(number)
        if end is None or end - since > 69:
            return "not used after 70 s"
        return "closed within 30 s" if end - since < 35 else f"closed after {around(end - since)}"


def around(seconds):
    """Seconds as a limit that somebody would choose."""
    return f"{round(seconds / 10) * 10} s"


# ---- the facts, each a function of a proxy and the server behind it; the text goes into the table

def sized(total, each=2 * KIB):
    """Fields of `total` bytes in all, as they stand on the wire."""
    fields, left = [], total
    while left > 0:
        n = min(each, left)
        name = f"X-Field-{len(fields):04}"
        fields.append((name, "v" * max(n - len(name) - 4, 1)))
        left -= n
    return fields


def largest(works, low, high):
    """The largest of low..high that works, if each size below one that works does."""
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if works(middle) else (low, middle - 1)
    return low


def limit_of(proxy, target, fields, high):
    """How many KiB of fields get 200, and what comes for more."""
    status = lambda n: ask(proxy.port, "GET", target, fields(n * KIB)).status
    found = largest(lambda n: status(n) == 200, 0, high)
    return f"{high} KiB pass" if found == high else f"{found} KiB, then {status(found + 1) or 'close'}"


def request_head(proxy, _):
    return limit_of(proxy, "/version", sized, 44)


def one_field(proxy, _):
    return limit_of(proxy, "/version", lambda n: sized(n, n), 44)


def response_head(proxy, _):
    """The echo returns the fields; where the request is too large already, nothing can be told."""
    return limit_of(proxy, "/", sized, 44)


def upload(proxy, server):
    """10 MiB with a length and in chunks: what arrives, and how."""
    told = []
    for name, body in (("sized", bytes(10 * MIB)), ("chunked", [bytes(64 * KIB)] * 160)):
        r = ask(proxy.port, "POST", "/upload", body=body)
        whole = r.status == 200 and json.loads(r.body)["bytes"] == 10 * MIB
        told.append(f"{name} {'pass' if whole else r.status or 'close'}")
    return ", ".join(told)


def chunks(proxy, _):
    r = ask(proxy.port, "POST", "/", [("Accept", "application/json")], [b"abc", b"def"])
    if r.status != 200:
        return f"{r.status or 'close'}"
    seen = json.loads(r.body)
    names = {name.lower() for name, _ in seen["headers"]}
    assert seen["body"] == "abcdef", seen
    return "chunks" if "transfer-encoding" in names else "a length" if "content-length" in names else "neither"


def expect(proxy, _):
    """Who says 100: the proxy where the server does not see the expectation, or nobody within 3 s."""
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    interim = raw(proxy.port, head, 3, lambda got: b"\r\n\r\n" in got)
    r = ask(proxy.port, "POST", "/", [("Accept", "application/json"), ("Expect", "100-continue")], b"abc")
    if r.status != 200:
        return f"{r.status or 'close'}"
    passed = any(name.lower() == "expect" for name, _ in json.loads(r.body)["headers"])
    first = statuses(interim)[:1]
    return f"{first[0] if first else 'no interim response'}; {'passed on' if passed else 'taken out'}"


def protocol(proxy, _):
    """Version toward the server and whether a second request finds the connection kept."""
    several = [describe(proxy.port) for _ in range(4)]
    with contextlib.closing(connect(proxy.port)) as one:
        same = [describe(proxy.port, connection=one) for _ in range(2)]
    kept = lambda seen: max(d["request_on_connection"] for d in seen) > 1
    how = "kept" if kept(several) else "kept for one client" if kept(same) else "a connection for each request"
    return f"{same[0]['protocol']}, {how}"


STATUSES = [200, 201, 204, 205, 206, 301, 304, 400, 401, 403, 404, 405, 407, 409, 410, 413, 416, 418, 422, 426, 429,
            431, 451, 500, 501, 502, 503, 504, 507, 599]


def changed_statuses(proxy, _):
    got = {code: ask(proxy.port, "GET", f"/status/{code}").status for code in STATUSES}
    wrong = [f"{code} → {now or 'close'}" for code, now in got.items() if now != code]
    return ", ".join(wrong) or "as they are"


def head_method(proxy, _):
    """HEAD has the fields of GET and no body, and the connection goes on."""
    got = raw(proxy.port, b"HEAD /bytes/1000 HTTP/1.1\r\nHost: localhost\r\n\r\n"
              b"GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 10)
    first, _, rest = got.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: 1000", first)
    if statuses(got) == [200, 200] and length and rest.startswith(b"HTTP/1.1 200"):
        return "as it is"
    return f"{statuses(got)}, length {'kept' if length else 'left out'}"


def events(proxy, _):
    """Whether the first event comes before the last, and the end is an end."""
    c = connect(proxy.port)
    try:
        c.request("GET", "/events?interval=700ms&count=4")
        start = time.monotonic()
        r = c.getresponse()
        first = r.readline()
        began = time.monotonic() - start
        rest = r.read()
        whole = (first + rest).count(b"data:") == 4
        return ("flow" if began < 1.9 else "are held back") if whole else "are cut"
    except (OSError, http.client.HTTPException) as e:
        return f"fail: {type(e).__name__}"
    finally:
        c.close()


def paced(proxy, _):
    """640 KiB over 5 s: when each tenth is here. Nothing may come before its time; two tenths may be late, because
    the machine may stand still for a moment."""
    with contextlib.closing(connect(proxy.port)) as c:
        start = time.monotonic()
        c.request("GET", "/bytes/640KiB?over=5s", headers={"Connection": "close"})
        r = c.getresponse()
        late = []
        for tenth in range(1, 11):
            if len(r.read(64 * KIB)) < 64 * KIB:
                return "are cut"
            late.append(time.monotonic() - start - tenth * 0.5)
    if min(late) < -0.1:  # the tenth step of 100 ms begins that much before its tenth is whole
        return f"come {-min(late):.1f} s early"
    return "flow" if sorted(late)[7] < 0.5 else "are held back"


def large(proxy, _):
    r = ask(proxy.port, "GET", "/bytes/10MiB?chunked")
    return "pass" if r.status == 200 and len(r.body) == 10 * MIB else f"{r.status or 'close'}, {len(r.body)} bytes"


def delayed(proxy, _):
    start = time.monotonic()
    r = ask(proxy.port, "GET", "/delay/5s")
    return "passes" if r.status == 200 and time.monotonic() - start >= 5 else f"{r.status or 'close'}"


def websocket(proxy, _):
    """RFC 6455: the description, a message of each size of length, ping and close."""
    with dial(proxy.port, 10) as s:
        try:
            file = open_websocket(s)
        except ValueError as status:
            return str(status)
        assert json.loads(read_frame(file)[1])["target"] == "/chat"
        for n in (1, 126, 70000):
            s.sendall(frame(2, b"m" * n))
            assert read_frame(file) == (2, b"m" * n), n
        s.sendall(frame(9, b"hi"))
        assert read_frame(file) == (10, b"hi")
        s.sendall(frame(8, struct.pack("!H", 1000)))
        assert read_frame(file)[0] == 8
        return "passes"


def open_websocket(s):
    """Asks for a WebSocket; another status than 101 is a ValueError."""
    s.sendall(b"GET /chat HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
              b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    file = s.makefile("rb")
    status = (file.readline().split() or [b"", b"close"])[1].decode()
    if status != "101":
        raise ValueError(status)
    while file.readline() not in (b"\r\n", b""):
        pass
    return file


def websocket_clients(proxy):
    """Other people's clients through a proxy: what fails with them."""
    clients = []
    if "WS_NODE" in os.environ:
        url = f"ws://127.0.0.1:{proxy.port}/chat"
        clients += [("ws", ["node", HERE / "websocket.mjs", os.environ["WS_NODE"], url])]
    if "WS_PYTHON" in os.environ:
        command = [os.environ["WS_PYTHON"], "-B", HERE / "websocket.py"]
        clients += [(name, [*command, name, "127.0.0.1", str(proxy.port)]) for name in ("websockets", "wsproto")]
    failures = []
    for name, command in clients:
        r = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if r.returncode:
            failures.append(f"{proxy.kind}: WebSocket with {name}: {r.stdout}{r.stderr}")
    print(f"{proxy.kind}: WebSocket with {', '.join(name for name, _ in clients)}: {len(failures)} failed", flush=True)
    return failures


def frame(opcode, data):
    n = len(data)
    length = bytes([128 | n]) if n < 126 else struct.pack("!BH", 254, n) if n < 65536 else struct.pack("!BQ", 255, n)
    return bytes([128 | opcode]) + length + b"\1\2\3\4" + bytes(b ^ (i % 4 + 1) for i, b in enumerate(data))


def read_frame(file):
    opcode, n = file.read(2)
    if n == 126:
        n = struct.unpack("!H", file.read(2))[0]
    elif n == 127:
        n = struct.unpack("!Q", file.read(8))[0]
    return opcode & 15, file.read(n)


def too_large_head(proxy, _):
    """52 KiB where the server takes 48 KiB."""
    r = ask(proxy.port, "GET", "/", sized(52 * KIB))
    ours = "version" in {name.lower() for name, _ in r.fields}
    return "as such" if r.status == 431 and ours else f"{r.status or 'close'} of the proxy"


def too_large_body(proxy, server):
    """10 MiB where the server takes 1 MiB: its 413 has to arrive, whatever the proxy was still sending."""
    r = ask(proxy.port, "POST", "/", body=bytes(10 * MIB))
    ours = "version" in {name.lower() for name, _ in r.fields}
    return "as such" if r.status == 413 and ours else f"{r.status or 'close'} of the proxy"


def address(proxy, server):
    word = ident()
    seen = describe(proxy.port, f"/{word}", [("X-Forwarded-For", "192.0.2.1")])
    found = [v for k, v in seen["headers"] if k.lower() == "x-forwarded-for"]
    text = ", ".join(found).replace(" ", "")
    how = {"": "takes it out", "192.0.2.1": "passes it on", f"192.0.2.1,{CLIENT}": "appends to it",
           CLIENT: "replaces it"}.get(text, text)
    line = wait_for("the log line", lambda: server.with_id(word))[0]
    assert line["peer"].startswith("127.0.0.1:"), line
    assert line["client"] == seen["client"], (line, seen)
    return f"{how}: client {'right' if seen['client'] == CLIENT else 'wrong'}"


def paths(proxy, server):
    told = []
    for target in ("/a//b", "/a/./b", "/a/../b", "/a%2fb", "/a%41b", "/a|b"):
        word = ident()
        head = f"GET {target}?{word} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        got = raw(proxy.port, head.encode(), 10)
        lines = statuses(got) == [200] and wait_for("the log line", lambda: server.with_id(word))
        seen = lines[0]["target"].partition("?")[0] if lines else str((statuses(got) or ["close"])[0])
        if seen != target:
            told.append(f"`{target}` → `{seen}`".replace("|", "\\|"))
    return ", ".join(told) or "as it came"


def fields(proxy, server):
    """Host, a name with an underscore, a value with a byte that is not ASCII."""
    seen = describe(proxy.port, "/", [("Host2", "x"), ("x_under", "1"), ("X-Latin", "caf\xe9")])
    if seen is None:
        return "refused"
    names = {name.lower(): value for name, value in seen["headers"]}
    told = [] if names["host"] == f"127.0.0.1:{proxy.port}" else ["Host replaced"]
    if "x_under" not in names:
        told.append("`_` dropped")
    if names.get("x-latin") != "caf\xe9":
        told.append("é changed")
    return ", ".join(told) or "as they came"


def notes(proxy, server):
    """What the echo finds odd in a plain request through this proxy."""
    found = describe(proxy.port)["notes"]
    return "; ".join(re.sub(r'"[^"]*"|[\d.]+:\d+', "…", note) for note in found).replace("|", "\\|") or "none"


def pipelined(proxy, _):
    """Three requests in one write; the middle one is the slowest."""
    data = b"".join(b"%b /%b?echo-status=%d HTTP/1.1\r\nHost: localhost\r\n%b\r\n" % parts for parts in (
        (b"GET", b"a", 201, b""), (b"POST", b"delay/300ms", 202, b"Content-Length: 3\r\n"),
        (b"GET", b"c", 203, b"Connection: close\r\n")))
    data = data.replace(b"3\r\n\r\n", b"3\r\n\r\nabc")
    got = statuses(raw(proxy.port, data, 10))
    return "in order" if got == [201, 202, 203] else f"{got}"


FACTS = {
    "request head": request_head, "one field": one_field, "response head (the echo's)": response_head,
    "upload of 10 MiB": upload, "chunked request becomes": chunks, "Expect: 100-continue": expect,
    "to the server": protocol, "status codes": changed_statuses, "HEAD": head_method,
    "pipelined requests": pipelined, "events": events, "paced bytes": paced, "10 MiB in chunks": large,
    "a delay of 5 s": delayed, "WebSocket": websocket, "431 of the server": too_large_head,
    "413 of the server": too_large_body, "X-Forwarded-For": address, "path": paths, "fields": fields, "notes": notes,
}


def one_line(text):
    return " ".join(text.split())


def measure(proxy, server):
    """All facts of one proxy, several at a time: most of them wait."""
    def one(fact):
        try:
            return one_line(FACTS[fact](proxy, server))
        except Exception as e:  # a fact that cannot be measured is a difference to the table, not the end of the run
            return f"error: {type(e).__name__} {e}"
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        return dict(zip(FACTS, pool.map(one, FACTS)))


# ---- smuggling: where does a request end?

class Relay:
    """Passes bytes between a proxy and the server, and keeps what the proxy sent on each connection."""

    def __init__(self, to):
        self.listener, self.to = socket.create_server(("127.0.0.1", 0)), to
        self.port = self.listener.getsockname()[1]
        self.sent = {}  # the relay's address as the server sees it -> bytes
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            front = self.listener.accept()[0]
            back = socket.create_connection(("127.0.0.1", self.to))
            peer = "%s:%d" % back.getsockname()
            self.sent[peer] = b""
            threading.Thread(target=self.copy, args=(front, back, peer), daemon=True).start()
            threading.Thread(target=self.copy, args=(back, front, None), daemon=True).start()

    def copy(self, source, sink, peer):
        try:
            while part := source.recv(64 * KIB):
                if peer:
                    self.sent[peer] += part
                sink.sendall(part)
        except OSError:
            pass
        try:
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def requests(self):
        """connection -> the requests in it, as RFC 9112 reads them."""
        return {peer: parse_requests(data) for peer, data in self.sent.items()}


def parse_requests(data):
    """The method and target of each whole request; ends at the first one that is not plain HTTP/1.1."""
    found = []
    while b"\r\n\r\n" in data:
        head, _, rest = data.partition(b"\r\n\r\n")
        line, *fields = head.split(b"\r\n")
        fields = [(name.lower(), value.strip()) for name, _, value in (f.partition(b":") for f in fields)]
        lengths = [v for k, v in fields if k == b"content-length"]
        codings = [v.lower() for k, v in fields if k == b"transfer-encoding"]
        parts = line.split(b" ")
        strange = b"\n" in head.replace(b"\r\n", b"") or len(parts) != 3 or len(lengths) + len(codings) > 1
        if strange or codings not in ([], [b"chunked"]) or not all(v.isdigit() for v in lengths):
            return found + ["strange"]
        if codings:
            rest = after_chunks(rest)
        elif lengths:
            rest = rest[int(lengths[0]):] if len(rest) >= int(lengths[0]) else None
        if rest is None:
            return found + ["cut"]
        found.append(f"{parts[0].decode()} {parts[1].decode()}")
        data = rest
    return found + (["cut"] if data.strip() else [])


def after_chunks(data):
    """What follows a chunked body, or None where it is not whole."""
    while True:
        size, end, data = data.partition(b"\r\n")
        if not end or not re.fullmatch(rb"[0-9a-fA-F]+([ \t]*;.*)?", size):
            return None
        n = int(size.split(b";")[0], 16)
        if n == 0:
            while not data.startswith(b"\r\n"):
                _, end, data = data.partition(b"\r\n")
                if not end:
                    return None
            return data[2:]
        if data[n:n + 2] != b"\r\n":
            return None
        data = data[n + 2:]


INNER = b"GET /inner HTTP/1.1\r\nHost: localhost\r\n\r\n"
SMUGGLED = {  # each is followed by INNER where the lenient reading sees a second request
    "two lengths": b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(INNER),
    "length list": b"Content-Length: 0, %d\r\n\r\n" % len(INNER),
    "length with a sign": b"Content-Length: +0\r\n\r\n",
    "length and chunks": b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % (len(INNER) + 5),
    "chunks and length": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "coding twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "coding not known": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked, not last": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "space before the colon": b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "vertical tab in the coding": b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "folded coding": b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "bare LF in the head": b"X: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bare CR in the head": b"X: a\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bare LF after a chunk": b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\n0\r\n\r\n",
    "bare LF in an extension": b"Transfer-Encoding: chunked\r\n\r\n2;\nxx\r\n4c\r\n0\r\n\r\n",
    "chunk size of 65 bits": b"Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n0\r\n\r\n",
    "chunk size with 0x": b"Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n",
    "length taken by Connection": b"Connection: Content-Length\r\nContent-Length: %d\r\n\r\n" % len(INNER),
    "coding taken by Connection": b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "Upgrade without one": b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 7\r\n\r\n",
    "trailer with a length": b"Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 50\r\n\r\n",
    "Expect and no body": b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(INNER),
    "two hosts": b"Host: inner\r\n\r\n",
}


def smuggling(kind, work):
    """Sends each input with a request behind it; the server's log has to hold exactly what the proxy sent it."""
    server = Server(work, f"{kind}-relayed", log_level="debug")
    relay = Relay(server.port)
    proxy = Proxy(kind, work, {"set"}, relay.port)
    try:
        proxy.await_upstream()
        name_of = lambda name: b"POST /%b " % name.encode().replace(b" ", b"-")
        rest_of = lambda name: b"HTTP/1.1\r\nHost: localhost\r\n" + SMUGGLED[name] + INNER
        send = lambda name: raw(proxy.port, name_of(name) + rest_of(name), 8)
        with concurrent.futures.ThreadPoolExecutor(len(SMUGGLED)) as pool:
            list(pool.map(send, SMUGGLED))
        proxy.stop()  # ends the kept connections, so the server has seen all that there is
        wait_for("the server has no connection", lambda: re.search(
            r"http_open_connections 1\n", ask(server.port, "GET", "/metrics").body.decode()))
        server.stop()
        passed = sum(any(name_of(name) in data for data in relay.sent.values()) for name in SMUGGLED)
        return compare_requests(kind, relay.requests(), server.lines()), passed
    finally:
        proxy.stop()
        server.stop()


def compare_requests(kind, sent, lines):
    """The differences between what was sent on each connection and what the server's log has of it."""
    logged, wrong = {}, []
    for line in lines:
        logged.setdefault(line["peer"], []).append(line)
    for peer, requests in sent.items():
        whole = [r for r in requests if r not in ("cut", "strange")]
        have = logged.get(peer, [])
        fine = [f"{l['method']} {l['target']}" for l in have if not l["reason"]]
        bad = [l for l in have if l["reason"]]
        if fine[:len(whole)] != whole[:len(fine)] or len(have) < len(whole) or len(have) > len(requests):
            wrong.append(f"{kind} sent {requests}, the server logged {fine} and refused {[l['reason'] for l in bad]}")
    return wrong


# ---- TLS

def certificate(work):
    """A self-signed one, as in README.md of the project."""
    Proxy.key, Proxy.crt = work / "tls.key", work / "tls.crt"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90 -subj /CN=localhost"
    subprocess.run([*command.split(), "-addext", "subjectAltName=DNS:localhost", "-keyout", Proxy.key, "-out",
                    Proxy.crt], check=True, capture_output=True)
    Proxy.key.chmod(0o644)  # of no worth, and a proxy may read it as another user


def curl(proxy, target, *more):
    return subprocess.run(["curl", "-sS", "--http2", "--max-time", "60", "--cacert", str(Proxy.crt), "--resolve",
                           f"localhost:{proxy.tls}:127.0.0.1", "-w", "\n%{http_version} %{http_code}", *more,
                           f"https://localhost:{proxy.tls}{target}"], capture_output=True, text=True)


def tls(proxy):
    """HTTP/2 in front and HTTP/1.1 behind, the certificate checked; 10 MiB both ways."""
    r = curl(proxy, "/tls", "-H", "Accept: application/json")
    body, _, end = r.stdout.rpartition("\n")
    if end != "2 200":
        return f"{end}: {r.stderr}"
    if json.loads(body)["protocol"] != "HTTP/1.1":
        return f"{json.loads(body)['protocol']} behind"
    up = curl(proxy, "/upload", "--data-binary", f"@{big_file(proxy.folder)}")
    if '"bytes":%d' % (10 * MIB) not in up.stdout:
        return f"upload: {up.stdout} {up.stderr}"
    down = curl(proxy, "/bytes/10MiB?chunked", "-o", "/dev/null", "-w", "%{size_download}")
    if down.stdout != str(10 * MIB):
        return f"download: {down.stdout} {down.stderr}"
    return "HTTP/2 in front, HTTP/1.1 behind"


def big_file(folder):
    file = folder / "10MiB"
    file.write_bytes(bytes(10 * MIB))
    return file


# ---- rollouts

def rollout(kind, work, words, delay):
    """Restarts one of two servers every three seconds. Returns the summary of `watch` with what was cut."""
    name = f"{kind}-{'-'.join(sorted(words))}"
    ports, cut = [free_port(), free_port()], 0
    start = lambda n: Server(work, f"{name}-{n}", ports[n], shutdown_delay=delay)
    servers = [start(0), start(1)]
    proxy = Proxy(kind, work, words, *ports)
    watch = None
    try:
        proxy.await_upstream()
        time.sleep(1)  # both servers have been checked
        watch = Process([Server.binary, "watch", "--rate", "50", "--for", f"{SECONDS}s", "--format", "json",
                         f"http://127.0.0.1:{proxy.port}/delay/20ms"], proxy.folder, "watch")
        began, n = time.monotonic(), 0
        time.sleep(1)
        while time.monotonic() - began < SECONDS - 4:
            next_at = time.monotonic() + 3
            servers[n % 2].stop()
            servers[n % 2] = start(n % 2)
            n += 1
            time.sleep(max(1.5, next_at - time.monotonic()))  # the new one is known before the other one ends
        watch.child.wait(PATIENCE + SECONDS)
        summary = json.loads(watch.out.read_text().splitlines()[-1])
        late = f"sent at most {summary['late_seconds']:.3f} s late"
        print(f"{name}: lost {losses(summary)}, {n} restarts, {late}", flush=True)
        for s in range(2):
            servers[s].stop()
            cut += sum(int(c) for c in re.findall(r" cut=(\d+)", (work / f"{name}-{s}.err").read_text()))
        return dict(summary, restarts=n, cut=cut)
    finally:
        for process in [proxy, *servers, *([watch] if watch else [])]:
            process.stop()


def losses(summary):
    """What was lost, by kind."""
    kinds = {k: v["count"] for k, v in summary["statuses"].items() if not k.startswith(("2", "3"))}
    kinds.update({k: summary[k] for k in ("refused", "reset", "closed", "timeout", "bad", "unsent") if summary[k]})
    what = ", ".join(f"{n} {k}" for k, n in sorted(kinds.items()))
    return f"{summary['lost']} of {summary['requests']}" + (f" ({what})" if what else "")


STREAMS = 50  # of each kind


class OpenStream(threading.Thread):
    """A client with an open WebSocket or event stream; `end` tells how it ended."""

    def __init__(self, proxy, kind):
        super().__init__(daemon=True)
        self.port, self.kind, self.open, self.end = proxy.port, kind, False, None
        self.start()

    def run(self):
        try:
            self.end = {"websocket": self.websocket, "events": self.events}[self.kind]()
        except (OSError, ValueError, struct.error, http.client.HTTPException) as e:
            self.end = f"{type(e).__name__} {e}"

    def websocket(self):
        """The code of the close frame, which is answered; then there has to be the end."""
        with dial(self.port, LONG) as s:
            file = open_websocket(s)
            read_frame(file)
            self.open = True
            opcode, data = read_frame(file)
            s.sendall(frame(opcode, data))
            if opcode != 8 or file.read():
                return f"opcode {opcode}"
            return f"close {struct.unpack('!H', data[:2])[0]}"

    def events(self):
        with contextlib.closing(connect(self.port, LONG)) as c:
            c.request("GET", "/events?interval=200ms")
            r = c.getresponse()
            self.open = r.readline().startswith(b"id:")
            r.read()  # IncompleteRead where there is no last chunk
            return "last chunk" if r.status == 200 and self.open else f"status {r.status}"


def rollout_of_streams(kind, work):
    """Replaces two servers under open WebSockets and event streams. Each has to end in order, and be told to the client."""
    ports = [free_port(), free_port()]
    start = lambda n: Server(work, f"{kind}-streams-{n}", ports[n], shutdown_delay="1s")
    servers = [start(0), start(1)]
    proxy = Proxy(kind, work, {"set", "pair", "checks"}, *ports)
    failures = []
    try:
        proxy.await_upstream()
        time.sleep(1)  # both servers have been checked
        clients = [OpenStream(proxy, name) for name in ("websocket", "events") for _ in range(STREAMS)]
        wait_for("all streams are open", lambda: all(c.open or c.end for c in clients))
        for n in range(2):
            if servers[n].stop() != 0:
                failures.append(f"{kind}: the exit status of a server with open streams is not 0")
            servers[n] = start(n)
        for c in clients:
            c.join(PATIENCE)
        served = [sum(line["target"] in ("/chat", "/events?interval=200ms") for line in s.lines()) for s in servers]
        print(f"{kind}: {served} streams on two servers, all replaced", flush=True)
        for name, wanted in (("websocket", "close 1001"), ("events", "last chunk")):
            ends = [str(c.end) for c in clients if c.kind == name]
            if ends != [wanted] * STREAMS:
                counts = ", ".join(f"{ends.count(end)} {end}" for end in sorted(set(ends)))
                failures.append(f"{kind}: a rollout under {STREAMS} {name} streams: {counts}")
        if min(served) == 0 or sum(served) != 2 * STREAMS:
            failures.append(f"{kind}: {served} streams have a log line on the two servers")
        wait_for("a new server is used", lambda: ask(proxy.port, "GET", "/").status == 200)
    finally:
        for process in [proxy, *servers]:
            process.stop()
    cut = [re.findall(r"drain finished.* cut=(\d+)", (work / f"{kind}-streams-{n}.err").read_text()) for n in range(2)]
    if any(set(counts) != {"0"} for counts in cut):
        failures.append(f"{kind}: the drains under streams cut {cut}")
    return failures


# ---- the run of one proxy, and the tables

def one_proxy(kind, work):
    """Everything but the long waits; returns the facts by default, those with the settings, and the failures."""
    failures = []
    plain, tuned = Server(work, f"{kind}-plain"), Server(work, f"{kind}-tuned")
    proxies = []
    try:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            good = pool.submit(rollout, kind, work, {"set", "pair", "checks"}, "1s")
            poor = pool.submit(rollout, kind, work, {"pair"}, "0s")
            mixed = pool.submit(smuggling, kind, work)
            proxies = [Proxy(kind, work, set(), plain.port), Proxy(kind, work, {"set"}, tuned.port)]
            for proxy in proxies:
                proxy.await_upstream()
            clients = pool.submit(websocket_clients, proxies[1])
            open_streams = pool.submit(rollout_of_streams, kind, work)
            by_default, with_settings = pool.map(measure, proxies, [plain, tuned])
            if kind in TLS:
                by_default["TLS"], with_settings["TLS"] = map(one_line, pool.map(tls, proxies))
            wrong, passed = mixed.result()
            failures += wrong + clients.result() + open_streams.result()
            with_settings["smuggling inputs"] = f"{passed} of {len(SMUGGLED)} reach the server"
            good, poor = good.result(), poor.result()
        if good["lost"] and (good["unsent"] or good["late_seconds"] > 0.5):
            print(f"NOT RUN: {kind}, a rollout beside the other checks: the machine stalled; it runs again, alone")
            good = rollout(kind, work, {"set", "pair", "checks"}, "1s")
    finally:
        for process in [*proxies, plain, tuned]:
            process.stop()
    if good["lost"] or good["cut"]:
        failures.append(f"{kind}: a rollout lost {losses(good)}, cut {good['cut']}")
    return by_default, with_settings, (losses(good), losses(poor)), failures



MUST = {
    "request head": "44 KiB pass", "one field": "44 KiB pass", "response head (the echo's)": "44 KiB pass",
    "upload of 10 MiB": "sized pass, chunked pass", "status codes": "as they are", "HEAD": "as it is",
    "pipelined requests": "in order", "events": "flow", "paced bytes": "flow", "10 MiB in chunks": "pass",
    "a delay of 5 s": "passes", "WebSocket": "passes", "431 of the server": "as such", "413 of the server": "as such",
    "time for a response": "90 s|no limit", "idle connection to the server": "closed|not used",
    "X-Forwarded-For": ".*client right", "TLS": "HTTP/2 in front, HTTP/1.1 behind", "uploads": "flow",
}
EXCEPT = {
    ("varnish", "status codes"): "206 → 503, 416 → 503",
}


def promises(kind, facts):
    """What does not hold with the settings."""
    failures = []
    for fact, wanted in MUST.items():
        wanted = EXCEPT.get((kind, fact), wanted)
        if fact in facts and not re.match(wanted, facts[fact]):
            failures.append(f"{kind}, {fact}: {facts[fact]}; expected {wanted}")
    return failures


README = HERE / "README.md"
RECIPES = "Find out what your proxy does"
TITLES = ("By default", "With the settings", RECIPES)


def table(kinds, versions, facts):
    """Facts as rows, proxies as columns."""
    rows = list(dict.fromkeys(row for kind in kinds for row in facts[kind]))
    lines = ["| | " + " | ".join(f"{kind} {versions[kind]}" for kind in kinds) + " |", "|---" * (len(kinds) + 1) + "|"]
    lines += [f"| {row} | " + " | ".join(facts[kind].get(row, "-") for kind in kinds) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def section(title, text):
    """Where the table below a heading begins and ends."""
    start = text.index("\n|", text.index(f"## {title}\n")) + 1
    return start, text.index("\n\n", start) + 1


def parse(markdown):
    """proxy -> (version, facts) of a table."""
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in markdown.splitlines()]
    return {name.split()[0]: (name.split()[1], {row[0]: row[n] for row in rows[2:] if row[n] != "-"})
            for n, name in enumerate(rows[0]) if n}


def compare(title, versions, facts):
    """The differences to the table of README.md; those of another version are told and are no failure."""
    text, failures = README.read_text(), []
    known = parse(text[slice(*section(title, text))])
    for kind, seen in facts.items():
        version, wanted = known.get(kind, ("none", {}))
        for fact in dict.fromkeys([*wanted, *seen]):
            # A cell may name two outcomes, where it depends on how fast the bytes arrive.
            if seen.get(fact) in [wanted.get(fact), *(wanted.get(fact) or "").split(" or ")]:
                continue
            told = f"{kind}, {title.lower()}, {fact}: {seen.get(fact)}; README.md has {wanted.get(fact)}"
            if version == versions[kind]:
                failures.append(told)
            else:
                print(f"{told}, of {kind} {version}; this is {versions[kind]}")
    return failures


def write(versions, measured, rollouts):
    """Writes the tables; a proxy that was not measured keeps its column."""
    text = README.read_text()
    for title, facts in zip(TITLES, measured):
        start, end = section(title, text)
        known = parse(text[start:end])
        kinds = [kind for kind in CONFIG if kind in known or kind in facts]
        all_versions = {**{kind: version for kind, (version, _) in known.items()}, **versions}
        all_facts = {**{kind: seen for kind, (_, seen) in known.items()}, **facts}
        text = text[:start] + table(kinds, all_versions, all_facts) + text[end:]
    start, end = section("Rollouts", text)
    rows = {line.split()[1]: line for line in text[start:end].splitlines()[2:]}
    rows.update({kind: f"| {kind} | {good} | {poor} |" for kind, (good, poor) in rollouts.items()})
    head = ["| | settings, checks, delay of 1 s | by default, no delay |", "|---|---|---|"]
    text = text[:start] + "\n".join([*head, *(rows[kind] for kind in CONFIG if kind in rows)]) + "\n" + text[end:]
    README.write_text(text)


class Recipes:
    """The commands of README.md, "Find out what your proxy does", as they stand there, with what they tell."""

    def __init__(self, kind, work, words):
        self.server = Server(work, f"{kind}-recipes-{words}")
        self.proxy = Proxy(kind, work, {words}, self.server.port)
        self.proxy.await_upstream()
        text = README.read_text().partition(f"## {RECIPES}\n")[2].partition("\n## ")[0]
        self.blocks = re.findall(r"```sh\n(.*?)```", text, re.S)

    def facts(self):
        places = {"PROXY": f"http://127.0.0.1:{self.proxy.port}", "SERVER": f"http://127.0.0.1:{self.server.port}",
                  "LOG": str(self.server.out)}
        if len(self.blocks) != len(TOLD):
            raise RuntimeError(f"README.md has {len(self.blocks)} recipes, this file knows {len(TOLD)}")
        told = {}
        for block, (name, verdict) in zip(self.blocks, TOLD.items()):
            r = subprocess.run(["bash", "-c", block], capture_output=True, text=True, env=dict(os.environ, **places))
            told[name] = verdict(r.stdout + r.stderr)
        return told


def buffers(out):
    times = [3600 * int(h) + 60 * int(m) + int(s) for h, m, s in re.findall(r"^(\d+):(\d+):(\d+) data:", out, re.M)]
    up = re.search(r'"seconds":([\d.]+)', out)
    return (f"responses {'flow' if (times[-1] - times[0]) % 86400 > 2 else 'are held back'}, "
            f"uploads {'flow' if float(up[1]) > 1 else 'are held back'}")


def retries(out):
    return "; ".join(f"{method} {count}×" for method, count in re.findall(r"(GET|POST) arrived (\d+)", out))


def rewrites(out):
    return ", ".join(f"`{target}`" for target in re.findall(r"^target: (\S+)", out, re.M))


def whose(out):
    """curl, the proxy and the server are on one host here, so the field tells the two addresses apart."""
    whose = "the client's" if re.search(r"^X-Forwarded-For: \S", out, re.M) else "the proxy's"
    return whose + (", and a note" if "note:" in out else "")


def idles(out):
    samples = [(int(at), int(n)) for at, n in re.findall(r"^(\d+) s: http_idle_connections (\d+)", out, re.M)]
    kept = [at for at, n in samples if n]
    end = next((at for at, n in samples if not kept or at > kept[-1]), None)
    if end is None:
        return "not within 80 s"
    return "within 30 s" if end < 35 else f"after about {around((kept[-1] + end) / 2)}"


TOLD = {"does it buffer": buffers, "does it retry": retries, "does it rewrite the path": rewrites,
        "whose address do I see": whose, "when does it close idle connections": idles}
RECIPE_PROXIES = ("nginx", "haproxy")


def slow_facts(work, kinds):
    """Starts the long waits of all proxies; returns what gives their facts."""
    pool = concurrent.futures.ThreadPoolExecutor(2 * len(kinds) + 4)
    make = lambda kind, words: pool.submit(Slow, kind, work, words)
    made = {(kind, words): make(kind, words) for kind in kinds for words in ("", "set")}
    slow = {key: future.result() for key, future in made.items()}
    concurrent.futures.wait([pool.submit(s.quick) for s in slow.values()])
    waits = {key: pool.submit(s.wait) for key, s in slow.items()}
    recipe = lambda kind, words: pool.submit(lambda: Recipes(kind, work, words).facts())
    told = {(kind, words): recipe(kind, words) for kind in kinds if kind in RECIPE_PROXIES for words in ("", "set")}

    def facts(kind, words):
        error = waits[kind, words].exception()
        return {**slow[kind, words].facts, **({"waits": f"error: {error}"} if error else {})}
    return facts, lambda: {kind: merged(told[kind, ""].result(), told[kind, "set"].result())
                           for kind in kinds if kind in RECIPE_PROXIES}


def merged(by_default, with_settings):
    """What the recipes tell of one proxy in both ways of use."""
    return {name: by_default[name] if by_default[name] == with_settings[name]
            else f"{by_default[name]}; with the settings {with_settings[name]}" for name in by_default}


def run(arguments, work):
    certificate(work)
    Proxy.programs = dict(pair.split("=") for pair in arguments)
    kinds = list(Proxy.programs)
    versions = {kind: version_of(kind, program) for kind, program in Proxy.programs.items()}
    failures, measured, rollouts = [], ({}, {}), {}
    slow, recipes = slow_facts(work, kinds)
    print("the long waits have begun", flush=True)
    for kind in kinds:
        began = time.monotonic()
        *facts, rollouts[kind], wrong = one_proxy(kind, work)
        for n in range(2):
            measured[n][kind] = facts[n]
        failures += wrong
        print(f"{kind} {versions[kind]}: {sum(map(len, facts))} facts in {time.monotonic() - began:.0f} s", flush=True)
    for kind in kinds:
        for n, words in enumerate(("", "set")):
            measured[n][kind].update(slow(kind, words))
        failures += promises(kind, measured[1][kind])
    failures += [f"{kind}, {fact}: {seen}" for facts in measured for kind in facts for fact, seen in facts[kind].items()
                 if seen.startswith("error")]
    measured += (recipes(),)
    if WRITE:
        write(versions, measured, rollouts)
    for title, facts in zip(TITLES, measured):
        failures += compare(title, versions, facts)
    return failures


def main():
    arguments = [a for a in sys.argv[1:] if a != "--write"]
    if len(arguments) < 2:
        sys.exit(__doc__)
    Server.binary = os.path.abspath(arguments[0])
    work = pathlib.Path(tempfile.mkdtemp(prefix="proxies-"))
    work.chmod(0o755)
    try:
        failures = run(arguments[1:], work)
        for failure in failures:
            print(f"FAILED: {failure}")
    finally:
        for process in Process.started:
            process.stop()
            with contextlib.suppress(ProcessLookupError):  # workers that outlive their master
                os.killpg(process.child.pid, signal.SIGKILL)
        shutil.rmtree(work, ignore_errors=True)
    sys.stdout.flush()
    os._exit(1 if failures else 0)  # threads that wait for a connection do not end by themselves


WRITE = "--write" in sys.argv

if __name__ == "__main__":
    main()
