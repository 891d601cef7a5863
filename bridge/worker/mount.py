"""Several applications as one ASGI callable, each below its prefix: `bridge.mount`, and mounts that share a worker.

Around Starlette's routing, because a `Mount` of Starlette's leaves three things to its user that existing applications
need. Their lifespans run here, in order, each in a task of its own, and are shut down in reverse. Each has its own
`state`. And each gets a scope as a server would give it, without what routers around it have noted there, so that it
builds its own URLs. `/a` without a slash is its own to answer: nothing is redirected.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Match, NoMatchFound, Router

from bridge import config
from bridge.config import prefixes
from bridge.errors import ConfigError, TargetError
from bridge.worker import target
from bridge.worker.lifespan import Lifespan
from bridge.worker.types import Receive, Scope, Send, Target
from bridge.worker.wsgi_adapter import WsgiAdapter

THREADS = 8  #: of each WSGI application of `mount`
SLOW = 3.0  #: seconds of a startup or a shutdown after which the log names it
TRY_AGAIN_LATER = 1013  #: WebSocket close code of an application that could not be started

#: What Starlette's routing notes in a scope; an application that is mounted finds none of it.
_NOTES = frozenset({"app", "app_root_path", "endpoint", "path_params", "route", "router"})
_FAILED = "the application's startup failed: "


@dataclass(frozen=True, slots=True)
class Place:
    """What is to be mounted.

    Args:
        prefix: path below which it is served, "/" or "" for all the rest.
        name: what to call it.
        load: returns the application, or raises TargetError.
        protocol: "asgi", "wsgi" or "auto".
        threads: of a WSGI application.
        optional: the others are served also if it cannot be loaded or started.
    """

    prefix: str
    name: str
    load: Callable[[], Any]
    protocol: str = "auto"
    threads: int = THREADS
    optional: bool = False


def mount(applications: Mapping[str, Any], *, optional: Collection[str] = (), threads: int = THREADS) -> Target:
    """Several applications as one ASGI callable, for use under Bridge or any other server.

    Args:
        applications: prefix → an ASGI or WSGI application, or "module:attribute". "/" takes what no other prefix
            does; the longest one wins, at the end of a segment of the path.
        optional: prefixes of those without which the others are served; below them every answer is 503 then.
        threads: requests that each of the WSGI applications runs at once.

    Raises:
        ConfigError: a prefix, what stands there, or the number of threads cannot be meant.
        TargetError: an application that is not optional cannot be loaded.
    """
    if not applications:
        raise ConfigError("mount", "there is nothing to mount")
    if type(threads) is not int or not 0 < threads <= config.MOST_THREADS:
        raise ConfigError("threads", f"expected an integer number from 1 to {config.MOST_THREADS}, found {threads!r}")
    optional = (optional,) if isinstance(optional, str) else optional
    unknown = [prefix for prefix in optional if prefix not in applications]
    if unknown:
        raise ConfigError("optional", f"nothing is mounted at {unknown[0]!r}")
    places = []
    for prefix, found in applications.items():
        name = found if isinstance(found, str) else _called(found)
        places.append(Place(prefix, name, _loader(found), threads=threads, optional=prefix in optional))
    return Composite(places)


def shared(settings: config.Application) -> Target:
    """What the workers of an application run whose mounts share them.

    Raises:
        TargetError: one that is not optional cannot be loaded.
    """

    def loader(mount: config.Mount) -> Callable[[], Any]:
        factory = settings.factory if mount.factory is None else mount.factory
        path = settings.path if mount.path is None else mount.path
        return lambda: target.load(mount.module, mount.callable, factory, path)

    return Composite(
        [
            Place(
                prefix,
                each.target,
                loader(each),
                each.protocol or "auto",
                each.threads or settings.threads,
                settings.optional if each.optional is None else each.optional,
            )
            for prefix, each in settings.mounts.items()
        ]
    )


class Composite:
    """See the head of the file.

    Args:
        places: what is mounted, in the order of their startups.

    Raises:
        ConfigError: a prefix cannot be meant.
        TargetError: an application that is not optional cannot be loaded.
    """

    def __init__(self, places: Sequence[Place]) -> None:
        known: set[str] = set()
        for place in places:
            prefix = prefixes.trim(place.prefix)
            reason = prefixes.mistake(place.prefix) or ("this prefix is given twice" if prefix in known else "")
            if reason:
                raise ConfigError(f"mount {place.prefix!r}", reason)
            known.add(prefix)
        self._mounted = [_Mounted(place) for place in places]
        # The first route that matches is taken, so the longest prefixes come first.
        routes = sorted(self._mounted, key=lambda each: -len(each.prefix))
        self._router = Router(routes, redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await self._router({key: value for key, value in scope.items() if key not in _NOTES}, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        started: list[_Mounted] = []
        try:
            for each in self._mounted:
                await each.start()
                started.append(each)
        except TargetError as error:
            await _stop(started)
            await send({"type": "lifespan.startup.failed", "message": f"{error.report}\n{error}".strip()})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        failed = await _stop(started)
        if failed:
            message = f"not all was shut down properly: {', '.join(failed)}"
            await send({"type": "lifespan.shutdown.failed", "message": message})
        else:
            await send({"type": "lifespan.shutdown.complete"})


async def _stop(started: Sequence[_Mounted]) -> list[str]:
    """Shut down in reverse; whose shutdown has failed. Behind one that takes long the others are told meanwhile."""
    tasks: dict[_Mounted, asyncio.Task[bool]] = {}
    for each in reversed(started):
        task = tasks[each] = asyncio.create_task(each.stop())
        done, _ = await asyncio.wait({task}, timeout=SLOW)
        if not done:
            each.is_slow("shutdown")
    return [str(each) for each, task in tasks.items() if not await task]


class _Mounted(BaseRoute):
    """One application at its place."""

    def __init__(self, place: Place) -> None:
        self.prefix = prefixes.trim(place.prefix)
        self._place = place
        self._log = _Named(logging.getLogger("bridge"), {"name": str(self)})
        self._target: Target | None = None  # None = it is not served
        self._lifespan: Lifespan | None = None
        self._state: dict[str, Any] | None = None
        try:
            self._target = self._load()
        except TargetError as error:
            self._give_up(error)

    def __str__(self) -> str:
        return f"{self.prefix or '/'} ({self._place.name})"

    def _load(self) -> Target:
        place = self._place
        loaded = place.load()
        if target.interface(loaded, place.name, place.protocol) == "asgi":
            found: Target = loaded
            self._lifespan = Lifespan(found, self._log)
            return found
        return WsgiAdapter(loaded, logging.getLogger("bridge"), place.threads)

    def _give_up(self, error: TargetError) -> None:
        """It cannot be served: that ends the start, unless it is optional."""
        line = str(error).removeprefix(_FAILED)
        if not self._place.optional:
            raise TargetError(f"{self}: {line}", error.report) from error
        self._target = self._lifespan = None
        report = f"\n{error.report.rstrip()}" if error.report else ""
        self._log.error("%s; its requests get 503, for it is optional%s", line, report)

    async def start(self) -> None:
        """Lifespan startup; raises TargetError if it fails and that is no small matter."""
        if self._lifespan is not None:
            slow = asyncio.get_running_loop().call_later(SLOW, self.is_slow, "startup")
            try:
                self._state = await self._lifespan.startup()
            except TargetError as error:
                self._give_up(error)
            finally:
                slow.cancel()

    async def stop(self) -> bool:
        """Lifespan shutdown; False = it failed, which was logged."""
        return self._lifespan is None or await self._lifespan.shutdown(None)

    def is_slow(self, what: str) -> None:
        """Say whose startup or shutdown it is that all the others wait for."""
        self._log.warning("its %s has not ended after %g seconds, and goes on", what, SLOW)

    # Routing

    def matches(self, scope: MutableMapping[str, Any]) -> tuple[Match, dict[str, Any]]:
        """Whether the path lies below the prefix; what the scope is then."""
        path, root = scope["path"], scope.get("root_path", "")
        changed: dict[str, Any] = {"root_path": root + self.prefix}
        if _below(path, root):
            path = path[len(root) :]
        else:  # some servers leave it out; applications expect it there
            changed["path"] = root + path
            if scope.get("raw_path") is not None:
                changed["raw_path"] = root.encode() + scope["raw_path"]
        return (Match.FULL, changed) if not self.prefix or _below(path, self.prefix) else (Match.NONE, {})

    async def handle(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Run a request, or a WebSocket."""
        inner = {key: value for key, value in scope.items() if key not in _NOTES}
        if self._state is not None:
            inner["state"] = self._state.copy()
        else:
            inner.pop("state", None)
        if self._target is not None:
            await self._target(inner, receive, send)
        elif scope["type"] == "http":
            await PlainTextResponse("Service Unavailable", 503, {"retry-after": "1"})(inner, receive, send)
        else:
            await send({"type": "websocket.close", "code": TRY_AGAIN_LATER})

    def url_path_for(self, name: str, /, **path_params: Any) -> NoReturn:
        """No URL of the inside is known outside."""
        raise NoMatchFound(name, path_params)


class _Named(logging.LoggerAdapter[logging.Logger]):
    """Says of which application a line is."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Put the name in front."""
        name = self.extra["name"] if self.extra else ""
        return f"{str(name).replace('%', '%%')}: {msg}", kwargs


def _below(path: str, prefix: str) -> bool:
    """Whether a path lies below a prefix, at the end of a segment."""
    return path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in ("", "/")


def _called(application: Any) -> str:
    """A name for an application that came as an object."""
    name = getattr(application, "__qualname__", None) or type(application).__qualname__
    module = getattr(application, "__module__", None)
    return f"{module}.{name}" if module else str(name)


def _loader(found: Any) -> Callable[[], Any]:
    parsed = config.parse_target(found)

    def load() -> Any:
        if callable(found):
            return found
        if parsed is None:
            raise TargetError(f'expected an application or "module:attribute", found {found!r}')
        return target.load(parsed["module"], parsed["callable"], path=())

    return load
