"""Bridge: a Python application server with a router in front of its workers.

`bridge.run("module:attr")` is the command `bridged run module:attr` as a function, and `bridge.mount({...})` makes one
ASGI callable of several applications. They are resolved when they are asked for: a worker that imports this package
must not load the supervisor, and Starlette only where something is mounted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bridge.main import run
    from bridge.worker.mount import mount

__all__ = ["__version__", "mount", "run"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "run":
        from bridge.main import run  # noqa: PLC0415 - see above

        return run
    if name == "mount":
        from bridge.worker.mount import mount  # noqa: PLC0415 - see above

        return mount
    raise AttributeError(f"module 'bridge' has no attribute {name!r}")
