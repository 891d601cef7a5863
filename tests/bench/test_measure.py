"""A server is started, looked at and stopped; wrk is not needed for that."""

from __future__ import annotations

import os
import urllib.request
from dataclasses import replace

import pytest

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
    """All are up at the same time, and each time round begins at the other end."""
    row = next(row for row in ROWS if row.name == "ws-short")
    bridge = next(server for server in SERVERS if server.interface == "websocket")
    steps = tuple(Step(0, row, bridge, workers, (2,)) for workers in (1, 2))
    made = [(step.workers, one.requests_per_second > 0) for step, one in measure_in_turn(Group(steps, 2, 2))]
    assert made == [(1, True), (2, True), (2, True), (1, True)]


def test_who_cannot_be_measured_in_turn_is_named() -> None:
    """One of several that does not start is told from the others."""
    gone = replace(STEP, row=replace(UPLOAD, target="asgi:gone"))
    with pytest.raises(NotMeasured, match=r"bridge: exit status 3; .*gone"):
        list(measure_in_turn(Group((gone,), 1, 2)))


def test_a_server_that_ends_is_not_measured() -> None:
    """The exit status and the last line that it wrote are the reason."""
    gone = replace(STEP, row=replace(UPLOAD, target="asgi:gone"))
    with pytest.raises(NotMeasured, match=r"exit status 3; .*gone"), running(gone):
        pass
