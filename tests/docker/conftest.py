"""Without a Docker engine there is nothing to test: each test is skipped, and says why."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.docker.engine import BUILDING, ROOT, Base, base, composes, docker, lacking
from tests.docker.project import IMAGE, Project

REQUIRED = os.environ.get("BRIDGE_DOCKER") == "required"  #: `make test-docker` says so


@pytest.fixture(scope="session")
def python() -> Base:
    """The Python image to build on."""
    reason = lacking()
    if reason and REQUIRED:
        pytest.fail(reason, pytrace=False)
    if reason:
        pytest.skip(reason)
    found = base()
    assert found
    return found


def build(target: str, tag: str, python: Base) -> str:
    """An image as `docker build` makes it."""
    arguments = [f"--build-arg=PYTHON_IMAGE={python.image}", f"--build-arg=PYTHON_VERSION={python.version}"]
    where = ["--file", "docker/Dockerfile", *(["--target", target] if target else []), "--tag", tag, str(ROOT)]
    docker("build", "--quiet", *arguments, *where, patience=BUILDING)
    return tag


@pytest.fixture(scope="session")
def image(python: Base) -> str:
    """The image with the examples, as the first form of Compose builds it, else the engine's own builder."""
    if forms := composes():
        Project(next(iter(forms.values())), python).do("build", "server")
        return IMAGE
    return build("demo", IMAGE, python)


@pytest.fixture(scope="session")
def bare(python: Base) -> str:
    """The image with Bridge alone, which has no layer in common with what another builder has made."""
    if not REQUIRED:
        pytest.skip("`make test-docker` tries the image without the examples, too")
    return build("", "bridge-test/server", python)


@pytest.fixture(scope="module", params=["docker compose", "docker-compose"])
def project(request: pytest.FixtureRequest, image: str, python: Base) -> Iterator[Project]:
    """The compose file, with each form of Compose; in `make test` with one of them, for it takes a minute."""
    forms = composes()
    if request.param not in forms:
        pytest.skip(f"there is no `{request.param}` on this machine")
    if request.param != next(iter(forms)) and not REQUIRED:
        pytest.skip(f"`make test-docker` tries `{request.param}`, too")
    with Project(forms[request.param], python) as made:
        yield made
