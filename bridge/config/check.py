"""PURE. What no field can be told by itself: names that refer to one another, and sums.

These checks look at a document's values, not at objects, because they also have to say what they can about a document
with other mistakes in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple
from urllib.parse import unquote

from bridge.config.address import Address, parse
from bridge.config.document import escape
from bridge.errors import ConfigError

MOST_IN_ALL = 2040  #: processes of all applications: each has several ids of 16 bits
LEAST_COUNT = 8  #: an application counts as so many at least
_TYPE = re.compile(r"python(?: (?P<major>[0-9]+)(?:\.(?P<minor>[0-9]+)(?:\.[0-9]+)*)?)?")
_OTHERS = ("external", "go", "java", "node", "nodejs", "perl", "php", "ruby", "wasm", "wasm-wasi-component")


class Finding(NamedTuple):
    """A mistake."""

    pointer: str
    reason: str
    at_name: bool = False  #: it is the member's name that is wrong, not its value


def check_settings(document: Mapping[str, Any], mounts: Mapping[str, Any]) -> Iterator[Finding]:
    """The mistakes of a whole document that show only when its parts are held beside each other.

    Args:
        document: in which every mount has become an application.
        mounts: by the names of those that have them, which a listener may pass to like an application.
    """
    applications = document.get("applications")
    known = applications if isinstance(applications, Mapping) else {}
    yield from _check_applications(known)
    known = {**known, **mounts}
    listeners = document.get("listeners")
    if isinstance(listeners, Mapping):
        yield from _check_addresses(listeners)
        for key, listener in listeners.items():
            target = listener.get("pass") if isinstance(listener, Mapping) else None
            if isinstance(target, str) and (reason := check_pass(target, known)):
                yield Finding(f"/listeners/{escape(key)}/pass", reason)


def check_type(value: object, running: tuple[Any, ...]) -> str:
    """What is wrong with the `type` of an application; empty if it is right.

    Args:
        value: what stands there; anything but a string has been refused already.
        running: version of this interpreter, as `sys.version_info`.
    """
    if not isinstance(value, str):
        return ""
    language = value.partition(" ")[0]
    if language in _OTHERS:
        return f"not served: applications in Python are, found {value!r}"
    asked = _TYPE.fullmatch(value)
    if not asked:
        return f'expected "python", with or without a version as in "python 3.11", found {value!r}'
    wanted = [int(number) for number in asked.groups() if number]
    if wanted != list(running[: len(wanted)]):
        return f"found {value!r}, but this is Python {running[0]}.{running[1]}: Bridge serves the one that it runs on"
    return ""


def check_pass(value: str, applications: Mapping[str, Any]) -> str:
    """What is wrong with a `pass`; empty if it is right.

    Args:
        value: what stands there.
        applications: those that there are, by name.
    """
    kind, *rest = value.split("/")
    if kind in ("routes", "upstreams"):
        return f"{kind} are not served yet; expected applications/NAME, found {value!r}"
    if "$" in value:
        return f"variables are not served yet; expected applications/NAME, found {value!r}"
    if kind != "applications" or not rest or not rest[0]:
        return f"expected applications/NAME, found {value!r}"
    if len(rest) > 1:
        return f"targets are not served yet; expected applications/NAME, found {value!r}"
    name = unquote(rest[0])
    if name in applications:
        return ""
    near = get_close_matches(name, list(applications), n=1, cutoff=0.6)
    there = ", ".join(map(repr, applications)) or "none"
    return f"there is no application {name!r}" + (f"; did you mean {near[0]!r}?" if near else "; there are: " + there)


def _check_applications(applications: Mapping[str, Any]) -> Iterator[Finding]:
    if "" in applications:
        yield Finding("/applications/", "an application needs a name that is not empty", at_name=True)
    counts = [item.get("processes", 1) if isinstance(item, Mapping) else 1 for item in applications.values()]
    total = sum(max(LEAST_COUNT, count) for count in counts if isinstance(count, int))
    if total > MOST_IN_ALL:
        counted = f"found {total} (an application counts as {LEAST_COUNT} at least)"
        yield Finding("/applications", f"expected {MOST_IN_ALL} processes at most in all of them, {counted}")
    for name, item in applications.items():
        variables = item.get("environment") if isinstance(item, Mapping) else None
        for variable in variables if isinstance(variables, Mapping) else ():
            if not variable or "=" in variable or "\0" in variable:
                reason = 'expected a name that is not empty and has no "=" and no NUL in it'
                yield Finding(f"/applications/{escape(name)}/environment/{escape(variable)}", reason, at_name=True)


def _check_addresses(listeners: Mapping[str, Any]) -> Iterator[Finding]:
    known: dict[Address, str] = {}
    for key in listeners:
        pointer = f"/listeners/{escape(key)}"
        try:
            address = parse(key, pointer)
        except ConfigError as error:
            yield Finding(pointer, error.reason, at_name=True)
            continue
        if address in known and (address.path or address.number):
            yield Finding(pointer, f"the same address as {known[address]!r}", at_name=True)
        known.setdefault(address, key)
