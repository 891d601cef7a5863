"""Which router serves a gunicorn master while one replaces another."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from bridge import config
from bridge.gunicorn import routers
from bridge.gunicorn.routers import Introduced, Order, Routers
from bridge.ipc.status import Page
from bridge.loop import Loop


@dataclass
class FakeChild:
    """A router process that does nothing but remember what it was told."""

    name: str
    command: Any
    after: Any
    stderr: int | None = None
    lived: float = 100.0
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pid = 1000 + len(CHILDREN)
        self.link, self.other = socket.socketpair()
        CHILDREN.append(self)

    def configure(self, *_: Any) -> None:
        self.told.append("configure")

    def tell(self, message: dict[str, Any], _: Any = ()) -> None:
        self.told.append(message["type"])

    def close(self) -> None:
        self.link.close()


CHILDREN: list[FakeChild] = []


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The routers of a master, whose processes are fakes."""
    CHILDREN.clear()
    monkeypatch.setattr(routers, "Child", FakeChild)
    monkeypatch.setattr(routers, "introduce", lambda *_: None)
    page, loop = Page.create(4), Loop()
    found = Routers(loop, page, list, lambda _: None, lambda: None)
    yield found
    for router in found._alive.values():
        os.close(router.output)
    for child in CHILDREN:
        child.link.close()
        child.other.close()
    loop.close()
    page.close()


def order(grace: float) -> Order:
    """An order that differs from others by its grace."""
    return Order(config.single(config.Application("m")), (), ("router",), grace)


def living(numbers: Iterable[int]) -> list[Introduced]:
    """Workers as the master knows them."""
    link: Any = None
    return [Introduced(number, "m", 100 + number, link, lambda *_: None) for number in numbers]


def serves(kept: Routers, child: FakeChild) -> None:
    """The router says that it accepts."""
    kept._on_message(kept._alive[child.pid], {"type": "serving"})


def attaches(kept: Routers, child: FakeChild, pid: int) -> None:
    """The router says that this worker has attached to it."""
    kept._on_message(kept._alive[child.pid], {"type": "attached", "pid": pid})


def test_the_old_router_stops_when_the_new_one_serves(kept: Routers) -> None:
    """Not earlier: between the two somebody always accepts."""
    kept.use(order(1))
    serves(kept, CHILDREN[0])
    kept.use(order(2))
    assert CHILDREN[0].told == ["configure"]
    serves(kept, CHILDREN[1])
    assert [child.told for child in CHILDREN] == [["configure", "drain"], ["configure"]]


def test_a_router_that_is_late_does_not_displace_its_successor(kept: Routers) -> None:
    """Of two that start at once the one with the newest order stays, in whatever turn they begin to serve."""
    kept.use(order(1))
    serves(kept, CHILDREN[0])
    kept.use(order(2))
    kept.use(order(3))
    serves(kept, CHILDREN[2])
    serves(kept, CHILDREN[1])
    assert CHILDREN[2].told == ["configure"]
    assert CHILDREN[1].told == ["configure", "drain"]
    assert CHILDREN[0].told == ["configure", "drain"]


def test_an_outdated_router_serves_until_the_newest_does(kept: Routers) -> None:
    """The first order was replaced before its router served: it serves all the same until the other can."""
    kept.use(order(1))
    kept.use(order(2))
    serves(kept, CHILDREN[0])
    assert kept.ever_served
    assert CHILDREN[0].told == ["configure"]
    serves(kept, CHILDREN[1])
    assert [child.told for child in CHILDREN] == [["configure", "drain"], ["configure"]]


def test_who_has_attached_to_the_router_that_serves(kept: Routers) -> None:
    """Counted are those that live, at the router that accepts, and only when they are as many as it is to have."""
    workers = living((2, 3))
    kept._known = lambda: workers
    kept.use(order(1))
    for worker in workers:
        attaches(kept, CHILDREN[0], worker.pid)
    assert kept.serving(2) == 0, "it does not accept"
    serves(kept, CHILDREN[0])
    attaches(kept, CHILDREN[0], 999)
    assert [kept.serving(wanted) for wanted in (0, 1, 2, 3, 4)] == [2, 2, 2, 0, 0]
    kept.use(order(2))
    serves(kept, CHILDREN[1])
    attaches(kept, CHILDREN[1], workers[0].pid)
    assert [kept.serving(wanted) for wanted in (1, 2)] == [1, 0]
    kept.gone(workers[0])
    assert kept.serving(0) == 0


def test_a_full_router_serves_with_fewer_than_are_wanted(kept: Routers) -> None:
    """Workers for which it has no room cannot attach to it, and are not waited for."""
    workers = living(range(2, 7))
    kept._known = lambda: workers
    kept.use(order(1))
    serves(kept, CHILDREN[0])
    for worker in workers[:4]:
        assert kept.serving(5) == 0
        attaches(kept, CHILDREN[0], worker.pid)
    assert kept.serving(5) == 4
    kept.drain()
    assert kept.serving(5) == 0, "the end has begun"


def test_workers_without_a_place_at_a_full_router(kept: Routers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A router is given as many workers as it has room for: it would ask for the end of the next one."""
    introduced: list[tuple[str, int]] = []
    monkeypatch.setattr(
        routers, "introduce", lambda worker, child: introduced.append((child.command[0], worker.number))
    )
    small, large = (
        Order(config.single(config.Application("m", processes=processes)), (), (name,), 1.0)
        for processes, name in ((1, "small"), (2, "large"))
    )
    kept.use(small)
    workers = living(range(2, 8))
    kept._known = lambda: workers[:5]
    for worker in workers[:5]:
        kept.introduce(worker)
    assert introduced == [("small", number) for number in (2, 3, 4, 5)]
    kept.use(large)
    assert introduced[4:] == [("large", number) for number in (2, 3, 4, 5, 6)]
    kept.gone(workers[0])
    kept.introduce(workers[5])
    assert introduced[9:] == [("small", 7), ("large", 7)]
