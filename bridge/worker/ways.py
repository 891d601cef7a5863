"""PURE. Requests of one application that have come by different prefixes: each prefix has a builder of its own.

Which one has led a request here stands in the upper bits of its number, so that a builder remembers what belongs to its
prefix alone, and an application that is mounted once pays nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from bridge.ipc.message import WAY

T = TypeVar("T")


def by_way(builders: Sequence[Callable[..., T]]) -> Callable[..., T]:
    """One `build` of several: `ScopeBuilder.build` or `EnvironBuilder.build`, in the order of the ways."""
    if len(builders) == 1:
        return builders[0]

    def build(head: bytes, number: int, *rest: Any) -> T:
        return builders[number >> WAY](head, number, *rest)

    return build
