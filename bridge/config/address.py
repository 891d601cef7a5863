"""PURE. Addresses to listen on, as text: the key of a listener, or `--bind`."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from bridge.errors import ConfigError

LONGEST_PATH = 107  #: bytes of a unix socket's path (sun_path without its final zero)
EXPECTED = "expected host:number, [v6]:number, :number, unix:/path or unix:@name"
_HOST = re.compile(r"(?:\[(?P<v6>[^\]]*)\]|(?P<name>[^:\[\]/@\s]*)):(?P<number>[0-9]{1,5})")
_ANY = "0.0.0.0"  # every interface, IPv4


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: a path (of the abstract namespace if it starts with @), or a host and a TCP number."""

    path: str = ""
    host: str = ""
    number: int = 0

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.number}" if ":" in self.host else f"{self.host}:{self.number}"

    @property
    def abstract(self) -> bool:
        """Whether it is a name of the kernel's, without a file."""
        return self.path.startswith("@")

    @property
    def url(self) -> str:
        """What to type into a client."""
        return str(self) if self.path else f"http://{self}"

    def below(self, prefix: str) -> str:
        """The same for what is below a path prefix."""
        return f"{self.url} below {prefix}" if self.path and prefix else self.url + prefix


def parse(text: str, pointer: str = "--bind") -> Address:
    """Read an address; touches nothing.

    Args:
        text: `host:number`, `[v6]:number`, `*:number` or `:number` (every interface), `unix:/path` or `unix:@name`
            (the abstract namespace); number 0 = any free one.
        pointer: what to name in the error.

    Raises:
        ConfigError: it is none of these.
    """
    if text.startswith("unix:"):
        return _parse_path(text, pointer)
    found = _HOST.fullmatch(text)
    if not found or int(found["number"]) > 65535:
        raise ConfigError(pointer, f"{EXPECTED}, found {text!r}{_hint(text)}")
    if found["v6"] is not None:
        try:
            ipaddress.IPv6Address(found["v6"])
        except ValueError:
            raise ConfigError(pointer, f"expected an IPv6 address in the brackets, found {text!r}") from None
    name = found["name"]
    return Address(host=found["v6"] or (_ANY if name in ("", "*") else name), number=int(found["number"]))


def _parse_path(text: str, pointer: str) -> Address:
    path = text.removeprefix("unix:").removeprefix("//")  # unix:///path, as URLs have it
    absolute = path.startswith("/") and not path.endswith("/")
    if not absolute and not (path.startswith("@") and len(path) > 1):
        raise ConfigError(pointer, f"expected unix:/absolute/path or unix:@name, found {text!r}")
    if len(path.encode("utf-8", "surrogateescape")) > LONGEST_PATH or "\0" in path:
        raise ConfigError(pointer, f"the path of a unix socket has at most {LONGEST_PATH} bytes, found {text!r}")
    return Address(path=path)


def _hint(text: str) -> str:
    if text.isdigit():
        return f"; did you mean '127.0.0.1:{text}' or ':{text}'?"
    if text.startswith("/"):
        return f"; did you mean 'unix:{text}'?"
    if text.startswith(("http://", "tcp://")):
        return f"; did you mean {text.partition('://')[2].rstrip('/')!r}?"
    if text.count(":") > 1 and not text.startswith("["):
        return "; an IPv6 address stands in brackets: [::1]:8000"
    return "; did you forget the number, as in 127.0.0.1:8000?" if ":" not in text else ""
