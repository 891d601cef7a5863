"""Where modules are looked for in a master that USR2 has started.

One that was `python -m gunicorn` is run again as a script that lies inside gunicorn's package, whose directory so comes
onto the path: `import http` or `import config` would find gunicorn's modules, here and in the application.
"""

from __future__ import annotations

import sys
from pathlib import Path

import gunicorn


def mend() -> None:
    """Take gunicorn's own directory off the path."""
    own = str(Path(gunicorn.__file__).parent)
    sys.path[:] = [entry for entry in sys.path if entry != own]
