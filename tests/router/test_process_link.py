"""The router's link to main: one that is full is no reason to end."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from bridge.errors import LinkFull
from bridge.ipc.link import Link
from bridge.router import process
from tests.router.rig import run, until


def test_main_that_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """What main cannot take now it is told later, and the router lives on."""

    async def test() -> None:
        monkeypatch.setattr(process, "RETRY", 0.01)
        ours, main = Link.pair()
        router = process.Router(ours)
        running = asyncio.get_running_loop().create_task(router.run())
        with contextlib.suppress(LinkFull):
            while True:
                ours.send({"type": "attached", "worker": 7})
        router._on_cut(7, "a test says so")
        await asyncio.sleep(0.03)
        assert not running.done()
        heard = []

        def found() -> bool:
            while received := main.receive():
                heard.append(received[0]["type"])
            return "cut" in heard

        await until(found)
        main.close()
        await running
        router.close()

    run(test())
