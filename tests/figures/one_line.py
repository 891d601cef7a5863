"""PURE. What would become of requests in one line for all workers, whoever comes first: the best that order can do."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush, heapreplace


def one_line(clients: Sequence[Sequence[tuple[float, float]]], workers: int) -> list[list[float]]:
    """Seconds from sending to the end of each request, client by client.

    Args:
        clients: of each its requests: when it is due and how long it takes, in seconds. A client sends when a request
            is due, or when the one before has ended.
        workers: each runs one request at a time, and needs no time in between.
    """
    found: list[list[float]] = [[] for _ in clients]
    free = [0.0] * workers
    coming = [(requests[0][0], number) for number, requests in enumerate(clients) if requests]
    heapify(coming)
    while coming:
        sent, number = heappop(coming)
        mine = clients[number]
        end = max(sent, free[0]) + mine[len(found[number])][1]
        heapreplace(free, end)
        found[number].append(end - sent)
        if len(found[number]) < len(mine):
            heappush(coming, (max(mine[len(found[number])][0], end), number))
    return found
