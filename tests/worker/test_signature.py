"""Which callables are ASGI applications, and how the others are refused."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import fastapi
import pytest
import starlette.applications
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler

from bridge.errors import TargetError
from bridge.worker import signature
from bridge.worker.target import is_asgi, require_asgi

ASGI = "async def {}(scope, receive, send): pass\n"
Load = Callable[..., Any]


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """The usual."""


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    """The other usual."""
    return []


class AsgiObject:
    """An instance is the application."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        pass


class AsgiClass:
    """The class is the application: its instances are awaited."""

    def __init__(self, scope: Any, receive: Any, send: Any) -> None:
        pass

    def __await__(self) -> Iterator[None]:
        yield


class PerInstance:
    """Chooses its __call__ when it is made, as some middleware does."""

    __slots__ = ("__call__",)

    def __init__(self) -> None:
        self.__call__ = asgi


class WsgiObject:
    """A WSGI application as an object."""

    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        return []


def plain_asgi(scope: Any, receive: Any, send: Any) -> Any:
    """Returns what can be awaited."""
    return asgi(scope, receive, send)


@functools.wraps(asgi)
def wrapped(*args: Any) -> Any:
    """A decorator's work."""
    return asgi(*args)


async def bound(setting: Any, scope: Any, receive: Any, send: Any) -> None:
    """Needs a setting first."""


@pytest.mark.parametrize(
    "target",
    [
        asgi,
        AsgiObject(),
        AsgiClass,
        PerInstance(),
        plain_asgi,
        wrapped,
        functools.partial(bound, 1),
        functools.partial(AsgiObject()),
        starlette.applications.Starlette(),
        fastapi.FastAPI(),
        ASGIHandler.__new__(ASGIHandler),
    ],
)
def test_asgi(target: Any) -> None:
    """Every shape of an ASGI application is recognised."""
    assert is_asgi(target)
    require_asgi(target, "a:b")


def test_unknowable() -> None:
    """What cannot be judged without a call is given the benefit of the doubt."""

    def anything(*args: Any) -> None:
        pass

    assert signature.asgi(anything) is None
    assert is_asgi(anything)


def one(scope: Any) -> Any:
    """ASGI 2."""


async def none_at_all() -> None:
    """A coroutine function of no use here."""


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (wsgi, "is a WSGI application: WSGI applications are not served by this release"),
        (WsgiObject(), "is a WSGI application"),
        (WSGIHandler.__new__(WSGIHandler), "is a WSGI application"),
        (functools.partial(wsgi), "is a WSGI application"),
        (one, "takes one argument, as ASGI 2 had it"),
        (none_at_all, "is a function, not an ASGI application"),
        (WsgiObject, "is a class, not an ASGI application"),
    ],
)
def test_not_asgi(target: Any, text: str) -> None:
    """What is something else is refused with one line that says what it is."""
    assert not is_asgi(target)
    with pytest.raises(TargetError) as caught:
        require_asgi(target, "shop:app")
    assert str(caught.value).startswith('"shop:app" ')
    assert text in str(caught.value)
    assert caught.value.report == ""
