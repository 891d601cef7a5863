"""The short form of every figure: a few seconds each, the same goals where a short run can show them."""

from __future__ import annotations

import pytest

from tests.figures import __main__
from tests.figures.every import FIGURES
from tests.figures.figure import Figure, Goal, Result, table, verdicts


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_short_form(figure: Figure) -> None:
    """Every goal of the figure is reached."""
    result = figure.measure(True)
    assert result.goals
    assert all(len(row) == len(result.columns) for row in result.rows)
    assert all(goal.reached for goal in result.goals), verdicts(result)


def broken(_: bool) -> Result:
    """Measure something that does not go well."""
    raise LookupError("no such server")


def test_a_figure_that_cannot_be_measured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It is said why, the others are shown all the same, and the exit status tells, as it does of a missed goal."""
    reached, missed = (Result(["x"], [["1"]], [Goal("a goal", "1", reached=each)]) for each in (True, False))
    figures = [
        Figure("broken", "Broken", "", broken),
        Figure("good", "Good", "", lambda short: reached),
        Figure("bad", "Bad", "", lambda short: missed),
    ]
    monkeypatch.setattr(__main__, "FIGURES", figures)
    assert __main__.main([]) == 1
    shown = capsys.readouterr().out
    assert "no such server" in shown
    assert "## Bad" in shown
    assert [__main__.main([name]) for name in ("broken", "good", "bad")] == [1, 0, 1]


def test_what_is_shown() -> None:
    """A table that Markdown takes, and a line for each goal that says whether it was reached."""
    goals = [Goal("less than 2", "1.5", reached=True), Goal("more than 3", "2.5", reached=False)]
    result = Result(["server", "answers"], [["bridge", "10"], ["other", "3"]], goals)
    assert table(result) == "| server | answers |\n| --- | --: |\n| bridge | 10 |\n| other | 3 |"
    assert verdicts(result) == "reached      less than 2: 1.5\nNOT REACHED  more than 3: 2.5"
