"""What slices in turn say of two servers, and how sure it is."""

from __future__ import annotations

from random import Random

import pytest

from tests.bench.figures import Case, Figures, Key, Results
from tests.bench.goals import verdicts
from tests.bench.ratio import FEWEST, compare
from tests.bench.tables import complete

ABOUT = {
    "date": "2026-01-01",
    "machine": {"processors": 2, "cpu": "Some CPU", "kernel": "6.0", "python": "3.11", "wrk": "4.1", "load": 0.1},
    "versions": {"bridged": "1.2"},
    "options": {"slices": 100},
}


def case(server: str, cpu: list[float], errors: int = 0) -> Case:
    """Slices with this CPU time."""
    rounds = [Figures(1000.0, 1.0, 2.0, each, 50.0, errors) for each in cpu]
    return Case(Key("ws-long", 64, 1, server), rounds)


def results(ours: list[float], theirs: list[float], errors: int = 0) -> Results:
    """Slices of ws-long that Bridge and uvicorn had in turn."""
    made = Results(ABOUT)
    for one in (case("bridge", ours, errors), case("uvicorn", theirs)):
        made.cases[one.key] = one
    return made


def noise(center: float, count: int = 200) -> list[float]:
    """Slices around a value, by a tenth of it on both sides, as an honest machine has them."""
    return [center * (0.9 + 0.2 * Random(number).random()) for number in range(count)]


def verdict(made: Results) -> str:
    """What is said of the one goal that was measured."""
    (line,) = [line for line in verdicts(made) if "ws-long," in line]
    return line


def test_a_machine_that_is_slower_for_both_changes_nothing() -> None:
    """The range comes from pairs: what makes neighbouring slices slower does not make it wider."""
    slow = [1.0 if number % 10 < 5 else 1.8 for number in range(200)]
    found = compare(case("a", [9.0 * by for by in slow]), case("b", [10.0 * by for by in slow]))
    assert found == pytest.approx((0.9, 0.9, 0.9))


def test_processors_that_are_slower_each_for_itself_are_fair_to_two_processes() -> None:
    """The mean of two halves is that of one whole, where the median of the two is far above."""
    chance = Random(1)
    one = [10.0 * chance.choice((1.0, 1.0, 2.0)) for _ in range(3000)]
    two = [5.0 * chance.choice((1.0, 1.0, 2.0)) + 5.0 * chance.choice((1.0, 1.0, 2.0)) for _ in range(3000)]
    found = compare(case("two", two), case("one", one))
    assert found
    assert found.ratio == pytest.approx(1.0, abs=0.03)
    assert case("two", two).middle("cpu_us") / case("one", one).middle("cpu_us") > 1.3


def test_what_lasts_is_not_taken_for_chance() -> None:
    """A machine that favours one of the two for many slices on end makes the range wide, though each pair is exact."""
    changing = [9.0 if number % 40 < 20 else 11.0 for number in range(200)]
    mixed = [9.0 if number % 2 else 11.0 for number in range(200)]
    lasting, quick = (compare(case("a", ours), case("b", [10.0] * 200)) for ours in (changing, mixed))
    assert lasting
    assert quick
    assert lasting.high - lasting.low > 5 * (quick.high - quick.low)


def test_the_same_run_has_the_same_range() -> None:
    """What a page shows of a run does not change when it is shown again, and it holds the ratio."""
    first, second = (compare(case("a", noise(9.0)), case("b", noise(10.0)[::-1])) for _ in range(2))
    assert first
    assert first == second
    assert 0.85 < first.low < first.ratio < first.high < 0.95


@pytest.mark.parametrize(
    ("ours", "word"), [(9.0, "reached"), (10.0, "undecided"), (10.03, "undecided"), (11.0, "NOT REACHED")]
)
def test_what_chance_could_turn_round_is_undecided(ours: float, word: str) -> None:
    """A goal counts as reached, or not, where the whole range says so."""
    line = verdict(results(noise(ours), noise(10.0)[::-1]))
    assert line.startswith(f"{word:12}  ws-long")
    assert " to " in line


def test_errors_reach_nothing_in_turn_either() -> None:
    """Whoever answers wrongly is not cheap."""
    line = verdict(results(noise(5.0), noise(10.0), errors=1))
    assert line.startswith("NOT REACHED")
    assert line.endswith("200 errors")


def test_few_slices_say_nothing() -> None:
    """A run that was interrupted early has no verdict; one that was interrupted late has one of what both had."""
    line = verdict(results(noise(9.0, FEWEST - 1), noise(10.0)))
    assert line.startswith("not measured")
    assert line.endswith("too few slices")
    assert verdict(results([*noise(9.0, FEWEST), 1e6], noise(10.0, FEWEST))).startswith("reached")


def test_a_page_says_how_it_was_measured() -> None:
    """Slices are not taken for rounds."""
    page = complete(results(noise(9.0), noise(10.0)))
    assert "medians of 100 slices of 0.3 s (1 s with wrk)" in page
    assert "loaded in turn" in page
    assert "rounds of" not in page
