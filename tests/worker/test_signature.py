"""Which callables are ASGI applications, and how the others are refused."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import fastapi
import flask
import pytest
import starlette.applications
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler

from bridge.errors import TargetError
from bridge.worker import signature
from bridge.worker.target import interface

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
    """Every shape of an ASGI application is recognised, and is not served as anything else."""
    assert interface(target, "a:b", "auto") == interface(target, "a:b", "asgi") == "asgi"
    if signature.asgi(target):
        with pytest.raises(TargetError, match="wsgi"):
            interface(target, "a:b", "wsgi")


def per_request(environ: Any, start_response: Any) -> Iterator[bytes]:
    """A generator function."""
    yield b""


def with_default(environ: Any, start_response: Any, debug: bool = False) -> list[bytes]:
    """Could be given three arguments."""
    return []


class WsgiClass:
    """The class is the application: its instances are iterated."""

    def __init__(self, environ: Any, start_response: Any) -> None:
        pass

    def __iter__(self) -> Iterator[bytes]:
        yield b""


def bound_wsgi(setting: Any, environ: Any, start_response: Any) -> list[bytes]:
    """Needs a setting first."""
    return []


@pytest.mark.parametrize(
    "target",
    [
        wsgi,
        WsgiObject(),
        WsgiObject().__call__,
        per_request,
        with_default,
        WsgiClass,
        functools.partial(wsgi),
        functools.partial(bound_wsgi, 1),
        WSGIHandler.__new__(WSGIHandler),
        flask.Flask("shop"),
        flask.Flask("shop").wsgi_app,
    ],
)
def test_wsgi(target: Any) -> None:
    """Every shape of a WSGI application is recognised, and is not served as anything else."""
    assert interface(target, "a:b", "auto") == interface(target, "a:b", "wsgi") == "wsgi"
    with pytest.raises(TargetError) as caught:
        interface(target, "shop:app", "asgi")
    line = '"shop:app" is a WSGI application, and the setting says asgi (--interface, "protocol")'
    assert str(caught.value) == line


def test_unknowable() -> None:
    """What cannot be judged without a call is the operator's to name, and then it is believed."""

    def anything(*args: Any) -> None:
        pass

    assert signature.asgi(anything) is signature.wsgi(anything) is None
    with pytest.raises(TargetError, match="say --interface asgi or --interface wsgi"):
        interface(anything, "a:b", "auto")
    assert interface(anything, "a:b", "asgi") == "asgi"
    assert interface(anything, "a:b", "wsgi") == "wsgi"


def test_the_one_that_remains() -> None:
    """What cannot be the one is taken for the other."""

    def three_or_more(scope: Any, receive: Any, send: Any, *more: Any) -> None:
        pass

    def one_or_two(environ: Any, start_response: Any = None) -> None:
        pass

    assert interface(three_or_more, "a:b", "auto") == "asgi"
    assert interface(one_or_two, "a:b", "auto") == "wsgi"


def one(scope: Any) -> Any:
    """ASGI 2."""


async def none_at_all() -> None:
    """A coroutine function of no use here."""


@pytest.mark.parametrize("protocol", ["auto", "asgi", "wsgi"])
@pytest.mark.parametrize(
    ("target", "text"),
    [
        (one, "takes one argument, as ASGI 2 had it"),
        (none_at_all, "is a function, not a"),
        (WsgiObject, "is a class, not a"),
    ],
)
def test_neither(target: Any, text: str, protocol: str) -> None:
    """What is something else is refused with one line that says what it is."""
    with pytest.raises(TargetError) as caught:
        interface(target, "shop:app", protocol)
    assert str(caught.value).startswith('"shop:app" ')
    assert text in str(caught.value)
    assert caught.value.report == ""
