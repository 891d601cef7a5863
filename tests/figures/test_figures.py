"""The short form of every figure: a few seconds each, the same goals where a short run can show them."""

from __future__ import annotations

import pytest

from tests.figures.every import FIGURES
from tests.figures.figure import Figure, Goal, Result, table, verdicts


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_short_form(figure: Figure) -> None:
    """Every goal of the figure is reached."""
    result = figure.measure(True)
    assert result.goals
    assert all(len(row) == len(result.columns) for row in result.rows)
    assert all(goal.reached for goal in result.goals), verdicts(result)


def test_what_is_shown() -> None:
    """A table that Markdown takes, and a line for each goal that says whether it was reached."""
    goals = [Goal("less than 2", "1.5", reached=True), Goal("more than 3", "2.5", reached=False)]
    result = Result(["server", "answers"], [["bridge", "10"], ["other", "3"]], goals)
    assert table(result) == "| server | answers |\n| --- | --: |\n| bridge | 10 |\n| other | 3 |"
    assert verdicts(result) == "reached      less than 2: 1.5\nNOT REACHED  more than 3: 2.5"
