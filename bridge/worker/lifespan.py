"""The lifespan protocol of ASGI: startup before the first request, shutdown after the last.

What an application that raises during startup gets, since ASGI leaves a server to guess:

* `lifespan.startup.failed`, which Starlette, FastAPI, Litestar and Quart send for every exception: the start
  fails, with the application's own traceback. That they raise it again afterwards changes nothing.
* An exception before it has asked for `lifespan.startup`: it does not know the protocol (Django says so with a
  ValueError). One line at level info; requests are served.
* An exception, or a return, after it has taken `lifespan.startup`: ASGI demands that the server goes on, and an
  application which takes whatever comes for a request ends here too. Requests are served, but a traceback at
  level warning says that the startup was not completed, and what makes it fatal.
* `sys.exit()`: the start fails.
"""

from __future__ import annotations

import asyncio
import traceback
from logging import Logger, LoggerAdapter
from typing import Any, NoReturn

from bridge.errors import TargetError
from bridge.worker.types import Message, Target

_REPLIES = {
    "lifespan.startup.complete": "startup",
    "lifespan.startup.failed": "startup",
    "lifespan.shutdown.complete": "shutdown",
    "lifespan.shutdown.failed": "shutdown",
}
_LINGER = 2.0  # seconds that an application has to return after its last message


Log = Logger | LoggerAdapter[Logger]


class Lifespan:
    """The lifespan of one application in one worker.

    Args:
        target: the application.
        log: gets what does not end the start.
    """

    _task: asyncio.Task[None]  # since startup()

    def __init__(self, target: Target, log: Log) -> None:
        self.supported = False  #: startup completed: shutdown will be announced
        self._target = target
        self._log = log
        self._state: dict[str, Any] = {}
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._asked = False  # the application has taken lifespan.startup
        self._awaited: str | None = None  # the event that is to be answered
        self._answer: asyncio.Future[Message] | None = None

    async def startup(self) -> dict[str, Any] | None:
        """Announce the startup and wait for its end.

        Returns:
            The state that every scope gets a copy of, or None if the application has no lifespan.

        Raises:
            TargetError: the application says that its startup failed.
        """
        self._task = asyncio.get_running_loop().create_task(self._run())
        answer = await self._announce("startup", None)
        if answer is None:
            self._explain()
            return None
        if answer["type"] == "lifespan.startup.failed":
            await self._fail(str(answer.get("message", "")))
        self.supported = True
        self._task.add_done_callback(self._ended)
        return self._state

    async def shutdown(self, timeout: float | None) -> bool:
        """Announce the shutdown and wait for its end, `timeout` seconds at most; None = for ever.

        Returns:
            Whether the application said that it shut down properly, or has no lifespan. What went wrong was logged.
        """
        if not self.supported:
            return True
        if self._task.done():  # logged when it happened
            return not self._task.cancelled() and self._task.exception() is None
        self._task.remove_done_callback(self._ended)
        try:
            answer = await self._announce("shutdown", timeout)
        except TimeoutError:
            self._log.error("the application did not shut down within %g seconds", timeout)
            await self._reap(0)
            return False
        exc = await self._reap(_LINGER)
        if answer is not None and answer["type"] == "lifespan.shutdown.failed":
            self._log.error("the application's shutdown failed: %s", answer.get("message", "") or _describe(exc))
            return False
        if exc is not None:
            self._log.error("the application raised during its shutdown", exc_info=exc)
        return exc is None

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self._state}
        try:
            await self._target(scope, self._receive, self._send)
        except (SystemExit, KeyboardInterrupt) as exc:
            # Out of a task, these two would end the loop before the caller hears of it.
            raise _LeftError(repr(exc)) from exc

    async def _receive(self) -> Message:
        event = await self._events.get()
        self._asked = True
        return event

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        about = _REPLIES.get(kind)
        if about is None:
            raise RuntimeError(f"ASGI message {kind!r} is not one that a lifespan sends")
        if about != self._awaited or self._answer is None or self._answer.done():
            raise RuntimeError(f"{kind} was sent when nobody waits for it")
        self._answer.set_result(message)

    async def _announce(self, what: str, timeout: float | None) -> Message | None:
        """Send an event; the application's answer, or None if it ended without one."""
        self._awaited = what
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._answer = answer
        self._events.put_nowait({"type": f"lifespan.{what}"})
        either: set[asyncio.Future[Any]] = {answer, self._task}
        await asyncio.wait(either, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        if self._task.done():
            return None
        raise TimeoutError

    async def _reap(self, timeout: float) -> BaseException | None:
        """Let the application return, or cancel it; what it raised."""
        task = self._task
        await asyncio.wait({task}, timeout=timeout)
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=_LINGER)
        return None if not task.done() or task.cancelled() else task.exception()

    async def _fail(self, message: str) -> NoReturn:
        """Turn lifespan.startup.failed into the error that ends the start."""
        exc = await self._reap(_LINGER)
        lines = [line for line in message.splitlines() if line.strip()]
        report = message if len(lines) > 1 else ""
        if not report and exc is not None:
            report = _report(exc)
        reason = lines[-1].strip() if lines else _describe(exc)
        raise TargetError(f"the application's startup failed: {reason}", report)

    def _explain(self) -> None:
        """Log why there is no lifespan, after the application ended without an answer.

        Raises:
            TargetError: it ended the process.
        """
        exc = None if self._task.cancelled() else self._task.exception()
        if isinstance(exc, _LeftError):
            raise TargetError(f"the application ended its startup with {exc}", _report(exc.__cause__ or exc)) from exc
        if not self._asked:
            self._log.info("the application has no lifespan (%s)", _describe(exc))
            return
        self._log.warning(
            "the application did not complete its lifespan startup (%s); it serves requests all the same, as ASGI"
            " demands: it must send lifespan.startup.failed to prevent that",
            _describe(exc),
            exc_info=exc,
        )

    def _ended(self, task: asyncio.Task[None]) -> None:
        """The application left its lifespan while it is serving."""
        if task.cancelled():  # the loop is being closed
            return
        exc = task.exception()
        if exc is None:
            self._log.info("the application left its lifespan: it will not hear of the shutdown")
        else:
            self._log.error("the application's lifespan failed while it was serving", exc_info=exc)


class _LeftError(Exception):
    """The application called sys.exit() or was interrupted; the cause says which."""


def _describe(exc: BaseException | None) -> str:
    return "it returned" if exc is None else traceback.format_exception_only(exc)[-1].strip()


def _report(exc: BaseException) -> str:
    """The whole traceback, without the frame of this file on top."""
    trace = exc.__traceback__ and exc.__traceback__.tb_next
    return "".join(traceback.format_exception(type(exc), exc, trace))
