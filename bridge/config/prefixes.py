"""PURE. Which of several path prefixes a path lies below: the longest one that ends at the end of a segment."""

from __future__ import annotations

import re
from collections.abc import Sequence

ROOT = ""  #: the prefix that every path lies below, `*` too


def trim(prefix: str) -> str:
    """A prefix as it is compared: without the slash at its end, so the root is empty."""
    return prefix.removesuffix("/")


def mistake(prefix: str) -> str:
    """What is expected instead of a prefix that nobody could mean; empty if it is right."""
    if prefix and not prefix.startswith("/"):
        return "expected a path that starts with /"
    if "//" in prefix:
        return "expected a path without // in it"
    if not prefix.isprintable():  # what cannot be encoded, too
        return "expected a path without control characters"
    if set("%?#*") & set(prefix):
        return "expected a path as it reads when it is decoded, without % ? # *"
    return ""


class Prefixes:
    """Finds the prefix of a path, in one search whatever their number.

    Args:
        prefixes: each once, as `trim` leaves them.
    """

    __slots__ = ("_match", "_numbers", "_root")

    def __init__(self, prefixes: Sequence[str]) -> None:
        self._root = prefixes.index(ROOT) if ROOT in prefixes else None
        numbers = sorted((number for number, each in enumerate(prefixes) if each), key=lambda one: -len(prefixes[one]))
        self._numbers = numbers
        groups = b"|".join(b"(%b)" % re.escape(prefixes[number].encode()) for number in numbers)
        self._match = re.compile(b"(?:%b)(?=/|\\Z)" % groups if groups else rb"(?!)").match

    def find(self, path: bytes) -> int | None:
        """The number of the longest prefix that a decoded path lies below; None = there is none."""
        found = self._match(path)
        return self._root if found is None else self._numbers[(found.lastindex or 0) - 1]
