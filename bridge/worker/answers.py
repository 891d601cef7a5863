"""PURE. The answers that a worker gives in the place of an application that has none."""

from __future__ import annotations

_PLAIN = b"content-type: text/plain; charset=utf-8\r\n"
_BODIES = {403: b"Forbidden", 500: b"Internal Server Error", 503: b"Service Unavailable"}


def own_answer(status: int, head_request: bool) -> tuple[int, bytes, int, int, bytes, bool]:
    """What a stream's respond() takes for a whole answer of 403, 500 or 503."""
    body = _BODIES[status]
    return status, _PLAIN, len(body), 0, b"" if head_request else body, True
