"""Structures in shared memory, for Python: queues of messages, tracking words, maps of chunks.

Every object here is one thread's private handle on memory that it is given and keeps alive; the same memory
may be mapped by other processes, and stand behind other handles of this one. The core knows no file, no process and
no clock: whoever maps the memory also rings, waits and notices deaths.

Outcomes are values (`FULL`, `NONE`, `CANCELLED`, `LOST`), so the hot path raises nothing; faults are exceptions:
`RemoteProtocolError` when the memory holds what no honest process writes (or is of another version when it is joined),
`ValueError` when the caller is wrong (about a geometry, an owner, memory that is too small, a message too long).

Others import from here alone. Nothing of cffi's leaves the package, except the buffers that `view` makes.
"""

from __future__ import annotations

from bridge.core.binding import view
from bridge.core.chunk_map import ChunkMap
from bridge.core.draft import Draft
from bridge.core.interface import BATCH, BATON, CANCELLED, COUNT, FULL, LOST, NONE, RING, STARVED
from bridge.core.queue import Queue, answer, answer_joined, next_request, publish
from bridge.core.tracking import Tracking

__all__ = ["BATCH", "BATON", "CANCELLED", "COUNT", "FULL", "LOST", "NONE", "RING", "STARVED"]
__all__ += ["ChunkMap", "Draft", "Queue", "Tracking", "answer", "answer_joined", "next_request", "publish", "view"]
