"""Bridge: a Python application server with a router in front of its workers.

`bridge.run("module:attr")` is the command `bridged run module:attr` as a function. It is resolved when it is
asked for: a worker that imports this package must not load the supervisor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bridge.main import run

__all__ = ["__version__", "run"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "run":
        from bridge.main import run  # noqa: PLC0415 - see above

        return run
    raise AttributeError(f"module 'bridge' has no attribute {name!r}")
