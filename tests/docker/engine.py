"""The Docker engine of this machine, if there is one, and the base images that the tests may build on.

Nothing here starts an engine: it needs root, writes firewall rules and network interfaces for the whole machine, and
stays. That is for whoever owns the machine to decide. The tests name everything that they make `bridge-test`, remove
their containers and networks, and keep images: the next run builds from their layers.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
COMPOSE_FILE = ROOT / "docker" / "compose.yaml"
OLDEST, NEWEST = 11, 13  #: minor versions of Python that a base image may have
STAND_IN = "bridge-test/python"  #: what `stand_ins.py` makes, as is:
NGINX_STAND_IN = "bridge-test/nginx:stable"
BUILDING = 900.0  #: seconds for a build from nothing
PATIENCE = 60.0  #: seconds for anything else


class Base(NamedTuple):
    """A Python image to build on: `image:version-slim-bookworm`."""

    image: str
    version: str


def run(command: Sequence[str], *, patience: float = PATIENCE, environment: Mapping[str, str] | None = None) -> str:
    """What a command writes to standard output.

    Raises:
        AssertionError: it failed; with what it wrote to standard error.
    """
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=patience,
        env=dict(os.environ, **(environment or {})),
        cwd=ROOT,
    )
    assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def docker(*arguments: str, patience: float = PATIENCE) -> str:
    """What `docker …` writes, without the end of its last line."""
    return run(["docker", *arguments], patience=patience).rstrip("\n")


def logs(container: str) -> str:
    """What a container has written: to standard error Bridge's log, to standard output the access log."""
    done = subprocess.run(["docker", "logs", container], capture_output=True, text=True, check=True, timeout=PATIENCE)
    return done.stdout + done.stderr


def works(*command: str) -> bool:
    """Whether a command is there and succeeds."""
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def has(image: str) -> bool:
    """Whether the engine has this image."""
    return works("docker", "image", "inspect", image)


@functools.cache
def base() -> Base | None:
    """The newest official image that is here already, else the stand-in, else none. Nothing is pulled."""
    for image in ("python", STAND_IN):
        tags = docker("image", "ls", image, "--format", "{{.Tag}}").splitlines()
        versions = {int(found[1]) for tag in tags if (found := re.fullmatch(r"3\.(\d+)-slim-bookworm", tag))}
        if usable := [version for version in versions if OLDEST <= version <= NEWEST]:
            return Base(image, f"3.{max(usable)}")
    return None


def nginx() -> str:
    """The nginx image that is here; empty if there is none."""
    return next((image for image in ("nginx:stable", NGINX_STAND_IN) if has(image)), "")


def composes() -> dict[str, list[str]]:
    """The forms of Compose that are installed: name → command."""
    forms = {"docker compose": ["docker", "compose"], "docker-compose": ["docker-compose"]}
    return {name: command for name, command in forms.items() if works(*command, "version")}


@functools.cache
def lacking() -> str:
    """Why nothing can be tested here, as one sentence; empty if it can."""
    if not shutil.which("docker"):
        return "there is no docker command on this machine"
    if not works("docker", "version"):
        return "no Docker engine answers here, and the tests start none: it changes the network of the whole machine"
    if not base():
        return f"neither python:3.{OLDEST}…{NEWEST}-slim-bookworm nor a stand-in is here: `make test-docker` gets one"
    return ""
