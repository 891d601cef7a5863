"""`wsgi.errors`: the application's lines for the operator, unchanged, to standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable


class WsgiErrors:
    """Writes to whatever `sys.stderr` is at that moment, and never fails an application that complains."""

    def write(self, text: str) -> int:
        """Write text; a line is out when its end was written."""
        if not isinstance(text, str):
            raise TypeError(f"wsgi.errors takes str, not {type(text).__name__}")
        try:
            sys.stderr.write(text)
        except (OSError, ValueError, AttributeError):
            pass  # standard error is closed or full: a server does not end for want of a log
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several pieces of text."""
        self.write("".join(lines))

    def flush(self) -> None:
        """What was written of a line that has not ended goes out."""
        try:
            sys.stderr.flush()
        except (OSError, ValueError, AttributeError):
            pass  # as above
