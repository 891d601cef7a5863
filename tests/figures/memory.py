"""Little shared memory and many clients that take their time: what others wait, and what it costs in memory."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bridge import config
from tests.bench.processes import pss
from tests.end_to_end.inside import NOTHING, Inside
from tests.end_to_end.server import Server
from tests.end_to_end.wire import Wire
from tests.figures.figure import Figure, Goal, Result

ROOT = Path(__file__).parent.parent.parent
MIB = 1 << 20
LIMIT = 32 * MIB  #: `memory.limit`
SLOW = 200  #: readers, and as many uploaders
FACTOR = 3.0  #: by which the slow ones may lengthen the 99th percentile of the others
#: What may come on top of the limit: the worker's response segment (10 MiB), the heads' share (an eighth of the limit),
#: 64 KiB for each of the readers of WSGI, and 32 KiB for the objects of each connection in router and worker.
CONSTANT = 10 * MIB + LIMIT // 8 + SLOW * 65536 + 2 * SLOW * 32768
BODY = bytes(range(256)) * 80
LONG, SHORT = (25, 200), (1, 50)  #: batches, and requests of each kind in one
KINDS: dict[str, Callable[[Wire], Wire]] = {
    "small": lambda wire: wire.get("/small"),
    "echo": lambda wire: wire.post("/echo", BODY),
}
SERVERS = {"ASGI": ("streams:asgi",), "WSGI": ("streams:wsgi", "--interface", "wsgi", "--threads", "4")}


class Measured(NamedTuple):
    """What became of one server."""

    idle: dict[str, float]  #: seconds, 99th percentile of each kind of request
    first: float  #: seconds of the first request behind 400 that have just come
    beside: dict[str, float]  #: as `idle`, when those have begun
    base: int  #: bytes of all processes
    most: int  #: bytes by which they grew
    complaint: str  #: what was not as it must be


def _percentiles(server: Server, plan: tuple[int, int], sizes: list[int]) -> dict[str, float]:
    """The 99th percentile of each kind; looks at the memory between the batches."""
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with Wire(server.address) as wire:
        for _ in range(plan[0]):
            for kind, ask in KINDS.items():
                for _ in range(plan[1]):
                    begun = time.perf_counter()
                    answer = ask(wire).answer()
                    found[kind].append(time.perf_counter() - begun)
                    assert answer.status == 200
            sizes.append(pss(server.main.pid))
    return {kind: statistics.quantiles(times, n=100)[-1] for kind, times in found.items()}


def _first(server: Server) -> float:
    begun = time.perf_counter()
    with Wire(server.address) as wire:
        assert wire.get("/small").answer().status == 200
    return time.perf_counter() - begun


def _settled(server: Server) -> str:
    inside = Inside(server.router, config.Memory(limit=LIMIT))
    end = time.monotonic() + 20
    while (left := inside.left()) != NOTHING:
        if time.monotonic() > end:
            return f"still held when all had left: {left}"
        time.sleep(0.02)
    return ""


def _measure(options: tuple[str, ...], plan: tuple[int, int]) -> Measured:
    sizes: list[int] = []
    target, *others = options
    with Server(target, *others, "--set", f"memory.limit={LIMIT}") as server:
        _percentiles(server, SHORT, sizes)  # warm
        idle = _percentiles(server, plan, sizes)
        base = sizes[-1]
        sizes.clear()
        host, number = server.address
        command = [sys.executable, "-m", "tests.figures.slow", host, str(number), str(SLOW), str(SLOW)]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as slow:
            assert slow.stdin
            assert slow.stdout
            try:
                complaint = slow.stdout.readline().strip().removeprefix("begun")
                first = _first(server)
                _percentiles(server, SHORT, sizes)
                beside = _percentiles(server, plan, sizes)
                slow.stdin.close()
                complaint = complaint or slow.stdout.read().strip()
            finally:
                slow.kill()
        complaint = complaint or _settled(server)
    return Measured(idle, first, beside, base, max(sizes) - base, complaint)


def measure(short: bool) -> Result:
    """Both interfaces; a few seconds if `short`, which is too short for a goal on times."""
    rows: list[list[str]] = []
    goals: list[Goal] = []
    for name, options in SERVERS.items():
        measured = _measure(options, SHORT if short else LONG)
        for kind, idle in measured.idle.items():
            beside = measured.beside[kind]
            times = [
                f"{idle * 1000:.2f} ms",
                f"{beside * 1000:.2f} ms",
                f"{beside / idle:.1f}",
                f"{measured.first:.2f} s",
            ]
            rows.append([f"{name}, {kind}", *times, f"{measured.base / MIB:.0f} MiB", f"{measured.most / MIB:.0f} MiB"])
            if not short:
                text = f"{name}: 99th percentile of {kind}, at most {FACTOR:g} times idle"
                goals.append(Goal(text, f"{beside / idle:.1f} times", beside <= FACTOR * idle))
        allowed = LIMIT + CONSTANT
        text = f"{name}: growth of all processes, at most {LIMIT // MIB} + {CONSTANT / MIB:.0f} MiB"
        goals.append(Goal(text, f"{measured.most / MIB:.0f} MiB", measured.most <= allowed))
        text = f"{name}: nobody is cut off, and everything is free when all have left"
        goals.append(Goal(text, measured.complaint or "so it is", not measured.complaint))
    columns = ["requests", "idle p99", "beside p99", "times", "the first one beside", "memory idle", "growth"]
    return Result(columns, rows, goals)


MEMORY = Figure(
    "memory",
    "Slow clients and little memory",
    f"A limit of {LIMIT // MIB} MiB, one worker, {SLOW} clients that read 10 MiB at 32 KiB/s, and {SLOW} that send as"
    " much at 16 KiB/s; another one asks for a few bytes, and has 20 KiB echoed. Memory is the proportional set size.",
    measure,
)
