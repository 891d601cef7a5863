"""A Flask application.

    bridged run --app-dir apps flask_site:app --threads 4       then open http://127.0.0.1:8000

The form on its page sends a file, and the answer is its checksum.
"""

from __future__ import annotations

import hashlib
import threading
from typing import Any

from flask import Flask, request, url_for
from markupsafe import escape

from page import page

app = Flask(__name__)

BODY = """
<form method="post" enctype="multipart/form-data" action="{action}" class="row"><input type="file" name="file" required>
<button>Checksum</button></form>
<p>This was thread <code>{thread}</code> of its worker. The body of a form is collected by the router, so a slow client
holds none of them.</p>
<footer>This form's address comes from <code>url_for()</code>: <code>{action}</code></footer>
"""


@app.get("/")
def index() -> str:
    """The form."""
    body = BODY.format(action=url_for("checksum"), thread=escape(threading.current_thread().name))
    return page("Flask", "WSGI, on threads, beside applications on event loops.", body, request.root_path)


@app.post("/checksum")
def checksum() -> Any:
    """SHA-256 of a file, read in pieces."""
    file = request.files["file"]
    digest = hashlib.file_digest(file.stream, "sha256").hexdigest()  # type: ignore[arg-type]
    return {"name": file.filename, "sha256": digest}


@app.get("/hello/<name>")
def hello(name: str) -> dict[str, str]:
    """A parameter from the path, and the address of this view."""
    return {"hello": name, "url": url_for("hello", name=name)}
