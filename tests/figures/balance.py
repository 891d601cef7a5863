"""Short requests among long ones: how long the short ones wait behind the others."""

from __future__ import annotations

from collections import Counter
from math import inf
from typing import NamedTuple

from tests.figures.applications import LONG, SHORT
from tests.figures.beside_idle import Run, beside_idle
from tests.figures.figure import Figure, Goal, Result
from tests.figures.one_line import one_line
from tests.figures.open_load import Outcome, kept, schedules
from tests.figures.serving import server, serving

LONG_PART = 0.1  #: of the requests
WORKERS = 2  #: of one thread each, or one loop
BUSY = 0.6  #: of the capacity is asked for
CLIENTS = 16
CAPACITY = WORKERS / (LONG_PART * LONG + (1 - LONG_PART) * SHORT)  #: requests a second
SEEDS = (1, 2, 3)  #: of the rounds
LONG_ROUND, SHORT_ROUND = 12.0, 5.0  #: seconds
#: Which connections a worker gets may be luck: clients that connect at the same time are often all taken by one.
WAYS = {True: "connected at once", False: "one by one"}
LEAST = 0.02  #: seconds that count as waiting
#: Of the short ones: with connections that are bound to workers it is 15 to 30 %. In the short form, beside other
#: programs, one of the rounds has to show it.
MOST_BESIDE_IDLE = 0.1
GOALS = {("granian", "wsgi"): 1 / 2, ("gunicorn-gthread", "wsgi"): 1 / 3, ("granian", "asgi"): 1 / 2}  #: of their p99
SERVERS = (
    ("bridge", "wsgi"),
    ("granian", "wsgi"),
    ("gunicorn-gthread", "wsgi"),
    ("gunicorn-sync", "wsgi"),
    ("bridge", "asgi"),
    ("granian", "asgi"),
    ("uvicorn", "asgi"),
    ("gunicorn-asgi", "asgi"),
)
BRIDGE = SERVERS[0]


class Measured(NamedTuple):
    """What one server has done in all rounds in which clients connected in the same way."""

    times: list[float]  #: seconds that each short request took, in ascending order; one without an answer took for ever
    beside_idle: float  #: the part of them that waited although a worker had nothing to do
    busiest: float  #: the part of the requests that one worker had to run, in the worst round

    def quantile(self, part: float) -> float:
        """Seconds within which this part of the short ones was answered."""
        return quantile(self.times, part)


def quantile(sorted_values: list[float], part: float) -> float:
    """The value below which this part of them lies."""
    return sorted_values[min(len(sorted_values) - 1, int(part * len(sorted_values)))]


def plan(seconds: float, seed: int) -> list[list[Outcome]]:
    """What the clients of one round ask for."""
    return schedules(BUSY * CAPACITY, seconds, CLIENTS, lambda chance: b"/long" if chance < LONG_PART else b"/", seed)


def took(outcome: Outcome) -> float:
    """Seconds that the application needs for it."""
    return LONG if outcome.path == b"/long" else SHORT


def measure(name: str, interface: str, seconds: float, seed: int, *, at_once: bool) -> list[Outcome]:
    """One round: a server that was started for it, under the load of this seed."""
    clients = plan(seconds, seed)
    with serving(server(name, interface), f"mixed_{interface}", WORKERS, "") as address:
        kept(address, clients, at_once=at_once)
    return [outcome for outcomes in clients for outcome in outcomes]


def summary(rounds: list[list[Outcome]]) -> Measured:
    """All rounds of one server."""
    times: list[float] = []
    waited: list[bool] = []
    busiest = 0.0
    for outcomes in rounds:
        times += [outcome.seconds if outcome.status == 200 else inf for outcome in outcomes if outcome.path == b"/"]
        answered = [outcome for outcome in outcomes if outcome.status == 200]
        runs = [Run(each.came, each.came + each.seconds, took(each), each.worker) for each in answered]
        beside = beside_idle(runs, WORKERS, LEAST)
        waited += [each for each, outcome in zip(beside, answered, strict=True) if outcome.path == b"/"]
        by_worker = Counter(run.worker for run in runs)
        busiest = max(busiest, max(by_worker.values(), default=0) / max(len(runs), 1))
    return Measured(sorted(times), sum(waited) / max(len(waited), 1), busiest)


def ideal() -> list[float]:
    """Seconds of the short ones of all rounds in one line for two workers that need no time for anything else."""
    times: list[float] = []
    for seed in SEEDS:
        clients = plan(LONG_ROUND, seed)
        found = one_line([[(each.came, took(each)) for each in client] for client in clients], WORKERS)
        for client, seconds in zip(clients, found, strict=True):
            times += [each for each, outcome in zip(seconds, client, strict=True) if outcome.path == b"/"]
    return sorted(times)


def _best_short_round() -> Measured:
    for seed in SEEDS:
        found = summary([measure(*BRIDGE, SHORT_ROUND, seed, at_once=True)])
        if found.beside_idle < MOST_BESIDE_IDLE:
            break
    return found


def _all_rounds() -> dict[tuple[str, str], dict[bool, Measured]]:
    rounds: dict[tuple[str, str], dict[bool, list[list[Outcome]]]] = {each: {True: [], False: []} for each in SERVERS}
    for seed in SEEDS:
        for each in SERVERS:
            for at_once in WAYS:
                rounds[each][at_once].append(measure(*each, LONG_ROUND, seed, at_once=at_once))
    return {each: {way: summary(outcomes) for way, outcomes in ways.items()} for each, ways in rounds.items()}


def _p99(ways: dict[bool, Measured]) -> float:
    """Of all short ones, however the clients had connected."""
    return quantile(sorted(time for way in ways.values() for time in way.times), 0.99)


def figure(short: bool) -> Result:
    """Measure Bridge, and in the long form the others, who are to be had on an idle machine only."""
    found = {BRIDGE: {True: _best_short_round()}} if short else _all_rounds()
    rows = []
    goals = []
    for (name, interface), ways in found.items():
        for way, measured in ways.items():
            times = [f"{measured.quantile(part) * 1000:.1f} ms" for part in (0.5, 0.9, 0.99)]
            shares = f"{measured.beside_idle:.1%}", f"{measured.busiest:.0%}"
            rows.append([f"{name} ({interface.upper()})", WAYS[way], *times, *shares])
        if name == "bridge":
            most = max(each.beside_idle for each in ways.values())
            text = (
                f"{interface.upper()}: fewer than {MOST_BESIDE_IDLE:.0%} of the short ones wait beside an idle worker"
            )
            goals.append(Goal(text, f"{most:.1%}", most < MOST_BESIDE_IDLE))
    for (name, interface), part in {} if short else GOALS.items():
        ours, theirs = (_p99(found[each, interface]) for each in ("bridge", name))
        text = f"{interface.upper()}: p99 of the short ones at most {part:.2f} of {name}'s"
        goals.append(
            Goal(
                text,
                f"{ours * 1000:.0f} ms against {theirs * 1000:.0f} ms = {ours / theirs:.2f}",
                ours <= part * theirs,
            )
        )
    if not short:
        times = [f"{quantile(ideal(), part) * 1000:.1f} ms" for part in (0.5, 0.9, 0.99)]
        rows.append(["one line for both workers, simulated", "", *times, "0.0%", ""])
    columns = ["server", "clients", "p50 of the short ones", "p90", "p99", "waited beside an idle worker"]
    return Result([*columns, "requests of the busier one"], rows, goals)


BALANCE = Figure(
    "balance",
    "Balance",
    f"{WORKERS} workers of one thread, or one loop: {LONG_PART:.0%} of the requests take {LONG * 1000:.0f} ms (WSGI:"
    f" they wait; ASGI: they compute), the others {SHORT * 1000:.0f} ms. They come at random, {BUSY:.0%} of what can be"
    f" done, from {CLIENTS} clients that keep one connection each. Rounds of {LONG_ROUND:.0f} s with seeds"
    f" {', '.join(map(str, SEEDS))}, for each of which every server is started anew, once for clients that connect"
    " at the same time and once for those that do one by one; the goals are on all of them.",
    figure,
)
