"""The status page: rows that survive their writers and are seen by everyone."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from bridge.errors import RemoteProtocolError
from bridge.ipc import status
from bridge.ipc.status import Page, State


@pytest.fixture
def page() -> Iterator[Page]:
    """A page of four rows."""
    page = Page.create(4)
    yield page
    page.close()


def test_a_row_is_seen_by_another_mapping(page: Page) -> None:
    """What one process writes another reads, in the same row and in no other."""
    other = Page(os.dup(page.fd), 4)
    before = time.monotonic()
    row = page.row(2)
    row.begin(4711)
    row.enter(State.READY)
    row.beat()
    row.add(status.REQUESTS)
    row.add(status.REQUESTS, 4)
    seen = other.row(2)
    words = seen.words
    assert (words[status.PID], words[status.STATE], words[status.REQUESTS]) == (4711, State.READY, 5)
    assert before <= seen.last_beat <= time.monotonic()
    assert all(set(other.row(number).words) == {0} for number in (0, 1, 3))
    other.close()


def test_begin_forgets_the_predecessor(page: Page) -> None:
    """A row that is taken again starts at zero, without a heartbeat."""
    row = page.row(0)
    row.begin(1)
    row.beat()
    row.add(status.ACTIVE, 9)
    row.begin(2)
    assert (row.last_beat, row.words[status.ACTIVE], row.words[status.PID]) == (0.0, 0, 2)


def test_counters_wrap_instead_of_failing(page: Page) -> None:
    """Taking away more than there is wraps around: counting never raises."""
    row = page.row(0)
    row.add(status.ACTIVE, -1)
    assert row.words[status.ACTIVE] == 2**64 - 1
    row.add(status.ACTIVE, 1)
    assert row.words[status.ACTIVE] == 0


def test_rows_have_bounds(page: Page) -> None:
    """There is no row before the first or after the last."""
    for number in (-1, 4):
        with pytest.raises(IndexError):
            page.row(number)


def test_rows_may_begin_anywhere() -> None:
    """A page of some processes has their rows and no others."""
    page = Page.create(4, first=10)
    page.row(10).begin(7)
    assert page.row(10).words[0] == 7
    for number in (0, 9, 14):
        with pytest.raises(IndexError):
            page.row(number)
    page.close()


def test_the_page_cannot_be_resized(page: Page) -> None:
    """Nobody can make the others' mapping fault."""
    with pytest.raises(PermissionError):
        os.ftruncate(page.fd, 0)


def test_another_layout_is_refused(page: Page) -> None:
    """Another number of rows, or something that is no status page, is not taken for one."""
    with pytest.raises(RemoteProtocolError, match="another layout"):
        Page(os.dup(page.fd), 3)
    with pytest.raises(RemoteProtocolError):
        Page(os.dup(page.fd), 5)
