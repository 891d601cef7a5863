"""`make bench`: Bridge, uvicorn, granian and gunicorn in turn under the same loads. Needs wrk.

Without options: every row at 1, 4 and 64 connections, with one worker each, then with as many processes as Bridge has;
about half an hour. --quick: one worker each, at the row's own number of connections; about ten minutes.

--slices: where rounds differ by more than servers do, as on a machine that is shared: all servers of a row are up and
loaded in turn, 0.3 s each (1 s with wrk), and the result says how sure it is. To decide one row, in four minutes:

    make bench ARGS="--slices 300 --rows ws-long --servers bridge uvicorn"
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench.figures import Key, Results
from tests.bench.measure import HERE, ROOT, NotMeasured, measure, measure_in_turn
from tests.bench.plan import Choice, Group, Step, groups, plan
from tests.bench.ratio import FEWEST
from tests.bench.rows import ROWS
from tests.bench.servers import SERVERS, versions
from tests.bench.sockets import allow_many
from tests.bench.tables import busy, complete, label

WRK_MISSING = """make bench needs wrk, which is not on the PATH. On Debian and Ubuntu: apt-get install wrk
From source: git clone https://github.com/wg/wrk && make -C wrk && install wrk/wrk /usr/local/bin"""


def options() -> tuple[Choice, str]:
    """The command line: what to measure, and where the results go ("" = a name of their own)."""
    rows, servers = (", ".join(dict.fromkeys(one.name for one in table)) for table in (ROWS, SERVERS))
    parser = argparse.ArgumentParser(
        prog='make bench ARGS="…"', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one worker; 64 connections, or 4 for 1 MiB")
    parser.add_argument("--rounds", type=int, help="how often everything is measured (default 3)")
    parser.add_argument("--seconds", type=int, help="length of one measurement (default 2)")
    parser.add_argument(
        "--slices",
        type=_slices,
        metavar="N",
        help=f"all servers of a row up, N slices of load for each in turn ({FEWEST} at least); else as --quick",
    )
    parser.add_argument("--rows", nargs="+", default=["*"], metavar="ROW", help=f"patterns of: {rows}")
    parser.add_argument("--servers", nargs="+", default=["*"], metavar="SERVER", help=f"patterns of: {servers}")
    parser.add_argument("--workers", nargs="+", type=int, metavar="N", help="processes of the peers (default 1 2)")
    parser.add_argument("--connections", nargs="+", type=int, metavar="N", help="at once (default 1 4 64)")
    parser.add_argument("--into", default="", metavar="FILE", help="where the results go, as JSON")
    said = parser.parse_args()
    if said.slices and (said.rounds or said.seconds):
        parser.error("--slices have a length of their own: leave --rounds and --seconds out")
    quick = said.quick or said.slices
    choice = Choice(
        rounds=said.rounds or 3,
        seconds=said.seconds or 2,
        slices=said.slices or 0,
        rows=said.rows,
        servers=said.servers,
        workers=said.workers or ((1,) if quick else (1, 2)),
        connections=said.connections or (() if quick else (1, 4, 64)),
    )
    return choice, said.into


def _slices(text: str) -> int:
    if not text.isdecimal() or int(text) < FEWEST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {FEWEST}")
    return int(text)


def machine() -> dict[str, Any]:
    """What the figures depend on beside versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    return {
        "processors": len(os.sched_getaffinity(0)),
        "cpu": model,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "wrk": [*subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False).stdout.split(), "", ""][1],
        "load": round(os.getloadavg()[0], 1),
    }


def commit() -> str:
    """Which sources were measured, if git knows."""
    asked = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def file_of(results: Results) -> Path:
    """A name that says when and what, and that no other run has."""
    base = f"{results.about['date']}-{results.about['versions']['bridged']}"
    names = [base, *(f"{base}-{number}" for number in range(2, 1000))]
    return next(path for name in names if not (path := HERE / "results" / f"{name}.json").exists())


def run(steps: list[Step], results: Results, seconds: int) -> None:
    """Make all measurements, and say after each how it went and how long the rest will take."""
    begin, done, total = time.monotonic(), 0.0, sum(step.seconds(seconds) for step in steps)
    for step in steps:
        name = f"{step.row.name} {label(step.server.name, step.workers)}"
        try:
            said = ""
            for connections, one in measure(step, seconds):
                results.add(Key(step.row.name, connections, step.workers, step.server.name), one)
                said += f"  {connections}: {one.requests_per_second:,.0f}/s {one.cpu_us:,.1f} µs"
        except NotMeasured as error:
            results.failures[name] = str(error)
            said = f"  not measured: {error}"
        except KeyboardInterrupt:
            results.failures["the rest"] = f"interrupted in round {step.round + 1} at {name}"
            return
        done += step.seconds(seconds)
        left = (time.monotonic() - begin) / done * (total - done)
        print(f"round {step.round + 1}  {left / 60:5.1f} min left  {name}{said}", flush=True)


def run_in_turn(several: list[Group], results: Results) -> None:
    """As `run`, of groups; a line for each."""
    left = sum(group.duration for group in several)
    for group in several:
        name, connections = group.steps[0].row.name, group.connections

        def failed(step: Step, why: str, name: str = name, connections: int = connections) -> None:
            what = f"{name} {label(step.server.name, step.workers)}, {connections} connections"
            results.failures[what] = why
            print(f"               {what}: not measured: {why}", flush=True)

        print(f"{left / 60:5.1f} min left  {name}, {connections} connections", flush=True)
        try:
            for step, one in measure_in_turn(group, failed):
                results.add(Key(name, connections, step.workers, step.server.name), one)
        except KeyboardInterrupt:
            results.failures["the rest"] = f"interrupted at {name}, {connections} connections"
            return
        left -= group.duration


def main() -> None:
    """Measure, write the JSON, print the tables."""
    choice, into = options()
    steps = list(plan(choice))
    several = list(groups(choice)) if choice.slices else []
    if not steps or (choice.slices and not several):
        idle = "; what is idle has no slices" if steps else ""
        raise SystemExit(f"no row and server fit{idle}; make bench ARGS=--help lists them")
    if not shutil.which("wrk"):
        raise SystemExit(WRK_MISSING)
    results = Results(
        {
            "date": datetime.now(UTC).date().isoformat(),
            "commit": commit(),
            "machine": machine(),
            "versions": versions(),
            "options": {"slices": choice.slices}
            if choice.slices
            else {"rounds": choice.rounds, "seconds": choice.seconds},
            "commands": {f"{server.name} {server.interface}": server.command for server in SERVERS},
        }
    )
    if busy(results):
        print(
            f"Something else is busy here (load {results.about['machine']['load']}): the figures will be worth little."
        )
    allow_many(max(max(step.connections) for step in steps))
    if choice.slices:
        run_in_turn(several, results)
    else:
        run(steps, results, choice.seconds)
    file = Path(into) if into else file_of(results)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(results.dump())
    print(f"\n{complete(results)}\n{file}")
    if not results.cases:
        raise SystemExit("nothing was measured")


if __name__ == "__main__":
    main()
