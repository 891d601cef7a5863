"""PURE. The options of `bridged run` → settings, by way of the document that says the same.

Reading goes through `reader`, so an option and a member of a file are judged alike.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, TypedDict, Unpack

from bridge.config.document import escape, found
from bridge.config.mounts import mounted_name, parse_target
from bridge.config.reader import from_json, near_miss, to_json
from bridge.config.settings import MOST_PROCESSES, General, Settings, WebSocket
from bridge.errors import ConfigError

NAME = "app"  #: of the one application
_MOUNTS = f"/applications/{NAME}/mounts"
DEFAULT = "127.0.0.1:8000"


def assign(settings: Settings, assignment: str) -> Settings:
    """`settings` with one value replaced, as `--set NAME=VALUE` does.

    Args:
        settings: left as it is.
        assignment: e.g. `http.max_body_size=8388608`; the value is JSON, and anything else is taken as a string.

    Raises:
        ConfigError: no such name, or no such value for it.
    """
    option = f"--set {assignment}"
    path, equals, text = assignment.partition("=")
    if not equals:
        raise ConfigError(option, "expected NAME=VALUE, e.g. http.max_body_size=8388608")
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    document = to_json(settings)
    names = _full(path.strip().split("."), settings, option)
    for full in _each_mount(names, settings):
        _put(document, full, path, (value, text), option)
    try:
        return from_json(Settings, document)
    except ConfigError as error:
        raise ConfigError(option, error.reason) from error


def _put(document: dict[str, Any], names: Sequence[str], path: str, given: tuple[Any, str], option: str) -> None:
    """Put a value (as JSON has it, and as text) into the place in a document that `names` lead to."""
    place, (value, text) = document, given
    for name in names[:-1]:
        inner = place.get(name)
        if not isinstance(inner, dict):
            raise ConfigError(option, f"there is no group {name!r}{near_miss(name, _groups(place))}")
        place = inner
    variable = names[-2:-1] == ["environment"]
    if not variable and (names[-1] not in place or isinstance(place[names[-1]], dict)):
        if isinstance(place.get(names[-1]), dict):
            inside = ", ".join(place[names[-1]]) or "NAME"
            raise ConfigError(option, f"{path!r} is a group: expected {path}.NAME=VALUE with one of {inside}")
        raise ConfigError(option, f"there is no setting {path!r}{near_miss(names[-1], place)}")
    place[names[-1]] = text if variable else value


def _each_mount(names: list[str], settings: Settings) -> list[list[str]]:
    """The same place in each application that has been made of the mounts of the one that `names` lead to."""
    mounts = settings.mounts.get(names[1]) if names[0] == "applications" and len(names) > 1 else None
    if mounts is None:
        return [names]
    own = [name for prefix, name in mounts.items() if name == mounted_name(names[1], prefix)]
    return [["applications", name, *names[2:]] for name in own] or [names]


def _full(names: list[str], settings: Settings, option: str) -> list[str]:
    """The names from the document's root on: `http` stands for `settings.http`, `application` for the only one."""
    if names[0] == "application":
        made = {mounted_name(name, prefix) for name, mounts in settings.mounts.items() for prefix in mounts}
        written = [name for name in (*settings.applications, *settings.mounts) if name not in made]
        if len(written) != 1:
            several = ", ".join((*settings.applications, *settings.mounts))
            raise ConfigError(option, f"there are several; expected applications.NAME.… with one of {several}")
        return ["applications", *written, *names[1:]]
    groups = [*_GENERAL, "application", "applications", "settings"]
    if names[0] in _GENERAL:
        return ["settings", *names]
    if len(names) > 1 and names[0] not in groups:
        raise ConfigError(option, f"there is no group {names[0]!r}{near_miss(names[0], groups)}")
    if len(names) == 1 and names[0] != "access_log":
        raise ConfigError(option, f"there is no setting {names[0]!r}{near_miss(names[0], [*_GENERAL, 'access_log'])}")
    return names


def _groups(place: Mapping[str, Any]) -> list[str]:
    return [name for name, value in place.items() if isinstance(value, dict)]


_GENERAL = tuple(item.name for item in fields(General))


class Options(TypedDict, total=False):
    """What `bridge.run` takes by keyword, named as the options of `bridged run`."""

    mount: Mapping[str, str] | Sequence[str]  #: prefix → target, or several "prefix=target"
    share: bool  #: the workers are the same for all that is mounted
    bind: str | Sequence[str]  #: host:port, [v6]:port, unix:/path; one or several
    workers: int
    threads: int  #: of each worker that serves WSGI
    interface: str  #: "asgi", "wsgi" or "auto"
    factory: bool  #: the target is a function that returns the application
    app_dir: str
    root_path: str
    forwarded_allow_ips: str | Sequence[str]  #: addresses, networks, "unix" or "*"; a string is split at commas
    reload: bool
    log_level: str
    access_log: str | None  #: path, or "-" for standard output
    graceful_timeout: float
    ws_max_size: int  #: bytes of a WebSocket's message, and of a frame
    ws_max_queue: int  #: messages that are read ahead of the application
    ws_ping_interval: float  #: seconds without a word from the client; 0 = it is never pinged
    ws_ping_timeout: float  #: seconds that it has to answer; 0 = for ever
    ws_per_message_deflate: bool
    set: Sequence[str]  #: as `--set`, e.g. ["http.max_body_size=8388608"]


def from_options(target: str, environment: Mapping[str, str], **options: Unpack[Options]) -> Settings:
    """The settings for `bridged run target` with these options.

    Args:
        target: `module` or `module:attribute`; may be empty if there is a `mount`, else that of its root.
        environment: PORT, WEB_CONCURRENCY and FORWARDED_ALLOW_IPS are the defaults of bind, workers and
            forwarded_allow_ips, as other servers have it.
        options: see `Options`.

    Raises:
        ConfigError: an option is unknown, of the wrong kind or out of range.
    """
    for name in options:
        if name not in Options.__annotations__:
            raise ConfigError(name, f"unknown option{near_miss(name, Options.__annotations__)}")
    application = _application(target, options.get("mount", ()), share=options.get("share", False))
    general: dict[str, Any] = {}
    document: dict[str, Any] = {"applications": {NAME: application}, "settings": general}
    given = _defaults(environment) | dict(options)
    document["listeners"] = {key: {"pass": f"applications/{NAME}"} for key in _addresses(given.get("bind", DEFAULT))}
    for name, value in given.items():
        if name in _OF_APPLICATION:
            application[_OF_APPLICATION[name]] = value
        elif name == "forwarded_allow_ips":
            general[name] = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
        elif name == "access_log":
            document[name] = value
        elif name not in ("bind", "set", "mount", "share") and not name.startswith("ws_"):
            general[name] = value
    general["http"] = {"websocket": _websocket(given)}
    if "graceful_timeout" in general:
        application["graceful_timeout"] = general["graceful_timeout"]
    settings = from_json(Settings, document)
    assignments = options.get("set", ())
    if not _are_strings(assignments):
        raise ConfigError("set", f"expected an array of strings, found {found(assignments)}")
    for assignment in assignments:
        settings = assign(settings, assignment)
    return settings


def _websocket(given: Mapping[str, Any]) -> dict[str, Any]:
    """`settings.http.websocket`, as far as options are given."""
    names = {"ws_max_queue": "max_queue", "ws_per_message_deflate": "compression", "ws_ping_interval": _INTERVAL}
    members = {names[name]: value for name, value in given.items() if name in names}
    if "ws_max_size" in given:
        members["max_frame_size"] = members["max_message_size"] = given["ws_max_size"]
    if "ws_ping_timeout" in given or "ws_ping_interval" in given:
        # How long nothing may come at all is not what other servers' users know: it begins before the ping.
        interval, timeout = given.get("ws_ping_interval", _PING), given.get("ws_ping_timeout", _PING)
        numbers = isinstance(interval, int | float) and isinstance(timeout, int | float)
        members["read_timeout"] = interval + timeout if numbers and interval and timeout else 0 if numbers else timeout
    return members


_INTERVAL = "keepalive_interval"
_PING = WebSocket().keepalive_interval  # and as much again for the answer


def _application(target: str, mount: Mapping[str, str] | Sequence[str], *, share: bool) -> dict[str, Any]:
    """What is to be loaded, as the members of an application."""
    mounts = _mounts(mount)
    if target or not mounts:
        parsed = parse_target(target)
        if parsed is None:
            raise ConfigError("target", f"expected module or module:attribute, found {target!r}")
        if not mounts and not share:
            return parsed
        if not mounts:
            raise ConfigError(f"/applications/{NAME}/share", "there is nothing to share the workers with: no --mount")
        if {"", "/"} & mounts.keys():
            raise ConfigError("target", f"{target!r} is mounted at /, and so is another one by --mount")
        mounts = {"/": target, **mounts}
    return {"mounts": mounts} | ({"share": share} if share else {})


def _mounts(given: object) -> dict[str, str]:
    """Prefix → target of what is mounted."""
    if isinstance(given, Mapping):
        return dict(given)
    if not _are_strings(given):
        reason = f"expected an object or an array of strings, found {found(given)}"
        raise ConfigError(_MOUNTS, reason)
    mounts: dict[str, str] = {}
    for text in given:  # type: ignore[attr-defined]
        prefix, equals, target = text.partition("=")
        if not equals:
            reason = f"expected PREFIX=TARGET, as in /api=api.main:app, found {text!r}"
            raise ConfigError(_MOUNTS, reason)
        if prefix in mounts:
            raise ConfigError(f"{_MOUNTS}/{escape(prefix)}", "this prefix is given twice")
        mounts[prefix] = target
    return mounts


def _are_strings(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)


def _addresses(value: Any) -> Sequence[str]:
    addresses = [value] if isinstance(value, str) else value
    if not addresses or not _are_strings(addresses):
        raise ConfigError("/listeners", f"expected a string or an array of strings, found {found(value)}")
    return addresses


_OF_APPLICATION = {
    "workers": "processes",
    "threads": "threads",
    "interface": "protocol",
    "factory": "factory",
    "app_dir": "path",
    "root_path": "root_path",
    "reload": "reload",
}


def _defaults(environment: Mapping[str, str]) -> dict[str, Any]:
    defaults: dict[str, Any] = {}
    if environment.get("PORT"):
        defaults["bind"] = [f"0.0.0.0:{_number(environment, 'PORT', 65535)}"]
    if environment.get("WEB_CONCURRENCY"):
        defaults["workers"] = _number(environment, "WEB_CONCURRENCY", MOST_PROCESSES)
    if environment.get("FORWARDED_ALLOW_IPS"):
        defaults["forwarded_allow_ips"] = environment["FORWARDED_ALLOW_IPS"]
    return defaults


def _number(environment: Mapping[str, str], name: str, most: int) -> int:
    text = environment[name]
    short = len(text) <= len(str(most))
    if not (short and text.isascii() and text.isdigit()) or not 0 < int(text) <= most:
        reason = f"expected a whole number from 1 to {most}, found {found(text)}"
        raise ConfigError(f"environment variable {name}", reason)
    return int(text)
