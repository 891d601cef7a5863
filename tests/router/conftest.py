"""What most tests of the router's side run on."""

from __future__ import annotations

import pytest

from bridge import config
from tests.router.rig import GEOMETRIES


@pytest.fixture(params=list(GEOMETRIES))
def memory(request: pytest.FixtureRequest) -> config.Memory:
    """Each test runs on the usual geometry and on the smallest."""
    return GEOMETRIES[request.param]
