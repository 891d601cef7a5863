"""A server is started, looked at and stopped; wrk is not needed for that."""

from __future__ import annotations

import os
import urllib.request
from dataclasses import replace

import pytest

from tests.bench.measure import NotMeasured, running
from tests.bench.plan import Step
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


def test_a_server_that_ends_is_not_measured() -> None:
    """The exit status and the last line that it wrote are the reason."""
    gone = replace(STEP, row=replace(UPLOAD, target="asgi:gone"))
    with pytest.raises(NotMeasured, match=r"exit status 3; .*gone"), running(gone):
        pass
