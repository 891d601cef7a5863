"""From results to what people read: tables, verdicts, comparisons, the README."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.bench.compare import compare
from tests.bench.figures import Figures, Key, Results
from tests.bench.goals import verdicts
from tests.bench.readme import END, NONE, ROOT, figures_of, fill
from tests.bench.tables import complete, number, readme

ABOUT: dict[str, Any] = {
    "date": "2026-01-01",
    "machine": {"processors": 2, "cpu": "Some CPU", "kernel": "6.0", "python": "3.11", "wrk": "4.1", "load": 0.1},
    "versions": {"bridged": "1.2", "uvicorn": "3.4"},
    "options": {"rounds": 3, "seconds": 3},
}


def results(**cpu: float) -> Results:
    """hello-asgi at 64 connections; one round of each server, with this CPU time."""
    made = Results(ABOUT)
    for server, microseconds in cpu.items():
        name, _, workers = server.partition("_")
        made.add(Key("hello-asgi", 64, int(workers or 1), name), Figures(1000.0, 1.0, 2.0, microseconds, 50.0, 0))
    return made


def test_numbers_keep_three_digits() -> None:
    """Small figures keep their fraction, large ones lose it."""
    assert [number(value) for value in (1.234, 12.34, 1234.5)] == ["1.23", "12.3", "1,234"]


def test_complete_table_compares_with_bridge() -> None:
    """Each line has the CPU time relative to Bridge's in the same row, whoever wins."""
    lines = complete(results(bridge=20.0, uvicorn=16.0, uvicorn_2=30.0)).splitlines()
    ratios = {line.split(" | ")[0]: line.split(" | ")[6] for line in lines if line.startswith("| ")}
    assert ratios["| bridge"] == "1.00"
    assert ratios["| uvicorn"] == "0.80"
    assert ratios["| uvicorn, 2 workers"] == "1.50"


def test_readme_shows_who_is_cheapest() -> None:
    """The least CPU time of a line is bold, also when it is not Bridge's, and what is missing is a dash."""
    text = readme(results(bridge=20.0, uvicorn=16.0), "results/x.json")
    assert "| hello, 64 connections | 20.0 · 1,000 | **16.0** · 1,000 | - | - |" in text
    assert "[results/x.md](results/x.md)" in text


def test_readme_has_a_table_for_two_processes_only_if_measured() -> None:
    """Bridge's one figure stands beside peers with one worker and beside peers with two."""
    assert "2 processes each" not in readme(results(bridge=20.0, uvicorn=16.0), "x.json")
    text = readme(results(bridge=20.0, uvicorn=16.0, uvicorn_2=30.0), "x.json")
    assert "| hello, 64 connections | **20.0** · 1,000 | 30.0 · 1,000 | - | - |" in text


def test_idle_connections_are_compared_by_memory() -> None:
    """Of idle WebSockets the memory that each has added counts, and the least is bold."""
    made = Results(ABOUT)
    for server, cpu, each in (("bridge", 90.0, 12.25), ("uvicorn", 80.0, 50.0)):
        made.add(Key("ws-idle", 5000, 1, server), Figures(4000.0, 0.2, 0.4, cpu, 100.0, 0, each))
    text = readme(made, "x.json")
    assert "| idle, 5,000 connections | **12.2** KiB · 4,000 | 50.0 KiB · 4,000 | - |" in text
    assert "one after the other" in text
    assert "one after the other" not in readme(results(bridge=20.0), "x.json")
    page = complete(made)
    assert "| CPU µs/opening | ÷ | PSS MiB | errors | KiB each |" in page
    assert "| bridge | 5000 | 4,000 ±0% | 0.20 | 0.40 | 90.0 ±0% | 1.00 | 100 | 0 | 12.2 |" in page


def test_errors_win_nothing() -> None:
    """Whoever answers some requests wrongly is not the cheapest, reaches no goal, and the errors are said."""
    made = results(uvicorn=16.0)
    made.add(Key("hello-asgi", 64, 1, "bridge"), Figures(1000.0, 1.0, 2.0, 8.0, 50.0, 7))
    assert "| 8.00 · 1,000 (7 errors) | **16.0** · 1,000 |" in readme(made, "x.json")
    first = next(verdicts(made))
    assert first.startswith("NOT REACHED")
    assert first.endswith("7 errors")


def test_failures_are_shown() -> None:
    """What could not be measured is said, with the reason."""
    made = results(bridge=20.0)
    made.failures["hello-wsgi bridge"] = "exit status 3"
    for text in (complete(made), readme(made, "x.json")):
        assert "Not measured: hello-wsgi bridge: exit status 3" in text


@pytest.mark.parametrize(("cpu", "word"), [(15.2, "reached"), (15.3, "NOT REACHED")])
def test_verdict_of_a_ratio(cpu: float, word: str) -> None:
    """0.95 of uvicorn's CPU time is reached at 15.2 of 16, and not above."""
    first, *rest = verdicts(results(bridge=cpu, uvicorn=16.0))
    assert first.startswith(word)
    assert all(line.startswith("not measured") for line in rest)


@pytest.mark.parametrize(("cpu", "peer", "reached"), [(14.9, 10.0, True), (20.0, 40.0, True), (20.0, 39.0, False)])
def test_verdict_of_a_ratio_or_a_number(cpu: float, peer: float, *, reached: bool) -> None:
    """WSGI hello is fast enough by itself, or beside granian."""
    made = Results(ABOUT)
    for server, microseconds in (("bridge", cpu), ("granian", peer)):
        made.add(Key("hello-wsgi", 64, 1, server), Figures(1.0, 1.0, 1.0, microseconds, 1.0, 0))
    assert next(line for line in verdicts(made) if "hello-wsgi" in line).startswith("reached") is reached


@pytest.mark.parametrize(("now", "mark"), [(21.1, "SLOWER"), (20.9, ""), (18.9, "faster")])
def test_changes_over_five_per_cent_are_marked(now: float, mark: str) -> None:
    """A change of Bridge's CPU time is marked beyond 5 %, and the peers' change stands beside it."""
    _, line = compare(results(bridge=20.0, uvicorn=10.0), results(bridge=now, uvicorn=11.0))
    assert line.rstrip().endswith(mark or "%")
    assert "+10.0%" in line


def test_a_busy_machine_is_owned_up_to() -> None:
    """Figures from a machine with other work say so."""
    made = results(bridge=20.0)
    assert "other work" not in complete(made)
    made.about = {**ABOUT, "machine": {**ABOUT["machine"], "load": 1.1}}
    assert "other work (load 1.1)" in complete(made)


def test_readme_is_filled_between_its_marks() -> None:
    """Only what stands between the marks changes, and a README without marks is refused."""
    page = f"before\n<!-- figures of {NONE} -->\nold\n{END}\nafter\n"
    filled = fill(page, "r.json", "new \\1")
    assert filled == f"before\n<!-- figures of r.json -->\nnew \\1\n{END}\nafter\n"
    assert figures_of(filled) == ("r.json", "new \\1")
    with pytest.raises(ValueError, match="figures of"):
        fill("nothing here", "r.json", "new")


def test_figures_in_the_readme_are_those_of_a_run() -> None:
    """The README says what the generator makes of the run that it names, and so does the page beside the run."""
    file, figures = figures_of((ROOT / "README.md").read_text())
    if file == NONE:
        assert "make bench-readme" in figures
        return
    run = Path(ROOT, file)
    if not run.parent.exists():
        pytest.skip("runs are not part of the source distribution")
    shown = Results.load(run.read_text())
    assert figures == readme(shown, file)
    assert run.with_suffix(".md").read_text() == complete(shown)
