"""Claim against cancel, wake-ups, and the ends of the tickets, many times over."""

from __future__ import annotations

import time
from typing import NamedTuple

from tests.figures.figure import Figure, Goal, Result
from tests.figures.programs import Run, run

REAL = 0.02  #: part of the rounds that either side must win, or it was no race


class Hunt(NamedTuple):
    """One program, and how often it does what it does."""

    what: str
    program: str
    long: int  #: rounds
    short: int
    geometries: tuple[str, ...] = ("normal", "tiny")
    between: tuple[str, ...] = ("threads", "processes")


HUNTS = (
    Hunt("claim and cancel at the same moment", "cancel_race", 10_000_000, 20_000, between=("threads",)),
    Hunt("claim and cancel at the same moment", "cancel_race", 1_000_000, 8_000, between=("processes",)),
    Hunt("push, a pause, ring; look, a pause, sleep", "queue_doze", 1_000_000, 4_000),
    Hunt("release, a pause, ring; claim, a pause, sleep", "memory_wait", 1_000_000, 4_000),
)


def _seen(program: str, done: Run) -> str:
    if done.complaint:
        return done.complaint
    if program == "cancel_race":
        cancelled, overtaken, finished = done.numbers
        return f"{cancelled:,} cancelled in time, {overtaken:,} while they ran, {finished:,} too late"
    slept, *starved = done.numbers
    return f"{slept:,} times asleep" + "".join(f", {count:,} times no room" for count in starved)


def measure(short: bool) -> Result:
    """Run all of them; a few seconds if `short`."""
    rows: list[list[str]] = []
    failures: list[str] = []
    rare = 1.0
    for hunt in HUNTS:
        rounds = hunt.short if short else hunt.long
        for geometry in hunt.geometries:
            for between in hunt.between:
                begun = time.monotonic()
                done = run(hunt.program, geometry, rounds, between)
                failures += [done.complaint] if done.complaint else []
                rows.append([hunt.what, geometry, between, f"{rounds:,}", _seen(hunt.program, done)])
                rows[-1].append(f"{time.monotonic() - begun:.1f}")
                if hunt.program == "cancel_race" and not done.complaint:
                    rare = min(rare, done.numbers[0] / rounds, 1 - done.numbers[0] / rounds)
    for geometry in ("normal", "tiny"):
        wrapped = run("queue_wrap", geometry)
        failures += [wrapped.complaint] if wrapped.complaint else []
    goals = [
        Goal(
            "each race has one winner, no slot is lost or used too early, nobody sleeps beside work, no ticket is lost",
            "; ".join(failures) or "nothing else was seen",
            reached=not failures,
        ),
        Goal(f"either side wins {REAL:.0%} of the rounds", f"the rarer one {rare:.0%}", reached=rare >= REAL),
    ]
    return Result(["what", "geometry", "between", "rounds", "seen", "s"], rows, goals)


RACES = Figure(
    "races",
    "Races",
    "C programs of tests/core on the structures themselves. Claims and cancels pass tickets 2^32, 2^40, 2^64 and the"
    " last cycle of a cell; the pause before a cancel follows the outcome, so that both sides win equally often.",
    measure,
)
