"""From wrk's output to figures, and from rounds to medians. No process is started here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

MARK = "JSON "  #: in front of the line that report.lua writes
MEASURES = ("requests_per_second", "p50_ms", "p99_ms", "cpu_us", "pss_mib", "errors")
SOME = ("idle_kib",)  #: measures that only some rows have


@dataclass(frozen=True)
class Figures:
    """One measurement. A request is also a message of a WebSocket that came back, or a WebSocket that was opened."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float  #: user and system time of the whole process tree, per request, in microseconds
    pss_mib: float  #: memory of the tree right after the load, what is shared counted once
    errors: int  #: answers other than 2xx and 3xx, broken connections, timeouts
    idle_kib: float = 0.0  #: memory that each of many idle connections has added


def parse_wrk(output: str) -> dict[str, int]:
    """The numbers of report.lua in what wrk wrote.

    Raises:
        ValueError: wrk did not get as far as a report, or not one request was answered.
    """
    lines = [line for line in output.splitlines() if line.startswith(MARK)]
    if not lines:
        raise ValueError(f"wrk gave no report: {output.strip() or 'no output'}")
    numbers: dict[str, int] = json.loads(lines[-1].removeprefix(MARK))
    if not numbers["requests"]:
        raise ValueError(f"not one request was answered: {numbers}")
    return numbers


def figures(wrk: dict[str, int], cpu_seconds: float, pss: int) -> Figures:
    """What one run of wrk and the counters around it amount to."""
    return Figures(
        requests_per_second=round(wrk["requests"] / wrk["microseconds"] * 1e6, 1),
        p50_ms=wrk["p50"] / 1e3,
        p99_ms=wrk["p99"] / 1e3,
        cpu_us=round(cpu_seconds / wrk["requests"] * 1e6, 2),
        pss_mib=round(pss / 2**20, 1),
        errors=wrk["errors"],
    )


@dataclass(frozen=True, order=True)
class Key:
    """What was measured, apart from when."""

    row: str
    connections: int
    workers: int
    server: str


@dataclass
class Case:
    """One key over all rounds."""

    key: Key
    rounds: list[Figures] = field(default_factory=list)

    def middle(self, measure: str) -> float:
        """The median over the rounds."""
        return float(median(getattr(one, measure) for one in self.rounds))

    def mean(self, measure: str) -> float:
        """The mean over the rounds."""
        return fmean(getattr(one, measure) for one in self.rounds)

    def spread(self, measure: str) -> float:
        """Half the distance between the best and the worst round, as a part of the median."""
        values = [getattr(one, measure) for one in self.rounds]
        return (max(values) - min(values)) / 2 / median(values) if median(values) else 0.0

    @property
    def errors(self) -> int:
        """All errors: a median would hide them."""
        return sum(one.errors for one in self.rounds)


@dataclass
class Results:
    """One run of the benchmark."""

    about: dict[str, Any]  #: machine, versions, options
    cases: dict[Key, Case] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)  #: what could not be measured, and why

    def add(self, key: Key, one: Figures) -> None:
        """Take a measurement in."""
        self.cases.setdefault(key, Case(key)).rounds.append(one)

    def get(self, row: str, connections: int, server: str, workers: int = 1) -> Case | None:
        """One case, if it was measured."""
        return self.cases.get(Key(row, connections, workers, server))

    def connections(self, row: str) -> list[int]:
        """With how many connections a row was measured."""
        return sorted({key.connections for key in self.cases if key.row == row})

    def dump(self) -> str:
        """As JSON, a line for each case."""
        lines = []
        for key, case in self.cases.items():
            named = (*MEASURES, *(name for name in SOME if any(getattr(one, name) for one in case.rounds)))
            lines.append(json.dumps(vars(key) | {name: [getattr(one, name) for one in case.rounds] for name in named}))
        about = json.dumps(self.about, indent=1)[1:-2]
        return f'{{{about},\n "failures": {json.dumps(self.failures)},\n "cases": [\n' + ",\n".join(lines) + "\n]}\n"

    @classmethod
    def load(cls, text: str) -> Results:
        """From JSON."""
        about = json.loads(text)
        cases: Sequence[dict[str, Any]] = about.pop("cases")
        results = cls(failures=about.pop("failures"), about=about)
        for case in cases:
            key = Key(case["row"], case["connections"], case["workers"], case["server"])
            named = [name for name in (*MEASURES, *SOME) if name in case]
            for values in zip(*(case[name] for name in named), strict=True):
                results.add(key, Figures(**dict(zip(named, values, strict=True))))
        return results
