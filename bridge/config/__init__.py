"""PURE. What the operator may set, with Unit's names where Unit has the feature.

    settings.py   the typed objects, and what is allowed in each of their fields
    address.py    where to listen: the key of a listener, or `--bind`
    prefixes.py   which of several prefixes a path lies below
    mounts.py     applications that are mounted below prefixes → applications, and who is where
    document.py   JSON text as Unit reads it → values, and the line and column of each
    reader.py     values → typed objects, or every mistake with its place, what was expected and what was found
    options.py    the options of `bridged run` → the same typed objects

Main hands each child its settings as the same kind of document, so there is one form and one reader.
"""

from __future__ import annotations

from bridge.config.address import Address, parse
from bridge.config.mounts import parse_target
from bridge.config.options import Options, assign, from_options
from bridge.config.prefixes import Prefixes
from bridge.config.reader import from_file, from_json, near_miss, to_json
from bridge.config.settings import (
    LOG_LEVELS,
    MOST_PROCESSES,
    MOST_THREADS,
    PROTOCOLS,
    Application,
    Http,
    Limits,
    Listener,
    Memory,
    Mount,
    Settings,
    WebSocket,
    single,
)

__all__ = [
    "LOG_LEVELS",
    "MOST_PROCESSES",
    "MOST_THREADS",
    "PROTOCOLS",
    "Address",
    "Application",
    "Http",
    "Limits",
    "Listener",
    "Memory",
    "Mount",
    "Options",
    "Prefixes",
    "Settings",
    "WebSocket",
    "assign",
    "from_file",
    "from_json",
    "from_options",
    "near_miss",
    "parse",
    "parse_target",
    "single",
    "to_json",
]
