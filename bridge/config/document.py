"""PURE. JSON text as Unit reads it: with comments and a byte order mark, without duplicate members.

The standard library's reader knows no comments, lets duplicates and NaN pass, and forgets where a value stood. This one
remembers it, by JSON pointer (RFC 6901), so that an error can say line and column.
"""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from typing import Any, NoReturn

from bridge.errors import ConfigError

DEEPEST = 64  #: objects and arrays within one another
LONGEST_NUMBER = 100  #: characters

_SPACE = re.compile(r"(?:[ \t\r\n]+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*')
_WORDS = {"true": True, "false": False, "null": None}
_BARE = re.compile(r"(?:(?!/[/*])[^\s,:\[\]{}\"])+")


class Document:
    """A JSON document with the places of everything in it.

    Args:
        data: the file's bytes.
        name: of the file, for errors.

    Raises:
        ConfigError: it is no JSON; `place` says where not.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self.name = name
        self._text = ""
        self._members: dict[str, int] = {}  # where the name of a member stands
        self._values: dict[str, int] = {"": 0}
        data = data.removeprefix(BOM_UTF8)
        try:
            self._text = data.decode()
        except UnicodeDecodeError as error:
            self._text = data[: error.start].decode()
            self._fail(len(self._text), f"expected UTF-8, found the byte {data[error.start]:#04x}")
        value, end = self._value(self._skip(0), "", 0)
        if (end := self._skip(end)) < len(self._text):
            self._fail(end, f"expected the end of the file, found {self._seen(end)}")
        self.value: Any = value

    def where(self, pointer: str, *, member: bool = False) -> tuple[int, int]:
        """Line and column, from 1, of the value (or of the member's name) that a pointer names.

        What is missing stands where that would stand which contains it.
        """
        places = self._members if member else self._values
        while pointer and pointer not in places:
            pointer = pointer.rpartition("/")[0]
            places = self._values
        return self._line(places.get(pointer, 0))

    def place(self, pointer: str, *, member: bool = False) -> str:
        """As `where`, as text: `config.json:3:14`."""
        line, column = self.where(pointer, member=member)
        return f"{self.name}:{line}:{column}"

    def _line(self, offset: int) -> tuple[int, int]:
        start = self._text.rfind("\n", 0, offset) + 1
        return self._text.count("\n", 0, offset) + 1, offset - start + 1

    def _fail(self, offset: int, reason: str) -> NoReturn:
        line, column = self._line(offset)
        raise ConfigError("", reason, f"{self.name}:{line}:{column}")

    def _seen(self, offset: int) -> str:
        if offset >= len(self._text):
            return "the end of the file"
        bare = _BARE.match(self._text, offset)
        return repr(bare[0][:20] if bare else self._text[offset])

    def _skip(self, offset: int) -> int:
        found = _SPACE.match(self._text, offset)
        offset = found.end() if found else offset
        if self._text.startswith("/*", offset):
            self._fail(offset, "this comment has no end")
        return offset

    def _value(self, at: int, pointer: str, depth: int) -> tuple[Any, int]:
        self._values[pointer] = at
        match self._text[at : at + 1]:
            case "{" | "[" if depth == DEEPEST:
                self._fail(at, f"more than {DEEPEST} objects and arrays within one another")
            case "{":
                return self._object(at + 1, pointer, depth + 1)
            case "[":
                return self._array(at + 1, pointer, depth + 1)
            case '"':
                return self._string(at)
        number = _NUMBER.match(self._text, at)
        bare = _BARE.match(self._text, at)
        if number and bare and number.end() == bare.end():
            if len(number[0]) > LONGEST_NUMBER:
                self._fail(at, f"a number of more than {LONGEST_NUMBER} characters")
            return (float(number[0]) if number[1] or number[2] else int(number[0])), number.end()
        if bare and bare[0] in _WORDS:
            return _WORDS[bare[0]], bare.end()
        return self._fail(at, f"expected a value, found {self._seen(at)}")

    def _string(self, at: int) -> tuple[str, int]:
        found = _STRING.match(self._text, at)
        end = found.end() if found else at
        after = self._text[end : end + 1]
        if after != '"':
            reason = "this string has no end" if not after else "an unknown escape in this string"
            self._fail(end if after else at, reason if after in ("", "\\") else "a control character in this string")
        text: str = json.loads(self._text[at : end + 1])
        try:
            text.encode()
        except UnicodeEncodeError:
            self._fail(at, "half of a surrogate pair in this string")
        return text, end + 1

    def _array(self, at: int, pointer: str, depth: int) -> tuple[list[Any], int]:
        items: list[Any] = []
        at = self._skip(at)
        while self._text[at : at + 1] != "]":
            item, at = self._value(at, f"{pointer}/{len(items)}", depth)
            items.append(item)
            at = self._next(at, "]")
        return items, at + 1

    def _object(self, at: int, pointer: str, depth: int) -> tuple[dict[str, Any], int]:
        members: dict[str, Any] = {}
        at = self._skip(at)
        while self._text[at : at + 1] != "}":
            if self._text[at : at + 1] != '"':
                self._fail(at, f"expected a name in quotes, found {self._seen(at)}")
            start = at
            name, at = self._string(at)
            if name in members:
                self._fail(start, f"the name {name!r} stands in this object a second time")
            inner = f"{pointer}/{escape(name)}"
            self._members[inner] = start
            at = self._skip(at)
            if self._text[at : at + 1] != ":":
                self._fail(at, f"expected a colon, found {self._seen(at)}")
            members[name], at = self._value(self._skip(at + 1), inner, depth)
            at = self._next(at, "}")
        return members, at + 1

    def _next(self, at: int, closing: str) -> int:
        """From behind an item to the next one, or to the closing bracket."""
        at = self._skip(at)
        if self._text[at : at + 1] == ",":
            comma, at = at, self._skip(at + 1)
            if self._text[at : at + 1] == closing:
                self._fail(comma, f"a comma in front of {closing}")
        elif self._text[at : at + 1] != closing:
            self._fail(at, f"expected a comma or {closing}, found {self._seen(at)}")
        return at


def escape(name: object) -> str:
    """A member's name as part of a JSON pointer."""
    return str(name).replace("~", "~0").replace("/", "~1")


def found(value: object) -> str:
    """What stands in a place, for an error."""
    if value is None:
        return "a null"
    if isinstance(value, (dict, list, tuple)):
        return "an object" if isinstance(value, dict) else "an array"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the string {value[:60]!r}" + "…" * (len(value) > 60)
    return repr(value)
