"""Limits on what an application may take its time for: what its client gets, and that its worker is told."""

from __future__ import annotations

import pytest

from bridge import config
from bridge.ipc.message import UNKNOWN
from bridge.router.framing import Framing
from tests.router.rig import TINY, Rig, pattern, run, settle, until, upload

SOON = config.Limits(run_timeout=10)
SILENCE = config.Limits(timeout=10)


@pytest.mark.parametrize("limits", [SOON, SILENCE])
def test_no_answer_in_time(limits: config.Limits, caplog: pytest.LogCaptureFixture) -> None:
    """504 for the client; the worker is told, what it says later is dropped, and everything comes back."""

    async def test() -> None:
        rig = Rig(limits=limits)
        rig.by_hand()
        worker = rig.worker()
        connection, exchange = rig.request()
        await until(lambda: worker.streams)
        rig.clock.advance(9)
        assert not connection.ended
        rig.clock.advance(3)
        assert connection.refused == (504, None)
        assert exchange.status == 504
        tally = rig.application.tally
        assert (tally.timed_out, tally.errors, tally.cancelled) == (1, 1, 0)
        await until(lambda: worker.streams[0].cancelled)
        assert not rig.over
        worker.streams[0].finished()
        await rig.idle()
        assert rig.over == [exchange]
        rig.application.report()
        await rig.close()

    run(test())
    assert "'app' is too slow: 1 given up (504): the application took too long" in caplog.text


@pytest.mark.parametrize("limits", [SOON, SILENCE])
def test_no_end_in_time(limits: config.Limits) -> None:
    """Once the head is out the connection is cut: what the client has never looks complete."""

    async def test() -> None:
        rig = Rig(limits=limits)
        rig.by_hand()
        worker = rig.worker()
        connection, exchange = rig.request()
        await until(lambda: worker.streams)
        worker.streams[0].respond(200, b"", UNKNOWN, 0, b"some", False)
        await until(lambda: connection.body)
        rig.clock.advance(12)
        assert connection.aborted
        assert (connection.status, connection.body) == (200, b"some")
        assert exchange.status == 200
        await until(lambda: worker.streams[0].cancelled)
        worker.streams[0].finished()
        await rig.idle()
        await rig.close()

    run(test())


def test_a_client_that_takes_its_time() -> None:
    """An application that waits until its client has taken what it sent is not too slow."""

    async def test() -> None:
        rig = Rig(limits=SILENCE)
        rig.by_hand()
        worker = rig.worker()
        connection, _ = rig.request()
        connection.stalled = True
        other, _ = rig.request()
        await until(lambda: len(worker.streams) == 2)
        worker.streams[0].respond(200, b"", UNKNOWN, 0, b"some", False)
        await until(lambda: connection.body)
        rig.clock.advance(30)
        assert other.ended
        assert not connection.ended
        connection.stalled = False
        connection.take()
        rig.clock.advance(12)
        assert connection.aborted
        for stream in worker.streams:
            stream.finished()
        await rig.idle()
        await rig.close()

    run(test())


def test_a_client_that_uploads_slowly() -> None:
    """An application that waits for the next bytes of a body is not too slow; when they have come it may be."""

    async def test() -> None:
        rig = Rig(limits=SILENCE)
        rig.by_hand()
        worker = rig.worker()
        await until(lambda: rig.ready)
        body = pattern(1000)
        connection, exchange = rig.request(body[:500], complete=False, framing=Framing(size=len(body)))
        await until(lambda: worker.streams)
        assert worker.streams[0].take() == body[:500]
        other, _ = rig.request()
        reading = rig.application.loop.create_task(worker.streams[0].readable())
        await settle()
        rig.clock.advance(30)
        assert other.ended
        assert not connection.ended
        upload(connection, exchange, body, 500)
        await reading
        rig.clock.advance(12)
        assert connection.refused == (504, None)
        for stream in worker.streams:
            stream.finished()
        await rig.idle()
        await rig.close()

    run(test())


def test_an_upload_that_is_given_up_while_it_waits() -> None:
    """It is not read on when there is memory: the connection has its answer, and reads the next request."""

    async def test() -> None:
        rig = Rig(TINY)
        worker = rig.worker()
        await until(lambda: rig.ready)
        pool = rig.application.pool
        taken = []
        while piece := pool.claim(TINY.chunk_size, 1):
            taken.append(piece)
        connection, exchange = rig.request(complete=False, framing=Framing(size=1000))
        await until(lambda: worker.streams)
        assert connection.paused
        exchange.time_out()
        assert connection.refused == (504, None)
        for segment, first, _ in taken:
            pool.release(segment, first, 1)
        assert connection.paused
        worker.streams[0].finished()
        await rig.idle()
        assert connection.paused
        await rig.close()

    run(test())
