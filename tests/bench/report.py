"""From wrk's output to figures, and from figures to a table. No process is started here."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from statistics import median

MARK = "JSON "  #: in front of the line that report.lua writes


@dataclass(frozen=True)
class Figures:
    """One measurement: one server, one load, one round."""

    server: str
    load: str
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float  #: user and system time of the whole process tree, per request, in microseconds
    pss_mib: float  #: memory of the tree right after the load, what is shared counted once
    errors: int  #: answers other than 2xx and 3xx, broken connections, timeouts


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


def figures(server: str, load: str, wrk: dict[str, int], cpu_seconds: float, pss: int) -> Figures:
    """What one run of wrk and the counters around it amount to."""
    return Figures(
        server=server,
        load=load,
        requests_per_second=wrk["requests"] / wrk["microseconds"] * 1e6,
        p50_ms=wrk["p50"] / 1e3,
        p99_ms=wrk["p99"] / 1e3,
        cpu_us=cpu_seconds / wrk["requests"] * 1e6,
        pss_mib=pss / 2**20,
        errors=wrk["errors"],
    )


def combine(rounds: list[Figures]) -> Figures:
    """The median of each figure over the rounds of one server under one load; errors are added up."""
    numbers = {
        name: median(asdict(each)[name] for each in rounds)
        for name in ("requests_per_second", "p50_ms", "p99_ms", "cpu_us", "pss_mib")
    }
    errors = sum(each.errors for each in rounds)
    return Figures(server=rounds[0].server, load=rounds[0].load, errors=errors, **numbers)


def table(rounds: list[Figures]) -> str:
    """Medians as a Markdown table; CPU time also relative to the last server of the same load."""
    groups: dict[tuple[str, str], list[Figures]] = {}
    for each in rounds:
        groups.setdefault((each.load, each.server), []).append(each)
    medians = {key: combine(group) for key, group in sorted(groups.items())}
    lines = [
        "| load | server | requests/s | p50 ms | p99 ms | CPU µs/request | ratio | PSS MiB | errors |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for (load, server), row in medians.items():
        last = [other for (same, _), other in medians.items() if same == load][-1]
        lines.append(
            f"| {load} | {server} | {row.requests_per_second:,.0f} | {row.p50_ms:.2f} | {row.p99_ms:.2f} "
            f"| {row.cpu_us:,.1f} | {row.cpu_us / last.cpu_us:.2f} | {row.pss_mib:.0f} | {row.errors} |"
        )
    return "\n".join(lines)
