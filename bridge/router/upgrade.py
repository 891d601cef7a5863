"""PURE. Whether a request for a WebSocket is one that may be granted (RFC 6455, section 4.2.1).

That it is a request for one is for `framing` to say: a GET on HTTP/1.1, without a body, whose Connection and Upgrade
fields ask for it. All the rest of the handshake is the worker's, which makes the answer out of the key.
"""

from __future__ import annotations

import re

_find_fields = re.compile(rb"\nsec-websocket-(key|version):[ \t]*([^\r]*?)[ \t]*\r", re.IGNORECASE).findall
_match_key = re.compile(rb"[A-Za-z0-9+/]{22}==").fullmatch  # 16 bytes


def refusal(head: bytes) -> int:
    """The status with which the router refuses; 0 = the request may go to a worker.

    Args:
        head: as `framing.judge` gets it, which has passed it.
    """
    fields = _find_fields(head)
    versions = [value for name, value in fields if len(name) == len("version")]
    keys = [value for name, value in fields if len(name) == len("key")]
    if versions != [b"13"]:
        return 426
    return 0 if len(keys) == 1 and _match_key(keys[0]) else 400
