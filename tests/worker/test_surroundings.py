"""What an application finds around it. Entering it changes the process, so each test has one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bridge import config
from bridge.worker.surroundings import directories

PROGRAM = """\
import json, os, sys
from bridge import config
from bridge.errors import TargetError
from bridge.worker.surroundings import enter
try:
    enter(config.Application("m", **json.loads(sys.argv[1])))
except TargetError as error:
    sys.exit(f"refused: {error}")
print(json.dumps([os.getcwd(), dict(os.environ), sys.path, sys.prefix, sys.executable]))
"""
RUNNING = f"{sys.version_info[0]}.{sys.version_info[1]}"


def enter(cwd: Path, **application: object) -> tuple[int, str]:
    """Status and text of a process in `cwd` that enters these surroundings."""
    command = [sys.executable, "-c", PROGRAM, json.dumps(application)]
    environment = dict(os.environ, PYTHONPATH=str(Path(__file__).parent.parent.parent))
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout or done.stderr


def make(home: Path, version: str = "", packages: str = RUNNING, name: str = "version") -> Path:
    """Something like a virtual environment."""
    (home / "lib" / f"python{packages}" / "site-packages").mkdir(parents=True)
    if version:
        (home / "pyvenv.cfg").write_text(f"home = /usr/bin\n{name} = {version}\n")
    return home


def test_paths_are_relative_to_the_working_directory() -> None:
    """Also before it is entered."""
    application = config.Application("m", path=(".", "lib", "/x"), working_directory="/srv")
    assert directories(application) == ["/srv/.", "/srv/lib", "/x"]


def test_directory_and_environment(tmp_path: Path) -> None:
    """Both are there; `home` is relative to where Bridge was started, not to the working directory."""
    make(tmp_path / "home", f"{RUNNING}.1")
    (tmp_path / "inside").mkdir()
    status, text = enter(tmp_path, working_directory="inside", home="home", environment={"A": "b"})
    assert status == 0, text
    cwd, environment, path, prefix, _ = json.loads(text)
    assert (cwd, environment["A"]) == (str(tmp_path / "inside"), "b")
    assert prefix == environment["VIRTUAL_ENV"] == str(tmp_path / "home")
    assert environment["PATH"].startswith(f"{tmp_path}/home/bin{os.pathsep}")
    assert path[0] == f"{tmp_path}/home/lib/python{RUNNING}/site-packages"


@pytest.mark.parametrize(
    ("version", "name"), [(f"{RUNNING}.9", "version"), (f"{RUNNING}.9.final.0", "version_info"), ("", "")]
)
def test_ways_to_say_the_version(tmp_path: Path, version: str, name: str) -> None:
    """The standard library's file, that of others, and the directories alone are understood."""
    make(tmp_path / "home", version, name=name)
    assert enter(tmp_path, home="home")[0] == 0


def test_wrong_version(tmp_path: Path) -> None:
    """Both versions are named, whether a file or the directories say it."""
    make(tmp_path / "a", "3.2.1")
    make(tmp_path / "b", packages="3.2")
    for name in ("a", "b"):
        status, text = enter(tmp_path, home=name)
        assert status == 1
        assert f"is of Python 3.2, and this is Python {RUNNING}" in text
        assert text.count("\n") == 1


@pytest.mark.parametrize(
    ("application", "words"),
    [
        ({"home": "nowhere"}, "nowhere does not exist"),
        ({"home": "."}, "is no virtual environment of Python"),
        ({"working_directory": "nowhere"}, "cannot enter the working directory nowhere: No such file or directory"),
    ],
)
def test_missing_directories(tmp_path: Path, application: dict[str, str], words: str) -> None:
    """What is missing is named in one line."""
    status, text = enter(tmp_path, **application)
    assert (status, text.count("\n")) == (1, 1)
    assert words in text
