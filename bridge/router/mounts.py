"""PURE. Where a request goes that arrives where several applications are mounted: the longest prefix of its path.

The path is that of the request target (RFC 9112, section 3.2): of its origin form, or inside its absolute form, without
the query and percent-decoded, as the application will see it. It is not otherwise normalised: `//api` and `/x/../api`
do not lie below `/api`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar
from urllib.parse import unquote_to_bytes

from bridge import config

T = TypeVar("T")
_PERCENT = ord("%")
_SLASH = ord("/")


class Mounts(Generic[T]):
    """What is mounted at one listener.

    Args:
        table: prefix, as `config.Settings.mounts` has it → application, and the number of its way there.
    """

    __slots__ = ("_find", "_places")

    def __init__(self, table: Mapping[str, tuple[T, int]]) -> None:
        self._find = config.Prefixes(list(table)).find
        self._places = list(table.values())

    def choose(self, head: bytes) -> tuple[T, int] | None:
        """Application and way of a request.

        Args:
            head: as it was received; it has been judged.

        Returns:
            None: nothing is mounted there.
        """
        target = head.split(b" ", 2)[1]
        if target[0] != _SLASH:
            target = _origin_form(target)
        path = target.partition(b"?")[0]
        number = self._find(unquote_to_bytes(path) if _PERCENT in path else path)
        return None if number is None else self._places[number]


def _origin_form(target: bytes) -> bytes:
    """The path of an absolute-form target; `*` stays as it is."""
    _, mark, rest = target.partition(b"://")
    if not mark:
        return target
    _, slash, path = rest.partition(b"?")[0].partition(b"/")
    return b"/" + path if slash else b"/"


def destinations(settings: config.Settings, applications: Mapping[str, T]) -> dict[str, T | Mounts[T]]:
    """What the names mean that listeners pass to."""
    found: dict[str, T | Mounts[T]] = dict(applications)
    for name, table in settings.mounts.items():
        ways = {prefix: settings.applications[to].way(prefix) for prefix, to in table.items()}
        found[name] = Mounts({prefix: (applications[to], ways[prefix]) for prefix, to in table.items()})
    return found
