"""What Bridge has set itself to reach, and whether a run of the benchmark says that it does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.bench.figures import Case, Results
from tests.bench.ratio import compare
from tests.bench.rows import FEW, MANY


@dataclass(frozen=True)
class Goal:
    """CPU time per request or message: so much of a peer's, or so many microseconds."""

    row: str
    connections: int
    peer: str
    part: float
    microseconds: float = 0.0  #: enough by itself; 0 = no such number

    def __str__(self) -> str:
        alone = f" or ≤ {self.microseconds:g} µs" if self.microseconds else ""
        return f"{self.row}, {self.connections} connections: CPU ≤ {self.part:.2f} of {self.peer}'s{alone}"


GOALS = (
    Goal("hello-asgi", MANY, "uvicorn", 0.95),
    Goal("hello-wsgi", MANY, "granian", 0.5, microseconds=15.0),
    Goal("upload-asgi", FEW, "uvicorn", 0.6),
    Goal("upload-wsgi", FEW, "granian", 1.0),
    Goal("ws-short", MANY, "uvicorn", 1.0),
    Goal("ws-short-deflate", MANY, "uvicorn", 1.0),
    Goal("ws-long", MANY, "uvicorn", 1.0),
    Goal("ws-long-deflate", MANY, "uvicorn", 1.0),
)


def verdicts(results: Results) -> Iterator[str]:
    """A line for each goal. Where servers were loaded in turn, "undecided" is what chance alone could turn round."""
    for goal in GOALS:
        ours = results.get(goal.row, goal.connections, "bridge")
        theirs = results.get(goal.row, goal.connections, goal.peer)
        if not ours or not theirs:
            yield f"not measured  {goal}"
            continue
        if results.about["options"].get("slices"):
            yield _in_turn(goal, ours, theirs)
            continue
        cpu, peer = ours.middle("cpu_us"), theirs.middle("cpu_us")
        reached = not ours.errors and (cpu <= goal.part * peer or cpu <= goal.microseconds)
        errors = f", {ours.errors} errors" if ours.errors else ""
        word = "reached     " if reached else "NOT REACHED "
        yield f"{word}  {goal}: {cpu:,.1f} µs against {peer:,.1f} µs = {cpu / peer:.2f}{errors}"


def _in_turn(goal: Goal, ours: Case, theirs: Case) -> str:
    part = compare(ours, theirs)
    if part is None:
        return f"not measured  {goal}: too few slices"
    cpu, peer = ours.mean("cpu_us"), theirs.mean("cpu_us")
    errors = f", {ours.errors} errors" if ours.errors else ""
    if ours.errors or (part.low > goal.part and cpu > goal.microseconds):
        word = "NOT REACHED "
    elif part.high <= goal.part or cpu <= goal.microseconds:
        word = "reached     "
    else:
        word = "undecided   "
    return f"{word}  {goal}: {cpu:,.1f} µs against {peer:,.1f} µs = {part}{errors}"
