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
    required = required_arguments(target)
    return None if required is None else required == 3


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
