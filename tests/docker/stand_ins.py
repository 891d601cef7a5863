"""`python -m tests.docker.stand_ins`: the base images for the tests, pulled, or made where nothing can be pulled.

A stand-in is this machine's own Debian: debootstrap's smallest system with Python and a compiler, which carries pip's
configuration and the certificates from here, so that builds reach the same package index as this machine does.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.docker.engine import BUILDING, NGINX_STAND_IN, STAND_IN, base, has, nginx, run, works

SUITE = "bookworm"
OFFICIAL = "python:3.13-slim-bookworm"
TAG = f"{STAND_IN}:3.11-slim-{SUITE}"  # of Debian 12
PACKAGES = "ca-certificates,gcc,libc6-dev,python3,python3-dev,python3-venv"
CERTIFICATES = Path("etc/ssl/certs/ca-certificates.crt")
NGINX = f"""\
FROM {TAG}
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends nginx-light
CMD ["nginx", "-g", "daemon off;"]
"""


def carry_configuration(root: Path) -> list[str]:
    """Give the system in `root` this machine's certificates and pip's configuration; ENV lines for its image."""
    if (Path("/") / CERTIFICATES).is_file():
        shutil.copyfile(Path("/") / CERTIFICATES, root / CERTIFICATES)
    if Path("/etc/pip.conf").is_file():
        shutil.copyfile("/etc/pip.conf", root / "etc/pip.conf")
    names = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "http_proxy", "https_proxy", "no_proxy")
    return [f"ENV {name}={os.environ[name]}" for name in names if os.environ.get(name)]


def pulled(image: str) -> bool:
    """Whether the image could be had from where images come from."""
    try:
        run(["docker", "pull", "--quiet", image], patience=BUILDING)
    except (AssertionError, subprocess.TimeoutExpired):
        return False
    return True


def make_python() -> None:
    """The stand-in for the Python image; needs root and debootstrap."""
    with tempfile.TemporaryDirectory(prefix="bridge-test-", dir="/var/tmp") as place:
        root = Path(place, "root")
        run(["nice", "debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root)], patience=BUILDING)
        changes = [argument for line in carry_configuration(root) for argument in ("--change", line)]
        for leftover in (root / "var/cache/apt/archives").glob("*.deb"):
            leftover.unlink()
        archive = Path(place, "root.tar")
        run(["nice", "tar", "-C", str(root), "-cf", str(archive), "."], patience=BUILDING)
        run(["docker", "import", *changes, str(archive), TAG], patience=BUILDING)


def make_nginx() -> None:
    """The stand-in for nginx's image, from the other one."""
    with tempfile.TemporaryDirectory(prefix="bridge-test-") as place:
        Path(place, "Dockerfile").write_text(NGINX)
        run(["docker", "build", "--tag", NGINX_STAND_IN, place], patience=BUILDING)


def main() -> int:
    """Get what is not there; exit status."""
    if not works("docker", "version"):
        print("no Docker engine answers here; start one first (as root: dockerd)", file=sys.stderr)
        return 1
    try:
        if not base() and not pulled(OFFICIAL):
            print("making a stand-in for the Python image; that takes some minutes", flush=True)
            make_python()
            base.cache_clear()
        if not nginx() and not pulled("nginx:stable"):
            if not has(TAG):
                make_python()
            make_nginx()
    except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
        print(f"no base image can be had here: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
