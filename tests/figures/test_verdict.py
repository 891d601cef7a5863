"""The verdict on requests that were asked while workers were killed can be guilty."""

from __future__ import annotations

import pytest

from tests.figures.verdict import Asked, faults, summary

DEATHS = {7: 10.0, 8: 20.0}


@pytest.mark.parametrize(
    ("outcome", "begun", "ran", "expected"),
    [
        ("right", 10.0, [5], {}),
        ("right", 10.0, [], {"answered by nobody": 1}),
        ("right", 10.0, [7, 5], {"run twice": 1}),
        ("left", 3.0, [], {}),
        ("502", 9.9, [7], {}),
        ("cut", 9.9, [], {}),
        ("502", 9.9, [5], {"failed although its worker lived": 1}),
        ("502", 15.0, [7], {"failed although its worker lived": 1}),
        ("cut", 15.0, [], {"failed although its worker lived": 1}),
        ("503", 9.9, [], {"503": 1}),
        ("hung", 9.9, [7], {"hung": 1}),
    ],
)
def test_faults(outcome: str, begun: float, ran: list[int], expected: dict[str, int]) -> None:
    """A request may fail with its worker, and in no other way."""
    assert faults([Asked("a", begun, begun + 0.2, outcome)], {"a": ran} if ran else {}, DEATHS) == expected


def test_summary() -> None:
    """Every outcome is counted, the most frequent first."""
    asked = [Asked("", 0, 0, outcome) for outcome in ("502", "right", "cut", "right", "right", "left")]
    assert summary(asked) == "3 right, 2 cut or 502, 1 left"
