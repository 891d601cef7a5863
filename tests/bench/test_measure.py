"""A server is started, looked at and stopped; wrk is not needed for that."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from tests.bench.figures import Figures
from tests.bench.measure import NotMeasured, measure_in_turn, running
from tests.bench.plan import Group, Step
from tests.bench.rows import ROWS
from tests.bench.servers import SERVERS

UPLOAD = next(row for row in ROWS if row.name == "upload-asgi")
STEP = Step(round=0, row=UPLOAD, server=SERVERS[0], workers=1, connections=(1,))


def test_a_server_runs_for_the_length_of_the_block() -> None:
    """Its address answers as the row says, and afterwards nobody of its process group is left."""
    with running(STEP) as ((host, number), pid):
        with urllib.request.urlopen(f"http://{host}:{number}/", data=b"12345") as answer:
            assert answer.read() == b"5\n"
        os.killpg(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.killpg(pid, 0)


def test_a_wrong_answer_is_not_measured() -> None:
    """A server that answers something else is no winner, and the reason is said."""
    wrong = replace(STEP, row=replace(UPLOAD, answer=9))
    with pytest.raises(NotMeasured, match=r"8 bytes .* instead of 9"), running(wrong):
        pass


def test_servers_have_their_slices_in_turn() -> None:
    """All are up at the same time, each has one slice before any has two, and one that is not measured stops none."""
    row = next(row for row in ROWS if row.name == "ws-short")
    bridge = next(server for server in SERVERS if server.interface == "websocket")
    broken = replace(bridge, name="broken", command=bridge.command.replace("{target}", "asgi:gone"))
    steps = tuple(Step(0, row, server, workers, (2,)) for server, workers in ((bridge, 1), (broken, 1), (bridge, 2)))
    why: list[str] = []
    made = []
    for step, one in measure_in_turn(Group(steps, 2, 2), lambda step, text: why.append(f"{step.server.name}: {text}")):
        assert one.requests_per_second > 0
        made.append(step.workers)
    assert [sorted(made[:2]), sorted(made[2:])] == [[1, 2], [1, 2]]
    (said,) = why
    assert said.startswith("broken: exit status 3")


def test_a_server_that_ends_while_it_is_loaded_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the slices that it had, the reason is said, and the others have all of theirs."""
    row = next(row for row in ROWS if row.name == "ws-short")
    bridge = next(server for server in SERVERS if server.interface == "websocket")
    steps = tuple(Step(0, row, bridge, workers, (2,)) for workers in (1, 2))
    figures = Figures(1.0, 1.0, 1.0, 1.0, 1.0, 0)
    loads: list[int] = []

    @contextmanager
    def running(step: Step) -> Iterator[tuple[tuple[str, int], int]]:
        yield ("127.0.0.1", 1), step.workers

    def load(_: object, __: object, ___: int, ____: float, pid: int) -> Figures:
        loads.append(pid)
        if pid == 2 and loads.count(2) == 3:
            raise RuntimeError("the processes changed\nmuch")
        return figures

    monkeypatch.setattr("tests.bench.measure.running", running)
    monkeypatch.setattr("tests.bench.measure.load", load)
    why: list[str] = []
    made = [step.workers for step, _ in measure_in_turn(Group(steps, 2, 4), lambda _, text: why.append(text))]
    assert (made.count(1), made.count(2), why) == (4, 1, ["the processes changed"])


def test_a_server_that_ends_is_not_measured() -> None:
    """The exit status and the last line that it wrote are the reason."""
    gone = replace(STEP, row=replace(UPLOAD, target="asgi:gone"))
    with pytest.raises(NotMeasured, match=r"exit status 3; .*gone"), running(gone):
        pass
