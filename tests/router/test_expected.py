"""bridge.router.expected: what is remembered of how long requests have run."""

from __future__ import annotations

import pytest

from bridge.router.expected import LONG, LONGEST, MOST, REMEMBERED, Expected


def test_what_is_short_is_not_remembered() -> None:
    """Nothing is known of it, and nothing costs anything."""
    expected = Expected()
    expected.ran(b"GET /", LONG * 0.9)
    assert not expected
    assert expected.of(b"GET /") == 0


def test_what_is_long_is_expected_to_be_so_again() -> None:
    """For what asks for the same, and nothing else."""
    expected = Expected()
    expected.ran(b"GET /long", 0.1)
    assert expected
    assert (expected.of(b"GET /long"), expected.of(b"POST /long")) == (0.1, 0)


def test_it_follows_what_happens() -> None:
    """Faster to shorter times than to longer ones, for those may have been spent waiting."""
    expected = Expected()
    expected.ran(b"GET /", 0.1)
    expected.ran(b"GET /", 0.2)
    assert 0.1 < expected.of(b"GET /") < 0.12
    for _ in range(30):
        expected.ran(b"GET /", 0.2)
    assert expected.of(b"GET /") == pytest.approx(0.2, rel=0.02)
    expected.ran(b"GET /", 0.02)
    assert expected.of(b"GET /") < 0.12


def test_what_has_become_short_is_forgotten() -> None:
    """A handful of short runs, and it is as if it had never been long."""
    expected = Expected()
    expected.ran(b"GET /", 0.1)
    for _ in range(10):
        expected.ran(b"GET /", 0.0)
    assert not expected


def test_nobody_is_expected_for_ever() -> None:
    """Whoever runs for an hour is overtaken for no longer than others."""
    expected = Expected()
    expected.ran(b"GET /events", 3600.0)
    expected.ran(b"GET /events", 3600.0)
    assert expected.of(b"GET /events") == MOST


def test_clients_do_not_fill_memory() -> None:
    """However many things they ask for, and of whatever length."""
    expected = Expected()
    for number in range(3 * REMEMBERED):
        expected.ran(b"GET /%d" % number, 1.0)
        assert len(expected._seconds) <= REMEMBERED
    expected = Expected()
    expected.ran(b"GET /" + b"x" * LONGEST, 1.0)
    assert not expected
