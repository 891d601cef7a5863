"""Several applications under one main: what happens to one of them is nothing to the others."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.running import Running, alive, wait_for


class Pair:
    """A main with the applications `good` and `bad`, each with its directory; the router uses that of `good`."""

    def __init__(self, place: Path) -> None:
        for name in ("good", "bad"):
            (place / name).mkdir()
        self.good, self.bad = Running(place / "good"), Running(place / "bad")

    def start(self, **bad: Any) -> None:
        """Start both; the arguments are settings of `bad`."""
        common = {"module": "m", "graceful_timeout": 10}
        applications = {
            "good": common | {"path": str(self.good.place)},
            "bad": common | {"path": str(self.bad.place)} | bad,
        }
        listeners = {"127.0.0.1:0": {"pass": "applications/good"}, "localhost:0": {"pass": "applications/bad"}}
        self.good.serve({"applications": applications, "listeners": listeners}, "patient")

    def heard(self, words: str) -> None:
        """Wait until this stands in the log."""
        wait_for(lambda: words in self.good.log(), words)

    def told(self, event: str) -> None:
        """Wait until the router was told this."""
        wait_for(lambda: f"router {event}" in self.good.events(), event)

    def ended(self) -> None:
        """TERM ends all, with status 0."""
        self.good.send(signal.SIGTERM)
        assert self.good.ended() == 0


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """Two applications to start; nothing may be left of them."""
    pair = Pair(tmp_path)
    yield pair
    if pair.good.process:
        pair.good.process.kill()
        pair.good.process.wait()
    pids = {*pair.good.pids("booting"), *pair.bad.pids("booting"), *pair.good.routers()}
    wait_for(lambda: not any(map(alive, pids)), f"the end of all of {pids}")


def test_a_broken_application_is_said_once_and_tried_again(pair: Pair) -> None:
    """Its traceback stands in the log once, however often it fails; the router is told of it, and of its recovery."""
    (pair.bad.place / "broken").write_text("Traceback: here\n    1 / 0\n")
    pair.start(processes=3)
    pair.heard("serves good (m) on http://127.0.0.1:")
    pair.told("broken bad True")
    (pair.bad.place / "broken").write_text("Traceback: here\n    1 / 1\n")  # the source shows that it is being mended
    wait_for(lambda: len(pair.bad.pids("booting")) >= 5)
    log = pair.good.log()
    assert log.count("application 'bad': it is broken\nTraceback: here") == log.count("it is broken") == 1
    assert log.count("application 'bad': no worker serves: its requests get 503 until a start succeeds") == 1
    (pair.bad.place / "broken").unlink()
    pair.heard("serves bad (m) on http://127.0.0.1:")
    pair.told("broken bad False")
    assert "broken good" not in "".join(pair.good.events())
    pair.ended()


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [("dead", "ended while starting: exit status 7"), ("stuck", "it was not ready after 1 seconds")],
)
def test_a_worker_that_does_not_come_up(pair: Pair, behaviour: str, words: str) -> None:
    """Workers that die or hang while starting end nothing but themselves."""
    (pair.bad.place / behaviour).touch()
    pair.start(start_timeout=1)
    pair.heard("application 'bad': worker 258 (pid ")  # the ids of the first application end below
    pair.heard(words)
    pair.told("broken bad True")
    (pair.bad.place / behaviour).unlink()
    pair.heard("serves bad (m)")
    pair.ended()


def test_a_worker_that_is_killed_while_it_starts(pair: Pair) -> None:
    """A kill from outside says nothing about the application: requests wait for the next worker."""
    (pair.bad.place / "stuck").touch()
    pair.start()
    wait_for(lambda: len(pair.bad.pids("booting")) == 1, "the first start")
    os.kill(pair.bad.pids("booting")[0], signal.SIGKILL)
    pair.heard("ended while starting: signal SIGKILL")
    (pair.bad.place / "stuck").unlink()
    pair.heard("serves bad (m)")
    assert "router broken bad True" not in pair.good.events()
    pair.ended()


def test_a_worker_that_talks_nonsense(pair: Pair) -> None:
    """Who tells main what no worker tells is ended and replaced; nobody else is."""
    (pair.bad.place / "talkative").touch()
    pair.start(processes=1)
    pair.heard("has said 'ready' before")
    (pair.bad.place / "talkative").unlink()
    wait_for(lambda: len(pair.bad.pids("ready")) == 2, "another worker")
    assert not alive(pair.bad.pids("ready")[0])
    assert len(pair.good.pids("ready")) == 1
    pair.ended()


def test_the_end_of_a_server_with_a_broken_application(pair: Pair) -> None:
    """TERM ends a server also while one of its applications is being tried again."""
    (pair.bad.place / "broken").write_text("Traceback: here\n")
    pair.start()
    pair.heard("it is broken")
    pair.heard("serves good")
    pair.ended()
    assert len(pair.good.pids("left")) == 1


def test_a_failure_while_others_serve_is_not_broken(pair: Pair) -> None:
    """As long as a worker of the application serves, the router is not told to refuse its requests."""
    pair.start(processes=2)
    pair.heard("serves bad (m)")
    (pair.bad.place / "broken").write_text("Traceback: here\n")
    first, second = pair.bad.pids("ready")
    os.kill(first, signal.SIGKILL)
    pair.heard("it is broken")
    assert "router broken bad True" not in pair.good.events()
    os.kill(second, signal.SIGKILL)
    pair.told("broken bad True")
    (pair.bad.place / "broken").unlink()
    pair.heard("application 'bad': serves again")
    pair.ended()


def test_a_new_router_is_told_who_is_broken(pair: Pair) -> None:
    """A router that replaces a killed one knows it from the start."""
    (pair.bad.place / "broken").write_text("Traceback: here\n")
    pair.start()
    pair.heard("serves good")
    pair.told("broken bad True")
    os.kill(pair.good.routers()[0], signal.SIGKILL)
    wait_for(lambda: pair.good.events().count("router broken bad True") == 2)
    pair.ended()


def test_killed_prototype_of_a_broken_application(pair: Pair) -> None:
    """It is replaced, and the next one goes on trying."""
    (pair.bad.place / "broken").write_text("Traceback: here\n")
    pair.start()
    pair.heard("it is broken")
    pair.heard("serves good")
    before = len(pair.bad.pids("booting"))
    main = pair.good.process
    assert main
    good = pair.good.prototype()
    children = Path(f"/proc/{main.pid}/task/{main.pid}/children").read_text().split()
    (bad,) = {int(pid) for pid in children} - {good, pair.good.routers()[0]}
    os.kill(bad, signal.SIGKILL)
    pair.heard("application 'bad': the prototype")
    (pair.bad.place / "broken").unlink()
    pair.heard("serves bad (m)")
    assert len(pair.bad.pids("booting")) > before
    pair.ended()
