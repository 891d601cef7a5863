"""The line that the servers are compared with."""

from __future__ import annotations

import pytest

from tests.figures.one_line import one_line


@pytest.mark.parametrize(
    ("clients", "workers", "expected"),
    [
        ([[(0.0, 4.0)], [(1.0, 1.0)], []], 1, [[4.0], [4.0], []]),
        ([[(0.0, 4.0)], [(1.0, 1.0)], [(1.5, 1.0)]], 2, [[4.0], [1.0], [1.5]]),
        ([[(0.0, 4.0), (1.0, 1.0)], [(2.0, 1.0)]], 1, [[4.0, 2.0], [3.0]]),  # who came first is first
    ],
)
def test_one_line(clients: list[list[tuple[float, float]]], workers: int, expected: list[list[float]]) -> None:
    """Whoever is free takes who has waited longest; a client waits for its answer, and counts from sending."""
    assert one_line(clients, workers) == expected
