"""Workers that are killed with -9 at any moment: bare ones, by the thousand, and those of a server under load."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from tests.end_to_end.applications.counted import BIG
from tests.end_to_end.inside import NOTHING, Inside
from tests.end_to_end.server import Server
from tests.figures.askers import Asker
from tests.figures.figure import Figure, Goal, Result
from tests.figures.programs import run
from tests.figures.verdict import Asked, faults, summary

DEADLINE = 10.0  #: seconds that a request may take, be its worker killed or not: `queue_timeout`
CLIENTS = 12
BARE = 5000  #: kills of bare workers for each geometry
#: What is logged of workers that are killed and, while some are missing, of a line of whose clients many leave.
EXPECTED = (
    r"[^\n]*\[(error\] worker \d+ \(pid \d+\) ended( while starting)?: signal SIGKILL"
    r"|warning\] '[^\n]*' gets more requests than its workers end: [^\n]*)\n"
)


class Load(NamedTuple):
    """A server, and what is done to it."""

    target: str
    workers: int
    kills: int
    grown: float  #: seconds that a worker has lived before it is killed
    options: tuple[str, ...] = ()


LONG = (
    Load("counted:asgi", 6, 200, 3.0),
    Load("counted:wsgi", 6, 200, 3.0, ("--threads", "2", "--interface", "wsgi")),
)
SHORT = tuple(load._replace(workers=3, kills=3, grown=0.0) for load in LONG)


class Killing(NamedTuple):
    """What came of it."""

    asked: list[Asked]
    runs: dict[str, list[int]]
    deaths: dict[int, float]
    left: str  #: what of the shared memory somebody still held in the end


def _age(pid: int) -> float:
    """Seconds since the process began."""
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def _kill_oldest(server: Server, load: Load, chance: random.Random, deaths: dict[int, float]) -> None:
    """Wait until all workers are there and one is old enough, then a moment more; note when it died."""
    while True:
        workers = sorted((pid for pid in server.workers if pid not in deaths), key=_age)
        if len(workers) == load.workers and _age(workers[-1]) > load.grown:
            break
        time.sleep(0.01)
    time.sleep(chance.uniform(0.0, 0.1))
    os.kill(workers[-1], signal.SIGKILL)
    deaths[workers[-1]] = time.monotonic()


def _settled(server: Server, load: Load) -> str:
    """What the shared memory holds when nothing is under way any more: empty, or what has stayed."""
    inside = Inside(server.router)
    end = time.monotonic() + DEADLINE
    while (left := inside.left()) != NOTHING or len(server.workers) != load.workers or inside.ports() != load.workers:
        if time.monotonic() > end:
            return f"{left}, memory of {inside.ports()} workers"
        time.sleep(0.01)
    return ""


def under_load(load: Load) -> Killing:
    """Kill the workers of a server whose clients go on asking."""
    options = ("-w", str(load.workers), "--set", f"application.queue_timeout={DEADLINE:g}", *load.options)
    chance = random.Random(load.target)
    deaths: dict[int, float] = {}
    with Server(load.target, *options) as server:
        askers = [Asker(server.address, f"client-{number}", 2 * DEADLINE, BIG) for number in range(CLIENTS)]
        for asker in askers:
            asker.start()
        try:
            for _ in range(load.kills):
                _kill_oldest(server, load, chance, deaths)
            time.sleep(0.5)  # what comes after the last one
        finally:
            for asker in askers:
                asker.stop()
            for asker in askers:
                asker.join()
        left = _settled(server, load)
        runs: dict[str, list[int]] = defaultdict(list)
        for line in (server.gates / "runs").read_text().splitlines():
            pid_text, identity = line.split()
            runs[identity].append(int(pid_text))
        server.main.send_signal(signal.SIGTERM)
        server.log.all()
        server.log.rest = re.sub(EXPECTED, "", server.log.rest)
    return Killing([request for asker in askers for request in asker.asked], runs, deaths, left)


def _bare(kills: int, rows: list[list[str]]) -> list[Goal]:
    failures = []
    for geometry in ("normal", "tiny"):
        begun = time.monotonic()
        done = run("killed_workers", geometry, kills)
        seen = done.complaint
        if done.numbers:
            died, published, ended, cancelled, lost, again, cells, words, chunks = done.numbers
            seen = (
                f"{published:,} requests: {ended:,} done, {cancelled:,} cancelled, {lost:,} died with their worker,"
                f" {again:,} begun again; of the dead {cells} had a queue cell in hand, {words} a tracking word,"
                f" {chunks} chunks"
            )
            kills_done = f"{died:,}"
        else:
            failures.append(done.complaint)
            kills_done = "?"
        rows.append([f"bare worker, {geometry} geometry", kills_done, seen, "", f"{time.monotonic() - begun:.0f}"])
    text = "bare workers: all is free again, each request ends once, none hangs"
    return [Goal(text, "; ".join(failures) or "nothing else was seen", reached=not failures)]


def _goals(load: Load, killing: Killing) -> list[Goal]:
    found = faults(killing.asked, killing.runs, killing.deaths)
    slowest = max(request.ended - request.begun for request in killing.asked)
    said = ", ".join(f"{count} {what}" for what, count in found.items()) or "none was seen"
    return [
        Goal(
            f"{load.target}: chunks, queue cells, tracking words and memory of the dead",
            killing.left or "all free",
            not killing.left,
        ),
        Goal(f"{load.target}: no request fails or is repeated but with its worker", said, not found),
        Goal(f"{load.target}: no request takes {DEADLINE:g} s", f"the slowest {slowest:.2f} s", slowest < DEADLINE),
    ]


def measure(short: bool) -> Result:
    """Kill them; a few seconds if `short`."""
    rows: list[list[str]] = []
    goals = _bare(100 if short else BARE, rows)
    for load in SHORT if short else LONG:
        begun = time.monotonic()
        killing = under_load(load)
        slowest = max(request.ended - request.begun for request in killing.asked)
        took = f"{time.monotonic() - begun:.0f}"
        rows.append([load.target, str(len(killing.deaths)), summary(killing.asked), f"{slowest:.2f} s", took])
        goals += _goals(load, killing)
    return Result(["worker", "kills", "requests", "slowest", "s"], rows, goals)


KILLS = Figure(
    "kills",
    "kill -9",
    f"Bare workers are C programs that claim, answer and allocate chunks; every {50} kills nothing may be held by"
    f" anybody. Then {LONG[0].workers} workers of a server, the oldest each time, while {CLIENTS} clients ask, upload,"
    " download and leave; the application notes which process began which request.",
    measure,
)
