"""What an application finds around it before its first line runs: environment, working directory, virtual environment.

Entered in each worker: the prototype loads nothing of the application, and what goes wrong here is reported as a failed
start. Bridge has imported all of its own modules before, so a virtual environment changes what the application gets,
and nothing of Bridge.
"""

from __future__ import annotations

import os
import site
import sys
from pathlib import Path

from bridge import config
from bridge.errors import TargetError

_RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"


def directories(application: config.Application) -> list[str]:
    """The application's `path`, absolute."""
    start = os.path.abspath(application.working_directory or ".")
    return [os.path.join(start, each) for each in application.path]


def enter(application: config.Application) -> None:
    """Prepare this process for an application that is about to be imported.

    Raises:
        TargetError: a directory is missing, or `home` is no virtual environment of this Python version.
    """
    os.environ.update(application.environment)
    # Before the working directory is another one: a relative name is meant as the operator sees it.
    home = Path(application.home).absolute() if application.home else None
    if application.working_directory:
        try:
            os.chdir(application.working_directory)
        except OSError as error:
            line = f"cannot enter the working directory {application.working_directory}: {error.strerror}"
            raise TargetError(line) from None
    if home:
        _activate(home)


def _activate(home: Path) -> None:
    packages = _site_packages(home)
    known = set(sys.path)
    site.addsitedir(str(packages))  # .pth files too: editable installations are made of them
    new = [path for path in sys.path if path not in known]
    sys.path[:] = [*new, *(path for path in sys.path if path in known)]
    sys.prefix = sys.exec_prefix = str(home)
    interpreter = home / "bin" / "python"
    if interpreter.exists():
        sys.executable = str(interpreter)
    os.environ["VIRTUAL_ENV"] = str(home)
    os.environ["PATH"] = os.pathsep.join([str(home / "bin"), os.environ.get("PATH", os.defpath)])
    os.environ.pop("PYTHONHOME", None)


def _site_packages(home: Path) -> Path:
    if not home.is_dir():
        raise TargetError(f"the virtual environment {home} does not exist")
    theirs = _version(home)
    if theirs and theirs != _RUNNING:
        raise TargetError(
            f"the virtual environment {home} is of Python {theirs}, and this is Python {_RUNNING}:"
            f" make another one with {_RUNNING}, or run Bridge with {theirs}"
        )
    packages = home / "lib" / f"python{_RUNNING}" / "site-packages"
    if not theirs or not packages.is_dir():
        raise TargetError(f"{home} is no virtual environment of Python {_RUNNING}: there is no {packages}")
    return packages


def _version(home: Path) -> str:
    """Which Python a virtual environment is of, by its own account or by its directories; empty if it is none."""
    try:
        lines = (home / "pyvenv.cfg").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = (part.strip() for part in line.partition("="))
        if name in ("version", "version_info"):
            return ".".join(value.split(".")[:2])
    found = [path.parent.name.removeprefix("python") for path in sorted(home.glob("lib/python3.*/site-packages"))]
    return _RUNNING if _RUNNING in found else next(iter(found), "")
