"""What Bridge has set itself to reach, and whether a run of the benchmark says that it does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.bench.figures import Case, Results
from tests.bench.ratio import Range, compare
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
    compared = _by_means if results.about["options"].get("slices") else _by_medians
    for goal in GOALS:
        ours = results.get(goal.row, goal.connections, "bridge")
        theirs = results.get(goal.row, goal.connections, goal.peer)
        if not ours or not theirs:
            yield f"not measured  {goal}"
        elif (found := compared(ours, theirs)) is None:
            yield f"not measured  {goal}: too few slices"
        else:
            cpu, peer, part, shown = found
            if ours.errors or (part.low > goal.part and cpu > goal.microseconds):
                word = "NOT REACHED"
            else:
                word = "reached" if part.high <= goal.part or cpu <= goal.microseconds else "undecided"
            errors = f", {ours.errors} errors" if ours.errors else ""
            yield f"{word:12}  {goal}: {cpu:,.1f} µs against {peer:,.1f} µs = {shown}{errors}"


_Compared = tuple[float, float, Range, str]  # CPU time of both, and what part it is; that as it is shown


def _by_medians(ours: Case, theirs: Case) -> _Compared:
    cpu, peer = ours.middle("cpu_us"), theirs.middle("cpu_us")
    return cpu, peer, Range(cpu / peer, cpu / peer, cpu / peer), f"{cpu / peer:.2f}"


def _by_means(ours: Case, theirs: Case) -> _Compared | None:
    part = compare(ours, theirs)
    return part and (ours.mean("cpu_us"), theirs.mean("cpu_us"), part, str(part))
