"""Short requests among long ones: how long the short ones wait behind the others."""

from __future__ import annotations

from tests.figures.applications import LONG, SHORT
from tests.figures.figure import Figure, Goal, Result
from tests.figures.open_load import kept
from tests.figures.serving import server, serving

LONG_PART = 0.1  #: of the requests
WORKERS = 2  #: of one thread each, or one loop
BUSY = 0.6  #: of the capacity is asked for
CONNECTIONS = 16
CAPACITY = WORKERS / (LONG_PART * LONG + (1 - LONG_PART) * SHORT)  #: requests a second
MOST_ALONE = 0.6  #: seconds: what the short form allows, also on a machine that does other things
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


def quantile(sorted_values: list[float], part: float) -> float:
    """The value below which this part of them lies."""
    return sorted_values[min(len(sorted_values) - 1, int(part * len(sorted_values)))]


def measure(name: str, interface: str, seconds: float) -> list[float]:
    """Seconds that each of the short requests took, in ascending order; one that was not answered took for ever."""
    with serving(server(name, interface), f"mixed_{interface}", WORKERS, "") as address:
        outcomes = kept(
            address, BUSY * CAPACITY, seconds, CONNECTIONS, lambda chance: b"/long" if chance < LONG_PART else b"/"
        )
    return sorted(
        outcome.seconds if outcome.status == 200 else float("inf") for outcome in outcomes if outcome.path == b"/"
    )


def figure(short: bool) -> Result:
    """Measure Bridge, and in the long form the others, and who computes: that is to be had on an idle machine only."""
    servers = SERVERS[:1] if short else SERVERS
    found = {each: measure(*each, 5.0 if short else 60.0) for each in servers}
    p99 = {each: quantile(times, 0.99) for each, times in found.items()}
    goals = []
    for interface in ("wsgi",) if short else ("wsgi", "asgi"):
        ours = p99["bridge", interface]
        if short:
            text = f"{interface.upper()}: p99 of the short ones at most {MOST_ALONE * 1000:.0f} ms"
            goals.append(Goal(text, f"{ours * 1000:.0f} ms", ours <= MOST_ALONE))
            continue
        for (name, kind), part in GOALS.items():
            if kind == interface:
                theirs = p99[name, kind]
                text = f"{interface.upper()}: p99 of the short ones at most {part:.2f} of {name}'s"
                measured = f"{ours * 1000:.0f} ms against {theirs * 1000:.0f} ms = {ours / theirs:.2f}"
                goals.append(Goal(text, measured, ours <= part * theirs))
    return Result(
        ["server", "p50 of the short ones", "p90", "p99"],
        [
            [f"{name} ({interface.upper()})", *(f"{quantile(times, part) * 1000:.1f} ms" for part in (0.5, 0.9, 0.99))]
            for (name, interface), times in found.items()
        ],
        goals,
    )


BALANCE = Figure(
    "balance",
    "Balance",
    f"{WORKERS} workers of one thread, or one loop: {LONG_PART:.0%} of the requests take {LONG * 1000:.0f} ms (WSGI:"
    f" they wait; ASGI: they compute), the others {SHORT * 1000:.0f} ms. They come at random, {BUSY:.0%} of what can be"
    f" done, over {CONNECTIONS} connections that are kept.",
    figure,
)
