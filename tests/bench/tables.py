"""Results as Markdown: everything for a file of its own, and the short form for the README."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench.figures import Case, Results
from tests.bench.goals import verdicts
from tests.bench.plan import SLICE, WHOLE_SLICE
from tests.bench.ratio import SURE
from tests.bench.rows import ROWS, Row
from tests.bench.servers import SERVERS

OF_WEBSOCKETS = (
    "Of WebSockets a request is a message and its echo; where they are idle the cells say how much memory each of them",
    "has added, and how many were opened per second, one after the other.",
    "",
)
INTERFACES = {"asgi": "ASGI", "wsgi": "WSGI", "websocket": "WebSocket"}


def label(server: str, workers: int) -> str:
    """A server as readers see it."""
    return f"{server}, {workers} workers" if workers > 1 else server


def number(value: float) -> str:
    """Three significant digits where there is a fraction."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def line(case: Case, ours: Case | None, *, means: bool) -> str:
    """One case as a line of the complete table; its CPU time relative to ours by means, or by medians."""
    ratio = "-"
    if ours:
        theirs, own = ((one.mean if means else one.middle)("cpu_us") for one in (case, ours))
        ratio = f"{theirs / own:.2f}"
    cells = [
        label(case.key.server, case.key.workers),
        str(case.key.connections),
        f"{case.middle('requests_per_second'):,.0f} ±{case.spread('requests_per_second'):.0%}",
        number(case.middle("p50_ms")),
        number(case.middle("p99_ms")),
        f"{number(case.middle('cpu_us'))} ±{case.spread('cpu_us'):.0%}",
        ratio,
        f"{case.middle('pss_mib'):.0f}",
        str(case.errors),
    ]
    if case.middle("idle_kib"):
        cells.append(number(case.middle("idle_kib")))
    return f"| {' | '.join(cells)} |"


def complete(results: Results) -> str:
    """Every figure of a run."""
    lines = [f"# Benchmark of Bridge {results.about['versions']['bridged']}", "", *about(results), ""]
    slices = bool(results.about["options"].get("slices"))
    each, by = ("slice", ", by means") if slices else ("round", "")
    lines.append(
        f"± is half the distance between the best and the worst {each}. ÷ is the CPU time relative to Bridge's{by}."
    )
    for row in ROWS:
        if not (counts := results.connections(row.name)):
            continue
        one, idle = ("opening", " KiB each |") if row.idle else ("message" if row.message else "request", "")
        lines += [
            "",
            f"## {row.title}, {INTERFACES[row.interface]}",
            "",
            f"| server | connections | {one}s/s | p50 ms | p99 ms | CPU µs/{one} | ÷ | PSS MiB | errors |{idle}",
            f"|---|--:|--:|--:|--:|--:|--:|--:|--:|{'--:|' if idle else ''}",
        ]
        for count in counts:
            ours = results.get(row.name, count, "bridge")
            cases = [
                case for case in results.cases.values() if (case.key.row, case.key.connections) == (row.name, count)
            ]
            lines += [line(case, ours, means=slices) for case in sorted(cases, key=order)]
    lines += ["", *failures(results), "## Goals", "", *(f"    {verdict}" for verdict in verdicts(results))]
    return "\n".join(lines) + "\n"


def order(case: Case) -> tuple[int, int]:
    """Servers as in their table, one worker first."""
    return case.key.workers, [server.name for server in SERVERS].index(case.key.server)


def busy(results: Results) -> bool:
    """Whether the machine had something else to do when the run began."""
    machine = results.about["machine"]
    return bool(machine["load"] > machine["processors"] / 2)


def about(results: Results) -> list[str]:
    """Under what circumstances."""
    machine, options = results.about["machine"], results.about["options"]
    versions = ", ".join(f"{name} {version}" for name, version in results.about["versions"].items())
    beside = f"wrk and other work (load {machine['load']}) run" if busy(results) else "wrk runs"
    where = f"{machine['processors']} x {machine['cpu']}, Linux {machine['kernel']}, Python {machine['python']}"
    where += f", wrk {machine['wrk']}"
    turns = []
    if not (slices := options.get("slices")):
        how = f"{options['rounds']} rounds of {options['seconds']} s"
    else:
        how = f"{slices} slices of {SLICE} s ({WHOLE_SLICE} s with wrk)"
        turns = [
            "All servers of a row are up at the same time, and loaded in turn. The goals compare means; in parentheses",
            f"is where {SURE:.0%} of the ratios lie that chance could have made of these slices.",
        ]
    return [
        f"{results.about['date']}, medians of {how}; {beside} beside",
        f"the servers on {where};",
        f"{versions}.",
        *turns,
    ]


def failures(results: Results) -> Iterator[str]:
    """What could not be measured."""
    for what, why in results.failures.items():
        yield f"Not measured: {what}: {why}"
        yield ""


def cost(case: Case) -> float:
    """What a case is compared by in the README: memory where nothing happens, else CPU time."""
    return case.middle("idle_kib") or case.middle("cpu_us")


def cell(case: Case | None, *, best: bool) -> str:
    """What a case costs and requests per second in a cell of the README."""
    if case is None:
        return "-"
    shown = number(cost(case))
    unit = " KiB" if case.middle("idle_kib") else ""
    errors = f" ({case.errors} errors)" if case.errors else ""
    return f"{f'**{shown}**' if best else shown}{unit} · {case.middle('requests_per_second'):,.0f}{errors}"


def short(results: Results, interface: str, workers: int) -> list[str]:
    """Rows of one interface as lines, servers as columns; the least cost of a line in bold. Empty if unmeasured."""
    servers = [server for server in SERVERS if server.interface == interface]
    title = "with one worker each" if workers == 1 else f"with {workers} processes each (Bridge: router and worker)"
    names = [server.name for server in servers]
    lines = [f"| {INTERFACES[interface]}, {title} | {' | '.join(names)} |", "|---|" + "--:|" * len(names)]
    measured = False
    for row in ROWS:
        for count in results.connections(row.name) if row.interface == interface else ():
            cases = [results.get(row.name, count, server.name, 1 if server.router else workers) for server in servers]
            least = min((cost(case) for case in cases if case and not case.errors), default=0.0)
            cells = [cell(case, best=bool(case and not case.errors and cost(case) == least)) for case in cases]
            measured = measured or any(case and case.key.workers == workers for case in cases)
            lines.append(f"| {title_of(row, count)} | {' | '.join(cells)} |")
    return [*lines, ""] if measured else []


def title_of(row: Row, connections: int) -> str:
    """A row with so many connections."""
    return f"{row.title}, {connections:,} connection{'s' if connections > 1 else ''}"


def readme(results: Results, file: str) -> str:
    """What stands between the README's marks.

    Args:
        results: a run.
        file: its path relative to the README; the complete table lies beside it as .md.
    """
    workers = sorted({key.workers for key in results.cases})
    tables = [text for count in workers for interface in INTERFACES for text in short(results, interface, count)]
    return "\n".join(
        [
            "Each cell: microseconds of CPU time per request (user and system, whole process tree), then requests per",
            "second; the least CPU time of a line is bold. Latencies, memory and the spread of the rounds:",
            f"[{file.removesuffix('.json')}.md]({file.removesuffix('.json')}.md).",
            "",
            *tables,
            *(OF_WEBSOCKETS if any(row.message and results.connections(row.name) for row in ROWS) else ()),
            *about(results),
            "",
            *failures(results),
            *(f"    {verdict}" for verdict in verdicts(results)),
        ]
    )
