"""PURE. Values → typed objects, driven by the annotations in `settings`; or every mistake, each with its place.

A mistake names the JSON pointer, what was expected (the kinds in Unit's words) and what was found; a misspelt name
gets the nearest right one. What Unit has and Bridge does not serve yet is refused by that name: nothing is ignored in
silence.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from difflib import get_close_matches
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, NamedTuple, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from bridge.config.check import check_settings, check_type
from bridge.config.document import Document, escape, found
from bridge.config.mounts import Expansion
from bridge.config.settings import (
    MOST_LISTENERS,
    Application,
    General,
    Http,
    Limits,
    Listener,
    Path,
    Settings,
)
from bridge.errors import ConfigError, ConfigErrors

FILE_BODY_SIZE = 8388608  #: `http.max_body_size` of a file that does not set it, as in Unit
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class _AccessLog:
    path: Path


#: What Unit has and Bridge does not serve yet → what there is instead.
UNSERVED: Mapping[type, Mapping[str, str]] = {
    Settings: {"routes": "a listener passes to an application", "upstreams": ""},
    General: {"listen_threads": "", "telemetry": "", "js_module": ""},
    Http: dict.fromkeys(("discard_unsafe_fields", "static", "log_route", "chunked_transform", "compression"), ""),
    Listener: {
        "application": 'write "pass": "applications/NAME"',
        "tls": "",
        "forwarded": "settings.forwarded_allow_ips says whose X-Forwarded-For and -Proto are believed",
        "client_ip": "settings.forwarded_allow_ips says whose X-Forwarded-For is believed",
    },
    Application: {
        "targets": "",
        "user": "",
        "group": "",
        "isolation": "",
        "stdout": "",
        "stderr": "",
        "thread_stack_size": "",
    },
    Limits: {"requests": ""},
    _AccessLog: {"format": "", "if": ""},
}
_NOT_SERVED = "not served yet"
#: Fields that no member of a document is called after.
_HIDDEN = {(Application, "name"), (Application, "mounted_at"), (Application, "websocket"), (Settings, "mounts")}
_UNLESS_SHARED = ("module", "share", "mounts")  # either the first one, or the others


def from_file(data: bytes, name: str) -> Settings:
    """The settings that a file describes.

    Args:
        data: its bytes.
        name: what to call it in errors.

    Raises:
        ConfigErrors: all that is wrong in it, each with line and column.
    """
    try:
        document = Document(data, name)
    except ConfigError as error:
        raise ConfigErrors([error]) from None
    reader = _Reader()
    settings = reader.settings(_with_defaults(document.value))
    if not reader.mistakes and settings is not None:
        return settings
    found = sorted(reader.mistakes, key=lambda mistake: document.where(mistake.pointer, member=mistake.at_name))
    raise ConfigErrors(
        ConfigError(pointer or "/", reason, document.place(pointer, member=at_name))
        for pointer, reason, at_name in found
    )


def from_json(kind: type[T], value: object, pointer: str = "") -> T:
    """The object of class `kind` that `value` describes; names left out keep their defaults.

    Args:
        kind: one of the classes of `settings`.
        value: what `json.loads` gave.
        pointer: JSON pointer of `value`, for the errors.

    Raises:
        ConfigError: a name is unknown or missing, or a value is of the wrong kind or out of range: the first of them.
    """
    reader = _Reader()
    result: Any = reader.settings(value) if kind is Settings else reader.read(kind, value, pointer)
    for mistake in reader.mistakes:
        raise ConfigError(mistake.pointer or "/", mistake.reason)
    return cast("T", result)


def to_json(settings: object) -> dict[str, Any]:
    """`settings` (any object of `settings`) as plain JSON values, from which `from_json` makes it again."""
    result: dict[str, Any] = _plain(settings)
    if isinstance(settings, Settings):
        result["settings"] = {item.name: result.pop(item.name) for item in fields(General)}
        for name, mounts in settings.mounts.items():
            named = {prefix or "/": {"application": application} for prefix, application in mounts.items()}
            result["applications"][name] = {"mounts": named}
    return result


def near_miss(name: str, known: Sequence[str] | Mapping[str, object]) -> str:
    """Text that offers the known name nearest to `name`, or nothing."""
    nearest = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""


def _with_defaults(value: Any) -> Any:
    """The document with what a file means by saying nothing."""
    if not isinstance(value, dict):
        return value
    settings = value.get("settings", {})
    http = settings.get("http", {}) if isinstance(settings, dict) else None
    if not isinstance(http, dict):
        return value
    return value | {"settings": settings | {"http": {"max_body_size": FILE_BODY_SIZE} | http}}


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        named = ((item.name, getattr(value, item.name)) for item in fields(value))
        kind = type(value)
        absent = _UNLESS_SHARED if isinstance(value, Application) else ()
        kept = ((name, item) for name, item in named if (kind, name) not in _HIDDEN and (item or name not in absent))
        return {name.rstrip("_"): _plain(item) for name, item in kept}
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _told(applications: Mapping[str, Application], mounts: Mapping[str, Mapping[str, str]]) -> dict[str, Application]:
    """The applications with their names, and with the prefixes of the mounts that lead to them."""
    ways = [(name, prefix) for table in mounts.values() for prefix, name in table.items()]
    told = {}
    for name, item in applications.items():
        prefixes = dict.fromkeys(prefix for to, prefix in ways if to == name and prefix != item.prefix.rstrip("/"))
        told[name] = replace(item, name=name, mounted_at=tuple(prefixes))
    return told


class _Hint(NamedTuple):
    """An annotation taken apart."""

    kind: Any  #: bool, int, float, str, tuple, Mapping, or a dataclass
    inner: Any  #: annotation of the items of a tuple or mapping
    null: bool  #: may be None
    checks: tuple[Any, ...]

    @property
    def expected(self) -> str:
        """The right kinds, in words."""
        return _KINDS.get(self.kind, "an object") + " or a null" * self.null


_KINDS: dict[Any, str] = {
    bool: "a boolean",
    int: "an integer number",
    float: "a number",
    str: "a string",
    tuple: "a string or an array of strings",
}


@cache
def _hint(annotation: Any) -> _Hint:
    checks: tuple[Any, ...] = ()
    null = False
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation, *metadata = get_args(annotation)
            checks = (*metadata, *checks)
        elif origin in (Union, UnionType):
            null = True
            (annotation,) = (item for item in get_args(annotation) if item is not NoneType)
        elif origin is None:
            return _Hint(annotation, None, null, checks)
        else:
            inner = get_args(annotation)[0 if origin is tuple else 1]
            return _Hint(tuple if origin is tuple else Mapping, inner, null, checks)


@cache
def _fields(kind: type) -> dict[str, Any]:
    """The members that an object of this class has in a document, with their annotations."""
    hints = get_type_hints(kind, include_extras=True)
    return {name.rstrip("_"): hint for name, hint in hints.items() if (kind, name) not in _HIDDEN}


class _Mistake(NamedTuple):
    pointer: str
    reason: str
    at_name: bool  #: it is the member's name that is wrong, not its value


class _Reader:
    """Reads on after a mistake: what is returned then is of no use, and `mistakes` is not empty."""

    def __init__(self) -> None:
        self.mistakes: list[_Mistake] = []

    def wrong(self, pointer: str, reason: str, *, at_name: bool = False) -> None:
        """Note a mistake."""
        self.mistakes.append(_Mistake(pointer, reason, at_name))

    def settings(self, value: object) -> Settings | None:
        """The whole document."""
        if not isinstance(value, Mapping):
            self.wrong("", f"expected an object, found {found(value)}")
            return None
        known = [*(name for name in _fields(Settings) if name not in _fields(General)), "settings"]
        self._unknown(Settings, value, known, "")
        general = self.read(General, value.get("settings", {}), "/settings")
        access_log = value.get("access_log")
        if isinstance(access_log, Mapping):
            described = self.read(_AccessLog, access_log, "/access_log")
            access_log = described.path if described else None
        else:
            access_log = self.read(Path | None, access_log, "/access_log")
        members: dict[str, Any] = {"access_log": access_log}
        for name, most in (("applications", None), ("listeners", MOST_LISTENERS)):
            count = len(value[name]) if isinstance(value.get(name), Mapping) else int(name in value)
            if not count or (most and count > most):
                self.wrong(f"/{name}", f"expected {f'1 to {most} of them' if most else 'at least one'}, found {count}")
        given = value.get("applications", {})
        expansion = Expansion(given if isinstance(given, Mapping) else {})
        if isinstance(given, Mapping):
            value = {**value, "applications": expansion.applications}
        for name in ("applications", "listeners"):
            members[name] = self.read(_fields(Settings)[name], value.get(name, {}), f"/{name}") or {}
        for pointer, reason, at_name in [*expansion.findings, *check_settings(value, expansion.mounts)]:
            self.wrong(pointer, reason, at_name=at_name)
        if self.mistakes:
            # Several mounts may have the same wrong value from the application around them.
            placed = (mistake._replace(pointer=expansion.place(mistake.pointer)) for mistake in self.mistakes)
            self.mistakes = list(dict.fromkeys(placed))
            return None
        websocket = cast("General", general).http.websocket
        applications = _told(members["applications"], expansion.mounts)
        members["applications"] = {name: replace(item, websocket=websocket) for name, item in applications.items()}
        members["mounts"] = expansion.mounts
        return Settings(**{item.name: getattr(general, item.name) for item in fields(General)}, **members)

    def read(self, annotation: Any, value: object, pointer: str) -> Any:
        """What `value` describes as the annotation asks for it; None after a mistake."""
        hint = _hint(annotation)
        if value is None and hint.null:
            return None
        if is_dataclass(hint.kind):
            return self._object(hint.kind, value, pointer)  # type: ignore[arg-type]
        if hint.kind is Mapping:
            return self._mapping(hint, value, pointer)
        if hint.kind is tuple:
            return self._list(hint, value, pointer)
        right = (int, float) if hint.kind is float else hint.kind
        if not isinstance(value, right) or (isinstance(value, bool) and hint.kind is not bool):
            self.wrong(pointer, f"expected {hint.expected}, found {found(value)}")
            return None
        return self._checked(hint, value, pointer)

    def _checked(self, hint: _Hint, value: Any, pointer: str) -> Any:
        if hint.kind is float:
            value = float(value)
        for check in hint.checks:
            if expected := check.expected(value):
                words = near_miss(value, check.words) if hasattr(check, "words") else ""
                self.wrong(pointer, f"expected {expected}, found {found(value)}{words}")
                return None
        return value

    def _object(self, kind: type, value: object, pointer: str) -> Any:
        if not isinstance(value, Mapping):
            self.wrong(pointer, f"expected an object, found {found(value)}")
            return None
        known = _fields(kind)
        before = len(self.mistakes)
        self._unknown(kind, value, known, pointer)
        arguments = {}
        for name, item in value.items():
            inner = f"{pointer}/{escape(name)}"
            if name == "processes" and isinstance(item, Mapping):
                self.wrong(inner, f"expected an integer number, found an object, which is {_NOT_SERVED}")
            elif name in known:
                arguments[_field(kind, name)] = self.read(known[name], item, inner)
        for missing in fields(kind):
            name = missing.name.rstrip("_")
            needed = missing.default is MISSING and missing.default_factory is MISSING
            if kind is Application and name == "module":
                needed = not {"targets", "mounts"} & value.keys()
            if needed and name not in value:
                self.wrong(f"{pointer}/{name}", "missing, and it has no default")
        if kind is Application and (reason := check_type(arguments.get("type"), sys.version_info)):
            self.wrong(f"{pointer}/type", reason)
        return kind(**arguments) if len(self.mistakes) == before else None

    def _unknown(self, kind: type, value: Mapping[str, Any], known: Iterable[str], pointer: str) -> None:
        unserved = UNSERVED.get(kind, {})
        known = list(known)
        for name in value:
            if name in known:
                continue
            instead = unserved.get(name)
            if instead is None:
                reason = f"unknown name{near_miss(str(name), [*known, *unserved])}"
            else:
                reason = f"{_NOT_SERVED}; {instead}" if instead else _NOT_SERVED
            self.wrong(f"{pointer}/{escape(name)}", reason, at_name=True)

    def _mapping(self, hint: _Hint, value: object, pointer: str) -> Any:
        if not isinstance(value, Mapping):
            self.wrong(pointer, f"expected {hint.expected}, found {found(value)}")
            return None
        return {name: self.read(hint.inner, item, f"{pointer}/{escape(name)}") for name, item in value.items()}

    def _list(self, hint: _Hint, value: object, pointer: str) -> Any:
        if isinstance(value, str):
            return (self.read(hint.inner, value, pointer),)
        if not isinstance(value, list | tuple):
            self.wrong(pointer, f"expected {hint.expected}, found {found(value)}")
            return None
        return tuple(self.read(hint.inner, item, f"{pointer}/{index}") for index, item in enumerate(value))


def _field(kind: type, name: str) -> str:
    """The attribute that a member is kept in: `pass` is a word of Python's, and so is `pass_`."""
    return name if name in kind.__dataclass_fields__ else f"{name}_"  # type: ignore[attr-defined]
