"""Server-sent events, and an application that knows at once when somebody has left.

    bridged run --app-dir apps events:app       then open http://127.0.0.1:8000, in two tabs, and close one of them

Those who listen are counted in one process: with `--workers 2` each worker has its own.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field

from page import Receive, Scope, Send, answer, below, lifespan, missing, page

LEAD = "Each open tab is a listener. Open this page a second time, close it, and see the number fall here."
BODY = """
<div class="cards">
<div class="card"><p>listeners now</p><div class="number good" id="here">…</div></div>
<div class="card"><p>listeners that have left</p><div class="number" id="left">…</div></div>
<div class="card"><p>events that you have got</p><div class="number" id="got">0</div></div>
</div>
<div class="row"><button id="leave">Leave</button><button id="more" class="plain">Add three listeners</button></div>
<pre id="log"></pre>
<footer>A browser opens six connections to one address at most: with more listeners its other tabs wait.</footer>
<script>
const root = document.body.dataset.root, $ = id => document.getElementById(id);
let sources = [], got = 0;
function note(text) {
  $("log").textContent = new Date().toLocaleTimeString() + "  " + text + "\\n" + $("log").textContent;
}
function listen(shown) {
  const source = new EventSource(root + "/stream");
  sources.push(source);
  source.onerror = () => note("connection lost; the browser tries again by itself");
  if (!shown) return;
  source.onmessage = event => {
    const now = JSON.parse(event.data);
    $("here").textContent = now.here; $("left").textContent = now.left; $("got").textContent = ++got;
    if (now.what) note(now.what);
  };
}
$("leave").onclick = () => {
  if (sources.length) {
    sources.forEach(source => source.close()); sources = [];
    $("leave").textContent = "Come back"; $("more").disabled = true;
    note("this page listens no more; another one sees it");
  } else { listen(true); $("leave").textContent = "Leave"; $("more").disabled = false; }
};
$("more").onclick = () => { for (let i = 0; i < 3; i++) listen(false); $("more").disabled = true; };
listen(true);
</script>
"""
INTERVAL = 1.0  #: seconds between two events when nobody comes or leaves


@dataclass
class Audience:
    """Who listens to this worker, and what is news to all of them."""

    here: int = 0
    left: int = 0
    what: str = ""  #: the last thing that happened
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, what: str) -> None:
        """Wake everybody: each waits on the event of the last news."""
        self.what = what
        self.news.set()
        self.news = asyncio.Event()


audience = Audience()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Hand each request to the function for its path."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "http":
        match below(scope):
            case "/":
                await answer(send, page("Events", LEAD, BODY, scope.get("root_path", "")))
            case "/stream":
                await stream(receive, send)
            case _:
                await missing(scope, send)


async def stream(receive: Receive, send: Send) -> None:
    """Events until the client leaves: then `receive()` says so, whatever this waits for."""
    came = time.monotonic()
    fields = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
    gone = asyncio.create_task(until_gone(receive))
    audience.here += 1
    audience.tell("somebody has come")
    try:
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        what = ""
        while not gone.done():
            news = audience.news
            text = json.dumps({"here": audience.here, "left": audience.left, "what": what})
            await send({"type": "http.response.body", "body": f"data: {text}\n\n".encode(), "more_body": True})
            told = asyncio.create_task(news.wait())
            await asyncio.wait({gone, told}, timeout=INTERVAL, return_when=asyncio.FIRST_COMPLETED)
            what = audience.what if told.done() else ""
            told.cancel()
    except OSError:
        pass  # send() says it this way when it is the first to notice
    finally:
        gone.cancel()
        audience.here -= 1
        audience.left += 1
        audience.tell(f"somebody has left, after {time.monotonic() - came:.1f} s")


async def until_gone(receive: Receive) -> None:
    """Wait for the client to leave."""
    while (await receive())["type"] != "http.disconnect":
        pass
