"""The example apps/chat.py: rooms, who is in them, and what becomes of those who leave or read too slowly."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.server import Server
from tests.end_to_end.websocket.client import Client, connect
from tests.end_to_end.websocket.frames import text

ROOT = Path(__file__).parent.parent.parent.parent


@pytest.fixture
def chat() -> Iterator[Server]:
    """The example as its first lines say."""
    with Server("", "--app-dir", "apps", "chat:app", app_dir=None, cwd=ROOT) as server:
        yield server


def enter(server: Server, name: str, room: str) -> Client:
    """Somebody in a room, who has been told so."""
    guest = connect(server, f"/socket?name={name}&room={room}")
    assert told(guest)["text"] == f"{name} has come in"
    return guest


def told(guest: Client) -> Any:
    """The next thing that somebody is told."""
    return json.loads(guest.message())


def test_rooms(chat: Server) -> None:
    """What is said is heard by all in the room and by nobody else, and all know who is there."""
    with enter(chat, "Ann", "lobby") as ann, enter(chat, "Eve", "garden") as eve:
        with enter(chat, "Bob", "lobby") as bob:
            assert told(ann)["people"] == ["Ann", "Bob"]
            bob.send(text("Hello <b>"))
            expected = {"from": "Bob", "text": "Hello <b>", "room": "lobby", "people": ["Ann", "Bob"]}
            assert told(ann) == told(bob) == expected
            bob.leave()
        assert told(ann) == {"from": "", "text": "Bob has left", "room": "lobby", "people": ["Ann"]}
        eve.send(text("Nobody here?"))
        assert told(eve)["people"] == ["Eve"]


@pytest.mark.parametrize("path", ["/socket", "/socket?name=Ann", "/socket?name=&room=x", "/else?name=Ann&room=x"])
def test_who_says_not_enough(chat: Server, path: str) -> None:
    """Without a name, without a room, or elsewhere nobody comes in."""
    with Client(chat.address) as guest:
        assert guest.ask(path).status == 403


def test_a_room_that_is_full(chat: Server) -> None:
    """So many come in as the file says, because each is told of all of them; then others when somebody has left."""
    found = re.search(r"^MOST_GUESTS = (\d+)", (ROOT / "apps" / "chat.py").read_text(), re.MULTILINE)
    assert found
    with ExitStack() as stack, Client(chat.address) as late:
        guests = [stack.enter_context(enter(chat, f"guest-{number}", "lobby")) for number in range(int(found[1]))]
        assert late.ask("/socket?name=Ann&room=lobby").status == 403
        with enter(chat, "Ann", "garden"):
            guests.pop().leave()
            while told(guests[0])["text"] != f"guest-{len(guests)} has left":
                pass
            with enter(chat, "Ann", "lobby"):
                pass


def test_the_worker_is_replaced(chat: Server) -> None:
    """A page is told by 1012 that it may come back, and finds the room again."""
    with enter(chat, "Ann", "lobby") as ann:
        chat.main.send_signal(signal.SIGHUP)
        code, _ = ann.closing()
        assert code == 1012
    with enter(chat, "Ann", "lobby"):
        chat.log.take("reloaded\n")


def test_too_slow(chat: Server) -> None:
    """Who does not read what others say is sent away, and costs nobody else anything."""
    with enter(chat, "Ann", "lobby") as ann, Client(chat.address, receive_buffer=4096) as slow:
        slow.upgrade("/socket?name=Bob&room=lobby")
        assert told(ann)["people"] == ["Ann", "Bob"]
        long = "x" * 2000
        said: Any = {"text": ""}
        while said["text"] != "Bob has left":
            ann.send(text(long))
            said = told(ann)
        ann.send(text("over"))
        while said["text"] != "over":
            said = told(ann)
        assert said["people"] == ["Ann"]
