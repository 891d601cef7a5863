"""The figure on a hostile worker: what others notice while one application's workers write garbage to all their ends.

Two applications of one server. The one is asked all the time, from a few connections. The workers of the other one are
those of `tests.fuzz.hostile_worker`; it is asked too, so that there are requests to do harm to.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.end_to_end.server import PATIENCE, Server, until
from tests.figures.figure import Figure, Goal, Result
from tests.fuzz.hostile_acts import FORBIDDEN, HARMLESS

ROOT = Path(__file__).parent.parent.parent
COMMAND = (sys.executable, "-m", "bridge", "serve")
SEED = 1
ASKERS = 2  #: connections to the good application; as many go to the hostile one
PACE = 0.002  #: seconds between two requests of a connection
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
PEACE = 2.1  #: seconds in which a new worker does no harm: one that dies younger is replaced after a pause
FACTOR, FLOOR = 5, 20.0  #: its p99 may be so many times what it was before, or so many ms: fuzzers compute, on 2 cores
GOOD = """\
import os

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError
    body = b"%d" % os.getpid()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
"""


@dataclass
class Asked:
    """What one application's clients have seen since `forget`."""

    times: list[float] = field(default_factory=list)  #: seconds of each answer
    failed: int = 0
    workers: set[bytes] = field(default_factory=set)  #: who has answered, where the application says that

    def forget(self) -> None:
        """Begin anew, but for who has answered."""
        self.times, self.failed = [], 0

    def p99(self) -> float:
        """Milliseconds."""
        times = sorted(self.times)
        return 1000 * times[int(len(times) * 0.99)] if times else float("inf")


class Clients:
    """Clients of one application, a thread each, until `stop`.

    Args:
        address: where it is served.
    """

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(ASKERS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Come no more."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _run(self) -> None:
        raise NotImplementedError


class Askers(Clients):
    """Clients that send requests.

    Args:
        address: where it is served.
        paths: what is asked for, in turn.
        patience: seconds for an answer.
    """

    def __init__(self, address: tuple[str, int], paths: list[str], patience: float) -> None:
        self.asked = Asked()
        self._paths = paths
        self._patience = patience
        super().__init__(address)

    def _run(self) -> None:
        connection = http.client.HTTPConnection(*self._address, timeout=self._patience)
        turn = 0
        while not self._stopped.wait(PACE):
            turn += 1
            begun = time.monotonic()
            path = self._paths[turn % len(self._paths)]
            try:
                connection.request(
                    "POST" if path == "/body" else "GET", path, b"b" * 50_000 if path == "/body" else None
                )
                answer = connection.getresponse()
                body = answer.read()
                well = answer.status == 200
                if well and path == "/":
                    self.asked.workers.add(body)
            except (OSError, http.client.HTTPException):
                connection.close()
                well = False
            if well:
                self.asked.times.append(time.monotonic() - begun)
            else:
                self.asked.failed += 1
        connection.close()


class Sockets(Clients):
    """Clients that open WebSockets, send, read for a while, and leave."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.opened = 0
        super().__init__(address)

    def _run(self) -> None:
        message = b"\x82\xfe\x4e\x20" + bytes(4 + 20_000)
        while not self._stopped.wait(PACE):
            with contextlib.suppress(OSError), socket.create_connection(self._address, timeout=0.5) as sock:
                sock.sendall(UPGRADE)
                if sock.recv(65536).startswith(b"HTTP/1.1 101 "):
                    self.opened += 1
                    sock.sendall(message * 10)
                    for _ in range(50):
                        if not sock.recv(4096):
                            break
                        time.sleep(PACE)


@dataclass(frozen=True)
class Held:
    """What the router, and the server as a whole, holds."""

    files: int  #: of the router
    memory: int  #: MiB of the router
    processes: int


@contextmanager
def _served(place: Path, workers: int) -> Iterator[tuple[Server, dict[str, tuple[str, int]]]]:
    """A server of both applications, and where each is served."""
    (place / "good.py").write_text(GOOD)
    environment = {"TOLD": str(place / "told"), "GATE": str(place / "gate"), "SEED": str(SEED), "PEACE": str(PEACE)}
    hostile = {"module": "tests.fuzz.hostile_worker", "callable": "app", "path": str(ROOT), "environment": environment}
    document = {
        "listeners": {"127.0.0.1:0": {"pass": "applications/good"}, "127.0.0.2:0": {"pass": "applications/hostile"}},
        "applications": {
            "good": {"type": "python", "module": "good", "callable": "app", "path": str(place)},
            "hostile": {"type": "python", "processes": workers, "graceful_timeout": 2, **hostile},
        },
    }
    file = place / "config.json"
    file.write_text(json.dumps(document))
    server = Server("", str(file), command=COMMAND, app_dir=None, bind=(), ready=False)
    with server:
        addresses = {}
        for _ in range(2):
            found = server.log.take(r"serves (good|hostile) \([^)]*\) on http://([\d.]+):(\d+)")
            addresses[found[1]] = found[2], int(found[3])
        yield server, addresses
        server.log.rest = ""  # that it is full of complaints is as it should be; `Server` looks for what is left behind


def _held(server: Server) -> Held:
    router = server.router
    pages = int(Path(f"/proc/{router}/statm").read_text().split()[1])
    files = len(os.listdir(f"/proc/{router}/fd"))
    return Held(files, pages * os.sysconf("SC_PAGE_SIZE") >> 20, len(server.living()))


@dataclass(frozen=True)
class Measured:
    """What has come of it."""

    before: float  #: p99 of the good application, ms
    during: float
    answers: int  #: of the good application, during
    failed: int
    workers: int  #: of the good application that have answered, before and during
    acts: list[str]  #: of the fuzzers
    broken: list[str]  #: what should not have been possible
    sockets: int  #: WebSockets of the hostile application
    mistakes: list[str]  #: acts that have failed because they are not what they are meant to be
    log: str  #: of the server
    held: tuple[Held, Held]  #: before and after


def _replace(server: Server) -> None:
    """Put workers that do no harm in the place of the others, whose last act may yet end these too."""
    for _ in range(5):
        server.main.send_signal(signal.SIGHUP)
        if server.log.take(r"application 'hostile': (not )?reloaded")[1] is None:
            return
    raise AssertionError("the hostile application cannot be reloaded")


def measure(seconds: float, workers: int) -> Measured:
    """Let the fuzzers do what they can for so long."""
    with tempfile.TemporaryDirectory(prefix="bridge-figures-") as directory:
        place = Path(directory)
        with _served(place, workers) as (server, addresses):
            good = Askers(addresses["good"], ["/"], PATIENCE)
            other = Askers(addresses["hostile"], ["/", "/slow", "/large", "/body"], 1.0)
            sockets = Sockets(addresses["hostile"])
            time.sleep(1.0)
            good.asked.forget()
            time.sleep(max(2.0, seconds / 6))
            before = good.asked.p99()
            first = _held(server)
            good.asked.forget()
            (place / "gate").touch()
            time.sleep(seconds)
            during, answers, failed = good.asked.p99(), len(good.asked.times), good.asked.failed
            workers_of_good = len(good.asked.workers)  # before the reload replaces them
            (place / "gate").unlink()
            _replace(server)
            time.sleep(1.0)
            good.stop()
            other.stop()
            sockets.stop()
            until(lambda: len(server.living()) <= first.processes, "the hostile workers have left")
            last = _held(server)
            with contextlib.suppress(AssertionError):  # the goals say what is left
                until(lambda: _held(server).files <= first.files, "the router has closed what it had of them")
                last = _held(server)
            told = (place / "told").read_text().splitlines()
            log = server.log.text
    acts = [line.split()[1] for line in told if line.startswith("act ")]
    broken = sorted({line for line in told if line.startswith("BROKEN")})
    mistakes = sorted({line.rpartition(" ")[0] for line in told if line.startswith("MISTAKE")})
    return Measured(
        before, during, answers, failed, workers_of_good, acts, broken, sockets.opened, mistakes, log, (first, last)
    )


def figure(short: bool) -> Result:
    """Measure, and say what was done and what came of it."""
    found = measure(*((8.0, 3) if short else (60.0, 3)))
    first, last = found.held
    cut = len(re.findall(r"worker \d+ \(pid \d+\) (?:is cut off: \S|has left the router and lives on)", found.log))
    generations = re.findall(r"shared memory of '(\w+)' is given up, and its workers are ended: \S", found.log)
    kinds = {act.__name__ for act in (*HARMLESS, *FORBIDDEN)}
    missing = sorted(kinds - set(found.acts))
    tracebacks = found.log.count("Traceback")
    allowed = max(FACTOR * found.before, FLOOR)
    return Result(
        ["", "before", "during", "after"],
        [
            ["another application, p99", f"{found.before:.1f} ms", f"{found.during:.1f} ms", ""],
            ["its answers", "", f"{found.answers}, {found.failed} failed", ""],
            ["kinds of garbage", "", f"{len(set(found.acts))} of {len(kinds)}, {len(found.acts)} times", ""],
            ["its WebSockets", "", str(found.sockets), ""],
            ["workers cut off", "", str(cut), ""],
            ["generations given up", "", str(len(generations)), ""],
            ["files of the router", str(first.files), "", str(last.files)],
            ["memory of the router", f"{first.memory} MiB", "", f"{last.memory} MiB"],
            ["processes", str(first.processes), "", str(last.processes)],
        ],
        [
            Goal(
                f"the other application is answered as before: p99 at most {FACTOR} times as long, or {FLOOR:g} ms",
                f"{found.answers} answers, {found.failed} failed, {found.during:.1f} ms",
                found.answers > 0 and not found.failed and found.during <= allowed,
            ),
            Goal(
                "only the hostile application is given new generations and other workers, and it is logged why",
                f"{len(generations)} generations, {cut} workers; of the other application {found.workers} has answered",
                set(generations) <= {"hostile"}
                and len(generations) == found.log.count("is given up")
                and cut > 0
                and found.workers == 1,
            ),
            Goal(
                "every kind of garbage was written" if not short else "garbage was written",
                ", ".join(found.mistakes) or (f"but for {', '.join(missing)}" if missing else "all of them"),
                bool(found.acts) and not found.mistakes and (short or not missing),
            ),
            Goal("nothing was possible that must not be", ", ".join(found.broken) or "nothing", not found.broken),
            Goal("no error of ours", f"{tracebacks} tracebacks", tracebacks == 0),
            Goal(
                "nothing leaks: files and processes as before, memory within 32 MiB",
                f"{last.files - first.files:+} files, {last.memory - first.memory:+} MiB",
                last.files <= first.files and last.processes <= first.processes and last.memory <= first.memory + 32,
            ),
        ],
    )


HOSTILE = Figure(
    "hostile",
    "A hostile worker",
    "One application's workers write garbage into queues, segments, descriptors, links and tracking words; "
    f"seed {SEED}; 60 s, or 8 in the short form.",
    figure,
)
