"""`make bench-compare ARGS="OLD NEW"`: how Bridge has changed between two runs; changes over 5 % are marked.

Machines change too. What the peers of the same row have changed by, which is nobody's doing, stands beside it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from tests.bench.figures import Key, Results

NOTABLE = 0.05


def change(old: Results, new: Results, key: Key, measure: str) -> float:
    """By what part a figure has grown."""
    before = old.cases[key].middle(measure)
    return new.cases[key].middle(measure) / before - 1 if before else 0.0


def compare(old: Results, new: Results) -> Iterator[str]:
    """A line for each case of Bridge that both runs have."""
    yield f"{'row':15} {'conn':>4} {'CPU µs':>17} {'change':>7} {'peers':>6} {'requests/s':>19} {'change':>7}"
    for key in (key for key in new.cases if key.server == "bridge" and key in old.cases):
        peers = [
            change(old, new, other, "cpu_us")
            for other in new.cases
            if other in old.cases
            and other.server != "bridge"
            and (other.row, other.connections) == (key.row, key.connections)
        ]
        cpu, rate = (change(old, new, key, measure) for measure in ("cpu_us", "requests_per_second"))
        was, now = old.cases[key], new.cases[key]
        mark = (
            "  SLOWER" if cpu > NOTABLE or rate < -NOTABLE else "  faster" if cpu < -NOTABLE or rate > NOTABLE else ""
        )
        yield (
            f"{key.row:15} {key.connections:4} {was.middle('cpu_us'):8,.1f} {now.middle('cpu_us'):8,.1f} {cpu:+7.1%}"
            f" {f'{median(peers):+6.1%}' if peers else '     -'} {was.middle('requests_per_second'):9,.0f}"
            f" {now.middle('requests_per_second'):9,.0f} {rate:+7.1%}{mark}"
        )


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit('usage: make bench-compare ARGS="OLD.json NEW.json"')
    runs = [Results.load(Path(name).read_text()) for name in sys.argv[1:]]
    print("\n".join(compare(*runs)))
