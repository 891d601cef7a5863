"""Reads a large body while it arrives, and shows that the memory of the worker stays flat.

    bridged run --app-dir apps upload:app                         then open http://127.0.0.1:8000
    head -c 1G /dev/zero | curl -T - http://127.0.0.1:8000/file     the same from a terminal

Nothing is kept: each piece is counted, put into a checksum, and forgotten.
"""

from __future__ import annotations

import hashlib
import os
import time

from page import Receive, Scope, Send, answer, answer_json, below, lifespan, missing, page

PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")
SAMPLE = 1 << 20  #: bytes of a body between two looks at the memory

LEAD = "A body is read while it arrives. The curve is the memory of the worker that reads it."
BODY = """
<div class="row"><input type="file" id="file"><button id="send">Send this file</button>
<button id="make" class="plain">Send 200 MB made up here</button>
<button id="stop" class="plain" disabled>Stop</button></div>
<progress id="bar" max="1" value="0"></progress>
<div class="cards" style="margin-top:1rem">
<div class="card"><p>sent by the browser</p><div class="number" id="sent">…</div></div>
<div class="card"><p>read by the application</p><div class="number" id="read">…</div></div>
<div class="card"><p>memory of the worker</p><div class="number" id="memory">…</div></div>
</div>
<svg id="chart" viewBox="0 0 600 130" width="100%" role="img" aria-label="memory over time" style="margin-top:1rem">
<line x1="0" x2="600" y1="110" y2="110" stroke="currentColor" opacity=".25"/>
<polyline id="body" fill="none" stroke="var(--good)" stroke-width="2" opacity=".6"/>
<polyline id="rss" fill="none" stroke="var(--accent)" stroke-width="2.5"/>
<text x="4" y="126" font-size="11" fill="currentColor" opacity=".7">
blue: memory of the worker · green: what it has read of the body · both to the same scale</text></svg>
<pre id="answer">Nothing sent yet.</pre>
<script>
const root = document.body.dataset.root, $ = id => document.getElementById(id);
const mb = bytes => (bytes / 1e6).toFixed(1) + " MB";
let request = null, points = [], began = 0;
function draw() {
  const most = Math.max(...points.map(p => Math.max(p.memory, p.read)), 1);
  const line = name => points.map((p, i) =>
    (600 * i / Math.max(points.length - 1, 1)).toFixed(1) + "," + (110 - 105 * p[name] / most).toFixed(1)).join(" ");
  $("rss").setAttribute("points", line("memory")); $("body").setAttribute("points", line("read"));
}
async function look() {
  const now = await (await fetch(root + "/now")).json();
  points.push({memory: now.memory, read: now.read - began});
  $("memory").textContent = mb(now.memory); $("read").textContent = mb(now.read - began); draw();
}
async function send(what) {
  began = (await (await fetch(root + "/now")).json()).read; points = [];
  request = new XMLHttpRequest();
  request.open("PUT", root + "/file");
  request.upload.onprogress = event => {
    $("bar").value = event.loaded / event.total; $("sent").textContent = mb(event.loaded);
  };
  request.onload = () => over(request.responseText); request.onerror = () => over("The connection was lost.");
  request.onabort = () => over("Stopped. The application has been told: its read ended with a disconnect.");
  $("send").disabled = $("make").disabled = true; $("stop").disabled = false; $("answer").textContent = "…";
  request.timer = setInterval(() => look().catch(() => {}), 200);
  request.send(what);
}
function over(text) {
  clearInterval(request.timer); $("answer").textContent = text; look().catch(() => {});
  $("send").disabled = $("make").disabled = false; $("stop").disabled = true;
}
$("send").onclick = () => $("file").files[0] ? send($("file").files[0]) : $("file").click();
$("make").onclick = () => send(new Blob(Array(200).fill(new Uint8Array(1e6))));
$("stop").onclick = () => request.abort();
look();
</script>
"""

total = 0  #: bytes of all bodies that this worker has read


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Hand each request to the function for its path."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "http":
        match below(scope):
            case "/":
                await answer(send, page("Upload", LEAD, BODY, scope.get("root_path", "")))
            case "/now":
                await answer_json(send, {"read": total, "memory": memory()})
            case "/file" if scope["method"] in ("PUT", "POST"):
                await take(receive, send)
            case _:
                await missing(scope, send)


async def take(receive: Receive, send: Send) -> None:
    """Read the body piece by piece, and say what it was."""
    global total  # noqa: PLW0603 - one worker has one number
    began, size, digest = time.monotonic(), 0, hashlib.sha256()
    low = high = memory()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            print(f"upload: the client left after {size} bytes", flush=True)
            return
        piece, more = message.get("body", b""), message.get("more_body", False)
        if size // SAMPLE != (size + len(piece)) // SAMPLE:
            high = max(high, memory())
        size += len(piece)
        total += len(piece)
        digest.update(piece)
    result = {
        "bytes": size,
        "sha256": digest.hexdigest(),
        "seconds": round(time.monotonic() - began, 3),
        "memory_at_the_beginning": low,
        "memory_at_most": high,
    }
    await answer_json(send, result)


def memory() -> int:
    """Bytes that this process has in memory and shares with no other: bodies on their way lie in shared memory."""
    with open("/proc/self/statm", encoding="ascii") as file:
        _, resident, shared, *_ = file.read().split()
    return (int(resident) - int(shared)) * PAGE_SIZE
