"""bridge.router.line: who is next, by a clock that is turned by hand."""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass

import pytest

from bridge.router.line import FRONT, PATIENCE, REMEMBERED, TOO_MANY, Line

TIMEOUT = 30.0
LONGEST = TIMEOUT * PATIENCE


@dataclass(eq=False)
class Request:
    """One that waits."""

    due: float
    gone: bool = False
    expected: float = 0.0


def request(line: Line[Request], came: float, expected: float = 0.0) -> Request:
    """One that has come at that moment."""
    one = Request(came + TIMEOUT, expected=expected)
    line.requests[one] = None
    return one


def following(line: Line[Request]) -> Request:
    """Who is next, and leaves the line."""
    return line.next(differ=any(one.expected for one in line.requests))


def test_first_come_first_served() -> None:
    """As long as nobody waits for long, and nobody leaves, the order is that of their coming."""
    line: Line[Request] = Line(TIMEOUT)
    requests = [request(line, came / 10) for came in range(10)]
    for now in range(1, 5):
        line.look(float(now), 1)
        assert not line.newest_first
    assert [following(line) for _ in requests] == requests


def test_who_is_done_first_is_next() -> None:
    """A long one is overtaken by those that come within the time that it will run, and by nobody else."""
    line: Line[Request] = Line(TIMEOUT)
    long, same = request(line, 0.0, 0.1), request(line, 0.01, 0.1)
    short = [request(line, came) for came in (0.02, 0.05, 0.099, 0.105, 0.2)]
    assert [following(line) for _ in range(7)] == [*short[:3], long, short[3], same, short[4]]


def test_the_newest_is_next_however_long_it_runs() -> None:
    """In a line that stands nobody is waited for."""
    line: Line[Request] = Line(TIMEOUT)
    requests = [request(line, 0.0), request(line, 0.1, 1.0)]
    line.newest_first = True
    assert following(line) is requests[1]


def test_only_the_front_is_looked_at() -> None:
    """To find the next one costs the same in every line, and who is put back is among those that are asked."""
    line: Line[Request] = Line(TIMEOUT)
    long = [request(line, 0.0, 1.0) for _ in range(FRONT)]
    short = request(line, 0.1)
    assert following(line) is long[0]
    assert following(line) is short
    line.put_back(short)
    assert following(line) is short


def test_patient_clients_are_not_overtaken() -> None:
    """A line of seconds is no reason to turn it round, as long as everybody in it waits."""
    line: Line[Request] = Line(TIMEOUT)
    request(line, 0.0)
    line.look(LONGEST, 100)
    assert not line.newest_first


def test_a_line_that_stands_is_turned_round() -> None:
    """When the oldest has waited for too long the newest is next, and the other way round when it has gone."""
    line: Line[Request] = Line(TIMEOUT)
    oldest, _, newest = (request(line, came) for came in (0.0, 1.0, 7.0))
    line.look(LONGEST + 0.1, 1)
    assert line.newest_first
    assert following(line) is newest
    del line.requests[oldest]
    line.look(LONGEST + 0.2, 1)
    assert not line.newest_first


def test_clients_show_how_patient_they_are() -> None:
    """Half of the time after which they leave is what the oldest may wait; as few as some do not matter."""
    line: Line[Request] = Line(TIMEOUT)
    waiting = request(line, 0.0)
    leaving = request(line, 0.0)
    del line.requests[leaving]
    line.left(leaving, 0.2)
    line.look(0.2, TOO_MANY)
    assert not line.newest_first
    line.left(leaving, 0.2)
    line.look(0.21, 1)
    assert line.patience == pytest.approx(0.1)
    assert line.newest_first
    assert following(line) is waiting


def test_nobody_leaves_any_more() -> None:
    """When the other order has helped, and the requests after it end well, the first is the first again."""
    line: Line[Request] = Line(TIMEOUT)
    leaving = request(line, 0.0)
    for _ in range(10):
        line.left(leaving, 0.2)
    line.look(1.0, 10)
    assert line.newest_first
    looks = 0
    while line.newest_first:
        line.look(1.0, REMEMBERED)
        looks += 1
    assert 1 < looks < 20


@pytest.mark.parametrize("newest_first", [False, True])
def test_who_is_put_back_is_next_again(newest_first: bool) -> None:
    """In both orders."""
    line: Line[Request] = Line(TIMEOUT)
    line.newest_first = newest_first
    for came in range(3):
        request(line, float(came))
    first = following(line)
    line.put_back(first)
    assert following(line) is first


def test_whose_deadline_is_over() -> None:
    """Each is found, also behind others that came later but were put back."""
    line: Line[Request] = Line(TIMEOUT)
    line.newest_first = True
    first, *_ = (request(line, came) for came in (0.0, 1.0, 5.0))
    old = Request(TIMEOUT + 0.5)
    line.put_back(old)
    assert line.overdue(TIMEOUT - 0.1) == []
    assert line.overdue(TIMEOUT + 0.9) == [first, old]


def test_an_empty_line() -> None:
    """Nobody waits, so nothing stands."""
    line: Line[Request] = Line(TIMEOUT)
    line.newest_first = True
    line.look(1000.0, 0)
    assert line.waited(1000.0) == 0
    assert not line.newest_first


@pytest.mark.parametrize("load", [0.8, 1.0, 1.05, 1.2, 2.0, 4.0])
@pytest.mark.parametrize("patience", [0.2, 0.5, 2.0])
def test_overload(load: float, patience: float) -> None:
    """Whatever comes, and however patient clients are, hardly anything is done for those who have left."""
    answered, wasted = _simulate(load, patience)
    assert answered > 0.8
    assert wasted < 0.05


def _simulate(load: float, patience: float, service: float = 0.02, seconds: float = 20.0) -> tuple[float, float]:
    """One worker that has one request ready: answers in time as part of the possible ones, and runs for nobody."""
    chance = random.Random(1)
    line: Line[Request] = Line(TIMEOUT)
    order = itertools.count()
    events: list[tuple[float, int, str, Request | None]] = []
    ready: list[Request] = []
    running: Request | None = None
    answered = runs = ended = 0

    def at(when: float, what: str, one: Request | None = None) -> None:
        heapq.heappush(events, (when, next(order), what, one))

    at(0.0, "come")
    at(0.0, "look")
    while events[0][0] < seconds:
        now, _, what, one = heapq.heappop(events)
        if what == "come":
            one = request(line, now)
            at(now + patience, "leave", one)
            at(now + chance.expovariate(load / service), "come")
        elif what == "look":
            line.look(now, ended)
            ended = 0
            at(now + 0.05, "look")
        elif what == "leave" and one is not None and not one.gone:
            one.gone = True
            line.requests.pop(one, None)
            if one in ready:
                ready.remove(one)
            line.left(one, now)
        elif what == "end" and one is not None:
            running = None
            ended += 1
            answered += not one.gone
            one.gone = True
        while line.requests and not ready:
            ready.append(following(line))
            if running is None:
                running = ready.pop()
                runs += 1
                at(now + service, "end", running)
        if running is None and ready:
            running = ready.pop()
            runs += 1
            at(now + service, "end", running)
    return answered / (min(1.0, load) * seconds / service), 1 - answered / runs
