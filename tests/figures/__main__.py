"""`make figures`: what Bridge does with requests that nobody waits for, broken peers and little memory."""

from __future__ import annotations

import argparse
import sys
import time
import traceback

from tests.figures.every import FIGURES
from tests.figures.figure import table, verdicts


def main(argv: list[str]) -> int:
    """Measure what was asked for; the exit status is 1 if a goal was not reached."""
    names = [figure.name for figure in FIGURES]
    parser = argparse.ArgumentParser(prog='make figures ARGS="…"', description=__doc__)
    parser.add_argument("names", nargs="*", metavar="FIGURE", help=f"which ones, of {', '.join(names)}; all if none is")
    parser.add_argument("--short", action="store_true", help="the form of a few seconds that the test suite runs")
    arguments = parser.parse_args(argv)
    unknown = sorted(set(arguments.names) - set(names))
    if unknown:
        parser.error(f"no figure is called {', '.join(unknown)}; there are {', '.join(names)}")
    missed = 0
    for figure in FIGURES:
        if arguments.names and figure.name not in arguments.names:
            continue
        print(f"## {figure.title}\n\n{figure.about}\n", flush=True)
        begun = time.monotonic()
        try:
            result = figure.measure(arguments.short)
        except Exception:  # noqa: BLE001 - whatever it is, the others are to be shown
            missed += 1
            print(f"NOT MEASURED\n\n{traceback.format_exc()}", flush=True)
            continue
        missed += sum(not goal.reached for goal in result.goals)
        print(f"{table(result)}\n\n{verdicts(result)}\n({time.monotonic() - begun:.0f} s)\n", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
