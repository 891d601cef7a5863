"""What main sleeps in."""

from __future__ import annotations

import os

import pytest

from bridge.ipc.link import Link
from bridge.loop import Loop, read_all
from tests.ipc.test_link import few_files


def test_timers_run_in_their_order() -> None:
    """Timers run when their time has come, the earlier first, equal ones as they were set."""
    loop = Loop()
    ran: list[str] = []
    for name, seconds in (("late", 0.02), ("first", 0.0), ("second", 0.0)):
        loop.after(seconds, lambda name=name: ran.append(name))  # type: ignore[misc]
    while len(ran) < 3:
        loop.turn()
    assert ran == ["first", "second", "late"]
    loop.close()


def test_a_source_forgotten_in_the_same_turn_is_not_called() -> None:
    """When two are readable and the first callback forgets the second, the second is not called."""
    loop = Loop()
    pipes = [os.pipe() for _ in range(2)]
    called: list[int] = []

    def callback(own: int, other: int) -> None:
        called.append(own)
        loop.forget(other)
        loop.forget(other)

    (a, a_in), (b, b_in) = pipes
    loop.watch(a, lambda: callback(a, b))
    loop.watch(b, lambda: callback(b, a))
    os.write(a_in, b"x")
    os.write(b_in, b"x")
    loop.turn()
    assert len(called) == 1
    for fd in (a, a_in, b, b_in):
        os.close(fd)
    loop.close()


def test_read_all_tells_the_end_and_survives_nonsense() -> None:
    """Every message is handed over; False at the end, and when a handler finds a message without its fields."""
    left, right = Link.pair()
    seen: list[str] = []

    def handle(message: dict[str, str], _: list[int]) -> None:
        seen.append(message["type"])

    left.send({"type": "a"})
    left.send({"type": "b"})
    assert read_all(right, handle)
    left.send({"other": 1})
    assert not read_all(right, handle)
    left.close()
    assert not read_all(right, handle)
    assert seen == ["a", "b"]
    right.close()


def test_read_all_leaves_others_their_turn() -> None:
    """Of a flood no more is read at once than was asked for; the rest is there for the next turn."""
    left, right = Link.pair()
    for _ in range(5):
        left.send({"type": "a"})
    seen: list[int] = []
    for most, sum_then in ((2, 2), (2, 4), (2, 5), (2, 5)):
        assert read_all(right, lambda *_: seen.append(1), most)
        assert len(seen) == sum_then
    left.close()
    right.close()


def test_files_that_find_no_room(caplog: pytest.LogCaptureFixture) -> None:
    """Who sent them is well: the message is left out, the next one is handled, and the log says why."""
    left, right = Link.pair()
    left.send({"type": "lost"}, [0])
    left.send({"type": "next"})
    heard: list[str] = []
    with few_files(0):
        assert read_all(right, lambda message, _: heard.append(message["type"]))
    assert heard == ["next"]
    assert "may open no more files" in caplog.text
    left.close()
    right.close()
