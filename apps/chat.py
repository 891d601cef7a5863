"""Rooms to talk in, over WebSockets, with a page that comes back by itself when the connection is lost.

    bridged run --app-dir apps chat:app         then open http://127.0.0.1:8000 in several browsers

Rooms live in the memory of one process: with `--workers 2` people in one room might not meet. A real chat would keep
them in a database; then nothing else of this changes.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from urllib.parse import parse_qs

from page import Receive, Scope, Send, answer, below, lifespan, missing, page

LONGEST_NAME = 30  #: characters, of people and rooms
MOST_GUESTS = 100  #: in one room: each is told who is there
LONGEST_TEXT = 2000  #: characters of what is said
MOST_WAITING = 100  #: messages that wait for one slow reader; then it is sent away, and comes back

LEAD = "Open this page in another browser, or on another tab, and talk to yourself."
BODY = """
<form class="row" id="who"><input id="name" maxlength="30" placeholder="your name" required>
<select id="room"><option>lobby</option><option>kitchen</option><option>garden</option></select>
<button>Enter</button> <span id="state"></span></form>
<div class="card"><p id="people">Enter a room.</p>
<div id="talk" style="height:18rem;overflow:auto" aria-live="polite"></div></div>
<form class="row" id="say"><input id="text" maxlength="2000" placeholder="say something" autocomplete="off"
style="flex:1" disabled><button disabled id="speak">Say it</button></form>
<script>
const root = document.body.dataset.root, $ = id => document.getElementById(id);
let socket = null, pause = 500, timer = 0;
$("name").value = "guest-" + Math.floor(Math.random() * 900 + 100);
function line(from, text) {
  const row = document.createElement("div"), who = document.createElement("b");
  who.textContent = from ? from + ": " : ""; row.append(who, text);
  if (!from) row.style.opacity = .6;
  $("talk").append(row); $("talk").scrollTop = 1e9;
}
function enter() {
  clearTimeout(timer);
  if (socket) { socket.onclose = null; socket.close(); }
  const scheme = location.protocol == "https:" ? "wss://" : "ws://";
  const query = "?" + new URLSearchParams({name: $("name").value, room: $("room").value});
  socket = new WebSocket(scheme + location.host + root + "/socket" + query);
  $("state").textContent = "connecting …";
  socket.onopen = () => {
    pause = 500; $("state").textContent = "connected";
    $("text").disabled = $("speak").disabled = false; $("text").focus();
  };
  socket.onmessage = event => {
    const it = JSON.parse(event.data);
    $("people").textContent = it.people.join(", ") + (it.people.length == 1 ? " is" : " are") + " in the " + it.room;
    line(it.from, it.text);
  };
  socket.onclose = event => {
    $("text").disabled = $("speak").disabled = true;
    $("state").textContent = "connection lost (" + event.code + "), next try in " + pause / 1000 + " s";
    timer = setTimeout(enter, pause); pause = Math.min(pause * 2, 10000);
  };
}
$("who").onsubmit = event => { event.preventDefault(); $("talk").textContent = ""; enter(); };
$("say").onsubmit = event => {
  event.preventDefault();
  if (!$("text").value || socket.readyState != WebSocket.OPEN) return;
  socket.send($("text").value); $("text").value = "";
};
</script>
"""


class Guest:
    """Somebody in a room; what others say waits here until their browser has taken it."""

    def __init__(self, name: str, room: str) -> None:
        self.name = name
        self.room = room
        self.waiting: asyncio.Queue[str] = asyncio.Queue(MOST_WAITING)
        self.too_slow = asyncio.Event()

    def hear(self, message: str) -> None:
        """Take a message, or find out that too many wait."""
        try:
            self.waiting.put_nowait(message)
        except asyncio.QueueFull:
            self.too_slow.set()


rooms: defaultdict[str, set[Guest]] = defaultdict(set)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """The page, and the socket that it opens."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "websocket":
        await talk(scope, receive, send)
    elif scope["type"] == "http" and below(scope) == "/":
        await answer(send, page("Chat", LEAD, BODY, scope.get("root_path", "")))
    elif scope["type"] == "http":
        await missing(scope, send)


async def talk(scope: Scope, receive: Receive, send: Send) -> None:
    """One visit of a room, from the connection to its end."""
    asked = parse_qs(scope["query_string"].decode("latin-1"))
    name, room = (asked.get(what, [""])[0].strip() for what in ("name", "room"))
    await receive()  # websocket.connect
    if below(scope) != "/socket" or not (0 < len(name) <= LONGEST_NAME and 0 < len(room) <= LONGEST_NAME):
        await send({"type": "websocket.close"})  # before the accept: a 403
        return
    if room in rooms and len(rooms[room]) >= MOST_GUESTS:
        await send({"type": "websocket.close"})  # the page tries again, and waits longer each time
        return
    await send({"type": "websocket.accept"})
    guest = Guest(name, room)
    rooms[room].add(guest)
    tell(room, "", f"{name} has come in")
    parts = {
        asyncio.create_task(part) for part in (listen(guest, receive), deliver(guest, send), guest.too_slow.wait())
    }
    try:
        await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        if guest.too_slow.is_set():
            await send({"type": "websocket.close", "code": 1013, "reason": "you read too slowly"})
    except OSError:
        pass  # left meanwhile
    finally:
        for part in parts:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)
        rooms[room].discard(guest)
        if rooms[room]:
            tell(room, "", f"{name} has left")
        else:
            del rooms[room]


async def listen(guest: Guest, receive: Receive) -> None:
    """Pass on what the guest says, until it leaves."""
    while (message := await receive())["type"] != "websocket.disconnect":
        if text := (message.get("text") or "").strip()[:LONGEST_TEXT]:
            tell(guest.room, guest.name, text)


async def deliver(guest: Guest, send: Send) -> None:
    """Send what waits, as fast as the browser takes it."""
    while True:
        await send({"type": "websocket.send", "text": await guest.waiting.get()})


def tell(room: str, name: str, text: str) -> None:
    """Say something to everybody in a room; with it goes who is there."""
    people = sorted(guest.name for guest in rooms[room])
    message = json.dumps({"from": name, "text": text, "room": room, "people": people})
    for guest in rooms[room]:
        guest.hear(message)
