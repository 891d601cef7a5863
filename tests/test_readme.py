"""The documents say what the code says."""

from __future__ import annotations

import re
from pathlib import Path

from bridge.config import Http, Memory, from_file
from bridge.ipc.stream import diagram

ROOT = Path(__file__).parent.parent


def test_the_states_are_drawn_from_the_table() -> None:
    """The diagram in the architecture page is the one that the table draws."""
    assert diagram().strip() in (ROOT / "bridge" / "README.md").read_text()


def test_configurations_that_are_shown_are_right() -> None:
    """A file of JSON in the README is one that `bridged serve` reads."""
    shown = re.findall(r"^```json\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert shown
    for text in shown:
        from_file(text.encode(), "README.md")


def test_every_file_that_is_named_exists() -> None:
    """Files that the architecture page sends its reader to are there."""
    text = (ROOT / "bridge" / "README.md").read_text()
    named = set(re.findall(r"`((?:core|ipc|router|worker)/[a-z_0-9]+\.(?:py|c|h))`", text))
    assert len(named) > 15
    assert [name for name in sorted(named) if not (ROOT / "bridge" / name).is_file()] == []


def missing(tests: list[str]) -> list[str]:
    """Those that do not exist: a program, a figure, or a function `path::name`."""
    wrong = []
    for name in tests:
        path, _, function = name.partition("::")
        file = ROOT / path
        if not file.is_file():
            wrong.append(name)
        elif function:
            wrong += [] if f"def {function}(" in file.read_text() else [name]
        elif file.suffix != ".c" and file.parent.name != "figures":
            wrong.append(name)
    return wrong


def test_every_mechanism_has_a_file_and_a_test() -> None:
    """What the table of mechanisms names exists: files of the package, programs and functions of the tests."""
    text = (ROOT / "bridge" / "README.md").read_text()
    rows = text.split("## Mechanisms")[1].split("\n## ")[0].splitlines()[6:]
    assert len(rows) > 20
    wrong = []
    for row in filter(None, rows):
        _, _, files, tests, _ = row.split("|")
        named = re.findall(r"`([^`]+)`", files), re.findall(r"`([^`]+)`", tests)
        assert all(named), row
        wrong += [name for name in named[0] if not (ROOT / "bridge" / name).is_file()]
        wrong += missing(named[1])
    assert wrong == []


def test_every_invariant_has_a_test() -> None:
    """The list of invariants is complete, and what it names exists."""
    text = (ROOT / "tests" / "README.md").read_text()
    rows = re.findall(r"^\| (\d+) \|.*\|(.*)\|$", text.split("## Invariants")[1].split("\n## ")[0], re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 15))
    named = [re.findall(r"`([^`]+)`", tests) for _, tests in rows]
    assert all(named)
    assert [name for names in named for name in missing(names)] == []


def test_defaults_in_the_table_of_limits() -> None:
    """The README's defaults are those of the settings."""
    text = (ROOT / "README.md").read_text()
    for group, settings in (("http", Http()), ("memory", Memory())):
        for name, shown in re.findall(rf"`{group}\.([a-z_]+)` \| ([0-9]+) \|", text):
            assert float(shown) == getattr(settings, name), name
