"""PURE. What a figure is: a table of what was measured, and what it was to reach."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Goal:
    """One thing that must hold."""

    text: str  #: what was asked
    measured: str  #: what there is, with its unit
    reached: bool


@dataclass(frozen=True, slots=True)
class Result:
    """What came out of one figure."""

    columns: Sequence[str]  #: heads of the table
    rows: Sequence[Sequence[str]]  #: as many cells each as there are columns
    goals: Sequence[Goal]


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure that can be shown again at any time."""

    name: str  #: as given to `make figures ARGS=…`
    title: str
    about: str  #: what is done, in a sentence or two
    #: Measures it; True = the short form, of a few seconds, which the suite runs.
    measure: Callable[[bool], Result]


def table(result: Result) -> str:
    """The table in Markdown."""
    lines = [result.columns, ["--:" if index else "---" for index in range(len(result.columns))], *result.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def verdicts(result: Result) -> str:
    """The goals, a line each."""
    return "\n".join(
        f"{'reached    ' if goal.reached else 'NOT REACHED'}  {goal.text}: {goal.measured}" for goal in result.goals
    )
