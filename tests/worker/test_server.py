"""The server that a worker runs, from its load to its leave, without a router."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.config import Application
from bridge.ipc.link import Link
from bridge.ipc.status import ROW, STATE, Row, State
from bridge.worker.server import WorkerServer

SOURCE = """
from pathlib import Path

async def app(scope, receive, send):
    while True:
        event = (await receive())["type"]
        with Path(__file__).with_name("events").open("a") as file:
            file.write(event + " ")
        await send({"type": event + ".complete"})
        if event == "lifespan.shutdown":
            return
"""


class Worker:
    """A server in this process, and main's end of its link."""

    def __init__(self, place: Path) -> None:
        (place / "served.py").write_text(SOURCE)
        self.place = place
        self.main, self.control = Link.pair()
        self.row = Row(memoryview(bytearray(ROW)).cast("Q"))
        self.server = WorkerServer(Application(module="served", path=(str(place),)), self.control, self.row)

    def events(self) -> list[str]:
        """What the application has seen."""
        path = self.place / "events"
        return path.read_text().split() if path.exists() else []


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """A worker that has not run yet; its module is forgotten afterwards."""
    import sys  # noqa: PLC0415 - only to restore it

    monkeypatch.setattr(sys, "path", sys.path[:])
    worker = Worker(tmp_path)
    yield worker
    worker.main.close()
    worker.control.close()
    sys.modules.pop("served", None)


def test_told_to_leave_before_it_runs(worker: Worker) -> None:
    """A signal during the import is not lost: the application is not even started."""
    worker.server.stop(graceful=True)
    assert worker.server.run() == 0
    assert worker.events() == []


def test_told_to_leave_after_the_end(worker: Worker) -> None:
    """A signal that comes when the loop is closed already changes nothing."""
    worker.main.close()
    assert worker.server.run() == 0
    worker.server.stop(graceful=True)


def test_main_that_is_gone(worker: Worker) -> None:
    """Without main the worker leaves by itself, and the application shuts down properly."""
    worker.main.close()
    assert worker.server.run() == 0
    assert worker.events() == ["lifespan.startup", "lifespan.shutdown"]
    assert worker.row.words[STATE] == State.DRAINING


def test_ready_then_drained(worker: Worker) -> None:
    """It says when it is ready, and when it begins to leave because main asked."""
    said: list[str] = []

    def main() -> None:
        while len(said) < 2:
            received = worker.main.receive()
            if received:
                said.append(received[0]["type"])
                if said == ["ready"]:
                    worker.main.send({"type": "drain"})

    thread = threading.Thread(target=main)
    thread.start()
    assert worker.server.run() == 0
    thread.join(10)
    assert said == ["ready", "draining"]


def test_application_that_is_not_there(tmp_path: Path) -> None:
    """Main is told in one line, and the exit status is 3."""
    ours, control = Link.pair()
    row = Row(memoryview(bytearray(ROW)).cast("Q"))
    server = WorkerServer(Application(module="nowhere_to_be_found", path=(str(tmp_path),)), control, row)
    assert server.run() == 3
    received = ours.receive()
    assert received is not None
    assert received[0]["type"] == "failed"
    assert "nowhere_to_be_found" in received[0]["line"]
    assert received[1] == []
    ours.close()
    control.close()
