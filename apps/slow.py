"""Work that ends when nobody waits for it any more, and a count of what that has saved.

    bridged run --app-dir apps slow:app         then open http://127.0.0.1:8000

A request for work takes 100 steps of 50 ms. They are waited for, as one waits for a database; a step could as well
compute. The counts are those of one process: with `--workers 2` each worker has its own.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass

from page import Receive, Scope, Send, answer, answer_json, below, lifespan, missing, page

STEPS = 100  #: of each request
STEP = 0.05  #: seconds

LEAD = "Ask for five seconds of work, four times, then change your mind. What nobody waits for is not done."
BODY = """
<div class="row"><button id="go">Ask four times</button><button id="stop" class="plain" disabled>Give up</button>
<span id="state"></span></div>
<div class="cards">
<div class="card"><p>requests that run</p><div class="number" id="running">…</div></div>
<div class="card"><p>finished</p><div class="number" id="finished">…</div></div>
<div class="card"><p>given up</p><div class="number" id="given_up">…</div></div>
<div class="card"><p>steps done</p><div class="number" id="done">…</div></div>
<div class="card"><p>steps saved</p><div class="number good" id="saved">…</div></div>
</div>
<p>The same from a terminal, where Ctrl-C gives up: <code>curl <span id="url"></span></code></p>
<script>
const root = document.body.dataset.root, $ = id => document.getElementById(id);
$("url").textContent = location.origin + root + "/work";
let wait = null;
async function look() {
  const now = await (await fetch(root + "/now")).json();
  for (const name in now) if ($(name)) $(name).textContent = now[name];
}
$("go").onclick = async () => {
  wait = new AbortController();
  $("go").disabled = true; $("stop").disabled = false; $("state").textContent = "waiting …";
  const how = {signal: wait.signal, cache: "no-store"};  // else the browser asks for the same address one by one
  const all = await Promise.allSettled([1, 2, 3, 4].map(() => fetch(root + "/work", how)));
  const done = all.filter(one => one.status == "fulfilled").length;
  $("state").textContent = done == 4 ? "All four were answered." : "Given up: " + (4 - done) + " of 4.";
  $("go").disabled = false; $("stop").disabled = true;
};
$("stop").onclick = () => wait.abort();
setInterval(() => look().catch(() => {}), 300); look();
</script>
"""


@dataclass
class Counts:
    """What this worker has done and not done."""

    running: int = 0
    finished: int = 0
    given_up: int = 0
    done: int = 0
    saved: int = 0


counts = Counts()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Hand each request to the function for its path."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "http":
        match below(scope):
            case "/":
                await answer(send, page("Cancel", LEAD, BODY, scope.get("root_path", "")))
            case "/now":
                await answer_json(send, asdict(counts))
            case "/work":
                await work(receive, send)
            case _:
                await missing(scope, send)


async def work(receive: Receive, send: Send) -> None:
    """Go through the steps beside `receive()`, which ends when the client leaves."""
    counts.running += 1
    steps, gone = asyncio.create_task(go_through()), asyncio.create_task(until_gone(receive))
    try:
        await asyncio.wait({steps, gone}, return_when=asyncio.FIRST_COMPLETED)
        if steps.done():
            counts.finished += 1
            await answer(send, f"{STEPS} steps done.\n", "text/plain; charset=utf-8")
        else:
            counts.given_up += 1
    finally:
        counts.running -= 1
        steps.cancel()
        gone.cancel()


async def go_through() -> None:
    """The work itself. Whoever cancels it saves what is left."""
    left = STEPS
    try:
        while left:
            await asyncio.sleep(STEP)
            left -= 1
            counts.done += 1
    finally:
        counts.saved += left


async def until_gone(receive: Receive) -> None:
    """Wait for the client to leave."""
    while (await receive())["type"] != "http.disconnect":
        pass
