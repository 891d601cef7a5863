"""PURE. What a callable is, as far as it can be told without calling it: ASGI, WSGI, a factory."""

from __future__ import annotations

import functools
import inspect
from typing import Any


def asgi(target: Any) -> bool | None:
    """Whether a callable is an ASGI 3 application; None if nothing can be known.

    Certain are: a coroutine function, or an object with a coroutine `__call__`, that takes three positional
    arguments; a plain callable that must be given three; a class whose instances can be awaited.
    """
    if inspect.isclass(target):
        return hasattr(target, "__await__")
    if takes(target, 3) is False:
        return False
    if _is_coroutine(target):
        return True
    return _must_have(target, 3)


def wsgi(target: Any) -> bool | None:
    """Whether a callable is a WSGI application; None if nothing can be known.

    Certain are: a plain callable that must be given two positional arguments; a class of this kind whose instances
    are iterable.
    """
    if _is_coroutine(target) or takes(target, 2) is False:
        return False
    if inspect.isclass(target):
        return required_arguments(target) == 2 and hasattr(target, "__iter__")
    return _must_have(target, 2)


def names(target: Any) -> list[str]:
    """The names of its parameters; none if these cannot be known."""
    signature = _signature(target)
    return [] if signature is None else list(signature.parameters)


def factory(target: Any) -> bool:
    """Whether it is a plain function or a class that can be called without arguments, but not as an application."""
    if inspect.isclass(target):
        return required_arguments(target) == 0 and not hasattr(target, "__await__")
    return inspect.isfunction(target) and required_arguments(target) == 0 and takes(target, 2) is False


def takes(target: Any, count: int) -> bool | None:
    """Whether a callable can be given so many positional arguments and nothing else; None if that cannot be known."""
    signature = _signature(target)
    if signature is None:
        return None
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def required_arguments(target: Any) -> int | None:
    """How many positional arguments must be given; None if that cannot be known."""
    signature = _signature(target)
    if signature is None or any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values()):
        return None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in positional and p.default is p.empty for p in signature.parameters.values())


def _must_have(target: Any, count: int) -> bool | None:
    """Whether a callable that takes `count` positional arguments has to be given all of them; None = who knows."""
    required = required_arguments(target)
    if required is None or required < min(count, 2):
        return None
    return required == count


def _is_coroutine(target: Any) -> bool:
    while isinstance(target, functools.partial):
        target = target.func
    # An attribute, and not what the type says: some middleware chooses its __call__ per instance.
    return inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(getattr(target, "__call__", None))  # noqa: B004


def _signature(target: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(target)
    except (TypeError, ValueError):  # compiled code without a signature
        return None
