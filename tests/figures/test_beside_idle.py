"""What counts as waiting beside an idle worker."""

from __future__ import annotations

from math import inf

import pytest

from tests.figures.beside_idle import Run, beside_idle, gaps


def test_gaps() -> None:
    """A worker is idle before, between and behind its runs, which may come in any order."""
    runs = [Run(2.0, 4.0, 1.0, b"a"), Run(0.0, 1.0, 1.0, b"a"), Run(0.5, 2.0, 1.0, b"a")]
    assert gaps(runs) == [(-inf, 0.0), (2.0, 3.0), (4.0, inf)]
    assert gaps([*runs, Run(0.0, 3.5, 0.2, b"a")]) == [(-inf, 0.0), (2.0, 3.0), (4.0, inf)]  # as clocks have it


@pytest.mark.parametrize(
    ("workers", "sent", "expected"),
    [
        (1, 1.0, False),  # behind the long one, which its worker has to end
        (2, 1.0, True),  # and nobody gave it to the other one
        (2, 3.96, False),  # it waited, but not for long
    ],
)
def test_who_waits_for_nothing(workers: int, sent: float, expected: bool) -> None:
    """Only who waits while somebody could run it does, and only for long enough."""
    runs = [Run(0.0, 4.0, 4.0, b"a"), Run(sent, 5.0, 1.0, b"a")]
    assert beside_idle(runs, workers, 0.1) == [False, expected]


def test_a_worker_that_is_busy_for_a_part_of_the_time() -> None:
    """Its idle time counts as far as it lies within the waiting."""
    other = [Run(0.0, 1.0, 1.0, b"b"), Run(2.0, 4.0, 1.8, b"b")]
    runs = [Run(0.0, 4.0, 4.0, b"a"), Run(0.5, 5.0, 1.0, b"a"), *other]
    assert beside_idle(runs, 2, 1.0)[1]
    assert not beside_idle(runs, 2, 1.5)[1]
