"""A Flask application: routes, JSON, forms and files, streams, errors."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from flask import Flask, request, send_file, stream_with_context, url_for

app = Flask(__name__)


@app.route("/item/<int:number>", methods=["GET", "POST"])
def item(number: int) -> dict[str, Any]:
    """A path parameter, the query, and a body of JSON."""
    where = url_for("item", number=number, _external=True)
    return {"number": number, "query": request.args, "body": request.get_json(silent=True), "url": where}


@app.post("/form")
def form() -> dict[str, Any]:
    """Fields and files of a form."""
    files = {}
    for name, file in request.files.items():
        content = file.read()
        files[name] = [file.filename, len(content), hashlib.sha256(content).hexdigest()]
    return {"fields": request.form, "files": files}


@app.post("/upper")
def upper() -> Any:
    """A body that is answered piece by piece."""
    return stream_with_context(line.upper() for line in request.stream)


@app.route("/file")
def file() -> Any:
    """A file that the test has laid beside its gates."""
    return send_file(Path(os.environ["GATES"], "file"), mimetype="text/plain", conditional=True)


@app.route("/broken")
def broken() -> Any:
    """An exception, which Flask answers and logs."""
    raise ZeroDivisionError("in the view")
