"""The shortest WSGI application that is good for something: it says hello, and what it was told.

    bridged run --app-dir apps wsgi_hello --threads 4        then open http://127.0.0.1:8000

Any WSGI server runs it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer every request with a text."""
    who = os.environ.get("GREET", "world")
    lines = [
        f"Hello, {who}!",
        f"This was {environ['REQUEST_METHOD']} {environ['SCRIPT_NAME']}{environ['PATH_INFO']}",
        f"in a worker that {'has several threads' if environ['wsgi.multithread'] else 'has one thread'}.",
    ]
    body = ("\n".join(lines) + "\n").encode()
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))])
    return [body]
