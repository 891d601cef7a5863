"""bridge.router.deadlines: who waits or runs too long, by a clock that is turned by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from bridge import config
from bridge.router.deadlines import LATEST, LOOK, PARTS, Deadlines
from bridge.router.line import Line
from tests.clocked import Clock


@dataclass(eq=False)
class Request:
    """One that waits, or runs."""

    stream: int = 0
    due: float = 0.0
    done: int = 0
    slow_client: bool = False
    ends: list[str] = field(default_factory=list)

    def sign_of_life(self) -> tuple[int, ...]:
        """What the application has done."""
        return (self.done,)

    def waits_for_client(self) -> bool:
        """As it is told."""
        return self.slow_client

    def time_out(self) -> None:
        """Note it."""
        self.ends.append("timed out")


class Owner:
    """An application whose requests the test moves about."""

    def __init__(self, queue: float = 30.0, **limits: Any) -> None:
        self.clock = Clock()
        self.loop: Any = self
        self.time = self.clock
        self.call_later = self.clock.call_later
        self.exchanges: dict[int, Any] = {}
        self.line: Line[Any] = Line(queue)
        self.queued: set[int] = set()
        self.queue = queue
        self.deadlines = Deadlines(self, queue, config.Limits(**limits))

    def look_at_waiting(self, now: float) -> bool:
        """Let the line look."""
        self.line.look(now, 0)
        return bool(self.line.requests)

    def is_queued(self, stream: int) -> bool:
        """As the test has said."""
        return stream in self.queued

    def expire(self, request: Request) -> None:
        """Note it, and let it go."""
        request.ends.append("expired")
        self.exchanges.pop(request.stream, None)

    def publish(self, stream: int, *, queued: bool = False) -> Request:
        """A request that a worker runs, or could."""
        request = self.exchanges[stream] = Request(stream, self.clock.now + self.queue)
        if queued:
            self.queued.add(stream)
        if not self.deadlines.looking:
            self.deadlines.look()
        return request


def test_who_waits_too_long() -> None:
    """In the line, and published to workers that do not look; not a moment too early, and not who runs."""
    owner = Owner()
    waiting = Request(0, owner.clock.now + 30)
    owner.line.requests[waiting] = None
    published, runs = owner.publish(1, queued=True), owner.publish(2)
    owner.clock.advance(29.9)
    assert not waiting.ends
    assert not published.ends
    owner.clock.advance(1.2)
    assert waiting.ends == published.ends == ["expired"]
    assert not owner.line.requests
    assert not runs.ends


def test_nobody_is_looked_at_when_there_is_nobody() -> None:
    """The timer ends with the last request, and one that comes wakes it."""
    owner = Owner()
    owner.publish(1)
    owner.exchanges.clear()
    owner.clock.advance(10)
    assert not owner.clock.timers
    assert not owner.deadlines.looking
    owner.publish(2)
    assert owner.clock.timers


def test_a_thousand_requests_start_a_timer_or_two() -> None:
    """Whatever their number."""
    owner = Owner(run_timeout=5.0)
    for stream in range(1, 1001):
        owner.publish(stream)
    assert owner.clock.started == 2


def test_who_runs_too_long() -> None:
    """From when a worker has it, not from when it came; whatever it does meanwhile."""
    owner = Owner(run_timeout=8.0)
    request = owner.publish(1, queued=True)
    owner.clock.advance(20)
    owner.queued.clear()
    for _ in range(7):
        request.done += 1
        owner.clock.advance(1)
    assert not request.ends
    owner.clock.advance(1 + 2 * 8 / PARTS)
    assert request.ends[0] == "timed out"


def test_who_does_nothing() -> None:
    """Every sign of life begins the time anew, and a client that is slow is not the application's fault."""
    owner = Owner(timeout=8.0)
    busy, slow, idle = owner.publish(1), owner.publish(2), owner.publish(3)
    slow.slow_client = True
    for _ in range(20):
        busy.done += 1
        owner.clock.advance(7)
    assert idle.ends[0] == "timed out"
    assert not busy.ends
    assert not slow.ends
    slow.slow_client = False
    owner.clock.advance(7)
    assert not slow.ends
    owner.clock.advance(3)
    assert busy.ends[0] == slow.ends[0] == "timed out"


@pytest.mark.parametrize("limits", [{"run_timeout": 8.0}, {"timeout": 8.0}])
def test_who_is_published_once_more(limits: dict[str, float]) -> None:
    """When its worker is gone it only waits, and its next run has all the time that there is."""
    owner = Owner(**limits)
    request = owner.publish(1)
    owner.clock.advance(7)
    owner.deadlines.forget(request)
    owner.queued.add(1)
    owner.clock.advance(15)
    owner.queued.clear()
    owner.clock.advance(7)
    assert not request.ends
    owner.clock.advance(1 + 2 * 8 / PARTS)
    assert request.ends[0] == "timed out"


def test_an_error_ends_no_deadline() -> None:
    """What goes wrong with one request is the loop's to log; the deadlines of all others hold."""
    owner = Owner()
    owner.publish(1, queued=True)
    owner.expire = lambda _: 1 / 0  # type: ignore[method-assign, assignment]
    with pytest.raises(ZeroDivisionError):
        owner.clock.advance(100)
    del owner.expire
    other = owner.publish(2, queued=True)
    owner.clock.advance(32)
    assert other.ends == ["expired"]


@pytest.mark.parametrize("limits", [{}, {"timeout": 0.0, "run_timeout": 0.0}])
def test_no_limits(limits: dict[str, float]) -> None:
    """Unless the operator asks for it nobody is timed out, or looked at for that."""
    owner = Owner(**limits)
    request = owner.publish(1)
    owner.clock.advance(100_000)
    assert not request.ends
    assert not owner.deadlines._runs


def test_the_line_is_looked_at_while_there_is_one() -> None:
    """Now and then, and once more when it has gone."""
    owner = Owner()
    waiting = Request(0, owner.clock.now + 30)
    owner.line.requests[waiting] = None
    owner.deadlines.look()
    owner.line.left(waiting, owner.clock.now + 0.1)
    owner.clock.advance(0.1 + LOOK)
    assert owner.line.newest_first
    owner.line.requests.clear()
    owner.clock.advance(2 * LOOK)
    assert not owner.line.newest_first
    assert not owner.deadlines.looking
    owner.clock.advance(LATEST)
    assert not owner.clock.timers


def test_who_comes_when_the_last_deadline_was_just_looked_at() -> None:
    """The faster timer, which is still on its way, starts the slower one again."""
    owner = Owner()
    owner.publish(1)
    owner.clock.advance(LATEST - LOOK / 2)
    owner.publish(2)
    owner.exchanges.clear()
    owner.clock.advance(LOOK / 2)
    request = owner.publish(3, queued=True)
    assert len(owner.clock.timers) == 1
    owner.clock.advance(30 + LATEST)
    assert request.ends == ["expired"]
