"""Deadlines of an application, on a real server: in the queue, of a run, and of a request that nobody waits for."""

from __future__ import annotations

import os
import signal

import pytest

from tests.end_to_end.server import Server
from tests.end_to_end.wire import BrokenAnswer, Wire

SLOW = r"[^\n]*\[warning\] 'app' is too slow: 1 given up \(504\): the application took too long; 0 wait[^\n]*\n"


def limited(target: str, *settings: str) -> Server:
    """A server of one worker with these settings of its application."""
    options = [option for setting in settings for option in ("--set", f"application.{setting}")]
    return Server(target, "--interface", "wsgi" if target.startswith("wsgi") else "asgi", *options)


@pytest.mark.parametrize("setting", ["limits.run_timeout=1", "limits.timeout=1"])
def test_thread_that_takes_too_long(setting: str) -> None:
    """Its client gets a 504, the log says so, and the thread takes the next request when it comes to an end."""
    with limited("wsgi_plain:app", setting) as server, Wire(server.address) as wire:
        wire.get("/wait?gate=late")
        server.log.take("wait at late in")
        answer = wire.answer()
        assert (answer.status, answer.text) == (504, "504 Gateway Timeout\n")
        server.log.take(SLOW)
        wire.get("/hello")
        server.open("late")
        assert wire.answer().text == "hello\n"


@pytest.mark.parametrize("setting", ["limits.run_timeout=1", "limits.timeout=1"])
def test_task_that_takes_too_long(setting: str) -> None:
    """Its client gets a 504, and the application is told as if the client had left."""
    with limited("plain:app", setting) as server, Wire(server.address) as wire:
        assert wire.get("/listen").answer().status == 504
        server.log.take("listen: http.disconnect behind 0 bytes\nsend: OSError [A-Za-z]+\n")
        assert wire.get("/hello").answer().text == "hello\n"
        server.log.take(SLOW)


@pytest.mark.parametrize("target", ["plain:app", "wsgi_plain:app"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_response_that_takes_too_long(target: str, version: str) -> None:
    """A response that has begun ends broken, never as if it were whole."""
    with limited(target, "limits.run_timeout=1") as server, Wire(server.address) as wire:
        wire.get("/hold_response?gate=never" if target == "plain:app" else "/half?gate=never", version=version)
        assert wire.head().status == 200
        with pytest.raises((BrokenAnswer, ConnectionResetError)):
            wire.rest() if version == "1.0" else [wire.chunk() for _ in range(3)]
        server.log.take(SLOW)
        server.open("never")
        if target == "wsgi_plain:app":
            server.log.take("half: closed\n")


def test_no_worker_in_time() -> None:
    """While the only thread is taken the next request waits as long as it may, gets a 503, and never runs."""
    with limited("wsgi_plain:app", "queue_timeout=1") as server, Wire(server.address) as one:
        one.get("/wait?gate=only")
        server.log.take("wait at only in")
        for _ in range(2):
            with Wire(server.address) as other:
                answer = other.get("/wait?gate=never").answer()
                assert (answer.status, answer.fields["retry-after"]) == (503, "1")
        server.log.take(r"[^\n]*\[warning\] 'app' gets more requests than its workers end: \d refused \(503\):[^\n]*\n")
        server.open("only")
        assert one.answer().text == "waited"
        assert "never" not in server.log.text


def test_line_that_is_full() -> None:
    """Whoever finds as many in front of him as may wait is refused at once."""
    with limited("wsgi_plain:app", "limits.queue_length=1") as server, Wire(server.address) as one:
        one.get("/wait?gate=only")
        server.log.take("wait at only in")
        waiting = [Wire(server.address).get("/hello") for _ in range(2)]  # one lies ready, one is in the line
        with Wire(server.address) as last:
            assert last.get("/hello").answer().status == 503
        server.log.take(r"[^\n]*\[warning\] 'app' gets more [^\n]*1 refused \(503\): the line was full; 1 wait[^\n]*\n")
        server.open("only")
        assert one.answer().text == "waited"
        for wire in waiting:
            with wire:
                assert wire.answer().text == "hello\n"


def test_grace_of_a_task() -> None:
    """A request that ends neither when its client leaves nor by itself is cancelled where that was asked for."""
    with limited("plain:app", "limits.cancel_grace=0.1") as server:
        with Wire(server.address) as wire:
            wire.get("/stubborn?gate=never")
            server.log.take("stubborn at never in")
        server.log.take("stubborn: cancelled\n")
        with Wire(server.address) as wire:
            assert wire.get("/hello").answer().text == "hello\n"


def test_run_again_by_another_worker() -> None:
    """A GET whose worker is killed is run once more where that was asked for, and its client notices nothing."""
    with limited("wsgi_plain:app", "retry_safe=true", "processes=2") as server, Wire(server.address) as wire:
        wire.get("/wait?gate=late")
        victim = int(server.log.take(r"wait at late in (\d+)\n")[1])
        os.kill(victim, signal.SIGKILL)
        other = int(server.log.take(r"wait at late in (\d+)\n")[1])
        assert other != victim
        server.open("late")
        assert wire.answer().text == "waited"
        server.log.take(rf"[^\n]*\[error\] worker \d+ \(pid {victim}\) ended: signal SIGKILL\n")
