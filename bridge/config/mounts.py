"""PURE. Applications that are mounted below prefixes: what the operator writes → applications, and who is where.

An application with `mounts` has no module of its own. Each mount becomes an application named after both, `site/api`:
what its object does not say is said by the surrounding one. `{"application": "NAME"}` mounts one that is configured
elsewhere. With `share` all stay one application, whose workers run all of them.

Everything here is values: `reader` makes objects of them, and `Expansion.place` says where in the operator's document
a value has come from. What has been expanded is expanded to itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from bridge.config.check import Finding
from bridge.config.document import escape, found
from bridge.config.prefixes import mistake, trim
from bridge.config.settings import Application, Mount

MOST_MOUNTS = 100  #: of one application
_BELOW = 'is a matter of each mount: write it below "mounts"'
_NOT_SURROUNDING = {
    "module": _BELOW,
    "callable": _BELOW,
    "targets": _BELOW,
    "prefix": "stands in front of each of the mounts' prefixes: write it there",
}
_ELSEWHERE = "is a matter of the application that is mounted: write it where that is configured"
_SHARED = frozenset(each.name for each in fields(Mount))
_OF_WORKERS = frozenset(each.name for each in fields(Application)) - _SHARED
_UNITED = ("environment", "limits")  # objects that add to those of the surrounding application


def mounted_name(name: str, prefix: str) -> str:
    """What an application is called that is mounted below `prefix` of `name`."""
    return f"{name}{trim(prefix) or '/'}"


def parse_target(text: object) -> dict[str, Any] | None:
    """`module` or `module:attribute` as the members of an application; None = it is neither."""
    if not isinstance(text, str):
        return None
    module, colon, attribute = text.partition(":")
    if not module or (colon and not attribute):
        return None
    return {"module": module, "callable": attribute or None}


class _Origin(NamedTuple):
    """Where an application that was mounted has its members from."""

    inner: str  #: pointer of the mount
    outer: str  #: pointer of the application around it
    members: Any  #: of the mount
    around: Mapping[str, Any]  #: members of the other one

    def place(self, rest: list[str]) -> str:
        """The pointer of what `rest` names in the application."""
        if not isinstance(self.members, Mapping):
            inherited = bool(rest) and rest[0] in self.around
            return "/".join([self.outer, *rest]) if inherited else self.inner
        inherited = bool(rest) and rest[0] in self.around and rest[0] not in self.members
        if len(rest) > 1 and rest[0] in _UNITED and rest[0] in self.members:
            inherited = not isinstance(self.members[rest[0]], Mapping) or rest[1] not in self.members[rest[0]]
        return "/".join([self.outer if inherited else self.inner, *rest])


class Expansion:
    """What `applications` of a document means.

    Args:
        applications: as they stand there.

    Attributes:
        applications: those that have workers, by name; a mount's `prefix` is among its members.
        mounts: for each application that has `mounts`: prefix → name.
        findings: what is wrong with the mounts.
    """

    def __init__(self, applications: Mapping[str, Any]) -> None:
        self.applications: dict[str, Any] = {}
        self.mounts: dict[str, dict[str, str]] = {}
        self.findings: list[Finding] = []
        self._origins: dict[str, _Origin] = {}
        self._given = applications
        for name, item in applications.items():
            if not isinstance(item, Mapping) or ("mounts" not in item and item.get("share", False) is False):
                self.applications[name] = item
            else:
                self._expand(name, item, f"/applications/{escape(name)}")

    def place(self, pointer: str) -> str:
        """Where the operator has written what this pointer names among the applications."""
        parts = pointer.split("/")
        if parts[1:2] != ["applications"] or len(parts) < 3 or parts[2] not in self._origins:
            return pointer
        return self._origins[parts[2]].place(parts[3:])

    def _wrong(self, pointer: str, reason: str, *, at_name: bool = False) -> None:
        self.findings.append(Finding(pointer, reason, at_name))

    def _expand(self, name: str, item: Mapping[str, Any], pointer: str) -> None:
        mounts, share = item.get("mounts"), item.get("share", False)
        if not isinstance(share, bool):
            self._wrong(f"{pointer}/share", f"expected a boolean, found {found(share)}")
        if not isinstance(mounts, Mapping) or not 0 < len(mounts) <= MOST_MOUNTS:
            there = len(mounts) if isinstance(mounts, Mapping) else found(mounts) if "mounts" in item else "none"
            self._wrong(f"{pointer}/mounts", f"expected an object with 1 to {MOST_MOUNTS} mounts, found {there}")
            mounts = {}
        for member, instead in _NOT_SURROUNDING.items():
            if item.get(member):
                self._wrong(f"{pointer}/{member}", f"{member} {instead}", at_name=True)
        around = {key: value for key, value in item.items() if key not in ("mounts", "share", *_NOT_SURROUNDING)}
        if share is True:
            # What runs all of them is an ASGI application, whatever they are.
            shared = {"share": True, "protocol": "asgi", "mounts": dict(self._shared(mounts, around, pointer))}
            self.applications[name] = around | shared
            return
        table = self.mounts[name] = {}
        own = 0
        for key, mount, inner in self._each(mounts, pointer):
            if isinstance(mount, Mapping) and "application" in mount:
                table[trim(key)] = self._named(mount, inner)
            else:
                table[trim(key)] = mounted_name(name, key)
                self._own(mounted_name(name, key), key, mount, _Origin(inner, pointer, mount, around))
                own += 1
        if mounts and not own and set(around) - {"type"}:
            unused = min(set(around) - {"type"})
            self._wrong(f"{pointer}/{unused}", f"{unused} has no effect: {_ELSEWHERE}", at_name=True)

    def _each(self, mounts: Mapping[str, Any], pointer: str) -> Iterator[tuple[str, Any, str]]:
        """Prefix, value and pointer of the mounts whose prefixes are right."""
        known: dict[str, str] = {}
        for key, mount in mounts.items():
            inner = f"{pointer}/mounts/{escape(key)}"
            if reason := mistake(key):
                self._wrong(inner, f"{reason}, found {found(key)}", at_name=True)
            elif trim(key) in known:
                self._wrong(inner, f"the same prefix as {known[trim(key)]!r}", at_name=True)
            else:
                known[trim(key)] = key
                yield key, mount, inner

    def _named(self, mount: Mapping[str, Any], pointer: str) -> str:
        """A mount that names an application."""
        for member in mount:
            if member != "application":
                self._wrong(f"{pointer}/{escape(member)}", f"{member} {_ELSEWHERE}", at_name=True)
        name = mount["application"]
        there = self._given.get(name) if isinstance(name, str) else None
        if not isinstance(name, str) or name not in self._given:
            names = ", ".join(map(repr, self._given))
            self._wrong(f"{pointer}/application", f"expected the name of an application, found {found(name)}; {names}")
        elif isinstance(there, Mapping) and "mounts" in there and there.get("share") is not True:
            reason = f"{name!r} has mounts itself: mount here what it mounts, each below its whole prefix"
            self._wrong(f"{pointer}/application", reason)
        return str(name)

    def _own(self, name: str, key: str, mount: Any, origin: _Origin) -> None:
        """A mount that becomes an application of its own."""
        if name in self._given:
            reason = f"there is an application {name!r}, which is what this mount is called"
            self._wrong(origin.inner, reason, at_name=True)
        elif escape(name) in self._origins:
            reason = f"there is another mount that is called {name!r}, at {self._origins[escape(name)].inner}"
            self._wrong(origin.inner, reason, at_name=True)
        members = self._members(mount, origin.inner)
        if members is None:
            return
        merged = dict(origin.around) | members
        for member in _UNITED:
            inner, outer = members.get(member), origin.around.get(member)
            if isinstance(inner, Mapping) and isinstance(outer, Mapping):
                merged[member] = dict(outer) | dict(inner)
        self.applications[name] = merged | {"prefix": trim(key)}
        self._origins[escape(name)] = origin

    def _members(self, mount: Any, pointer: str) -> dict[str, Any] | None:
        """The members that a mount gives; None = it is no mount at all."""
        members = dict(mount) if isinstance(mount, Mapping) else parse_target(mount)
        if members is None:
            self._wrong(pointer, f'expected "module", "module:attribute" or an object, found {found(mount)}')
            return None
        for member in ("mounts", "share"):
            if members.pop(member, None) is not None:
                reason = "mounts have no mounts of their own: write them beside this one, below their whole prefixes"
                self._wrong(f"{pointer}/{member}", reason, at_name=True)
        if members.pop("prefix", None) is not None:
            self._wrong(f"{pointer}/prefix", "the prefix of a mount is its name", at_name=True)
        return members

    def _shared(self, mounts: Mapping[str, Any], around: Mapping[str, Any], pointer: str) -> Iterator[tuple[str, Any]]:
        """The mounts of an application whose workers run all of them."""
        for key, mount, inner in self._each(mounts, pointer):
            members = self._members(mount, inner)
            if members is None:
                continue
            if members.pop("application", None) is not None:
                reason = "an application that is configured elsewhere has workers of its own, and cannot share these"
                self._wrong(f"{inner}/application", reason, at_name=True)
                continue
            for member in list(members):
                if member in _OF_WORKERS:
                    reason = f'{member} is that of the workers, which the mounts share: write it beside "mounts"'
                    self._wrong(f"{inner}/{escape(member)}", reason, at_name=True)
                    del members[member]
            if "protocol" in around:
                members.setdefault("protocol", around["protocol"])
            yield key, members
