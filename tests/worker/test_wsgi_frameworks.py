"""WSGI applications of real frameworks, unmodified, and the standard library's validator, over a fake stream."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import flask
import pytest
from django.core.files.uploadedfile import UploadedFile
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

from bridge.ipc.message import UNKNOWN
from bridge.worker.types import Environ, WsgiTarget
from tests.worker.django_project import django_project
from tests.worker.fake_sync_stream import FakeSyncStream
from tests.worker.one_wsgi_request import HEAD, Start, fails, serve

BOUNDARY = "cut-here"
FORM = (
    b'--cut-here\r\nContent-Disposition: form-data; name="word"\r\n\r\nabc\r\n'
    b'--cut-here\r\nContent-Disposition: form-data; name="file"; filename="f.bin"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n" + b"\x00\r\n\xff" * 50_000 + b"\r\n--cut-here--\r\n"
)
LARGE = b"0123456789abcdef" * 8192


def get(target: str, method: str = "GET") -> FakeSyncStream:
    return FakeSyncStream(f"{method} {target} HTTP/1.1\r\nHost: example.test\r\n\r\n".encode())


def post(target: str, data: bytes, kind: str = "text/plain", *, chunked: bool = False) -> FakeSyncStream:
    frame = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(data)}"
    head = f"POST {target} HTTP/1.1\r\nHost: example.test\r\nContent-Type: {kind}\r\n{frame}\r\n\r\n"
    return FakeSyncStream(head.encode(), data)


def form(target: str) -> FakeSyncStream:
    return post(target, FORM, f"multipart/form-data; boundary={BOUNDARY}")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file for the frameworks to send."""
    file = tmp_path_factory.mktemp("files") / "large"
    file.write_bytes(LARGE)
    return file


# The standard library's validator, which raises at whatever PEP 3333 does not allow


@validator
def echo(environ: Environ, start_response: Start) -> Iterable[bytes]:
    body = environ["wsgi.input"]
    read = body.read(2) + body.readline() + body.readline(3) + b"".join(body.readlines()) + body.read(10)
    environ["wsgi.errors"].write("a line\n")
    environ["wsgi.errors"].flush()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(read)))])
    return [read]


@validator
def write_all(environ: Environ, start_response: Start) -> Iterable[bytes]:
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    write(b"one ")
    return [b"two"]


@validator
def generate(environ: Environ, start_response: Start) -> Iterator[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield from environ["wsgi.input"]


@validator
def wrap(environ: Environ, start_response: Start) -> Any:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return environ["wsgi.file_wrapper"](io.BytesIO(b"in memory"), 4)


TEXT = b"one\ntwo\n\nfour\nno end"


@pytest.mark.parametrize("settings", [{}, {"root_path": "/front"}, {"prefixes": ("/a",), "threads": 3, "processes": 2}])
@pytest.mark.parametrize(
    ("target", "expected"), [(echo, TEXT), (write_all, b"one two"), (generate, TEXT), (wrap, b"in memory")]
)
def test_validator_is_content(
    target: WsgiTarget, expected: bytes, settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """wsgiref.validate finds nothing wrong with the environ, the input, the calls and the closing."""
    for stream in (post("/a/b?c", TEXT), post("/a", TEXT, chunked=True)):
        assert serve(target, stream, **settings).body == expected
        assert stream.complete
    assert caplog.records == []


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("line", [b"OPTIONS * HTTP/1.1", b"GET http://a/b HTTP/1.0", b"GET /%ff%00 HTTP/1.1"])
def test_validator_and_unusual_requests(line: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """The environ is valid for every form of a target."""
    assert serve(echo, FakeSyncStream(line + b"\r\nX-A: 1\r\nX_A: 2\r\nX-A: 3\r\n\r\n")).complete
    assert caplog.records == []


# Flask


@pytest.fixture(scope="module")
def flask_app(large: Path) -> flask.Flask:
    app = flask.Flask("of_a_test")

    @app.route("/show/<name>", methods=["GET", "POST"])
    def show(name: str) -> Any:
        request = flask.request
        return {
            "name": name,
            "url": request.url,
            "self": flask.url_for("show", name="x"),
            "client": [request.remote_addr, request.environ["REMOTE_PORT"]],
            "body": request.get_data(as_text=True),
            "cookies": request.cookies,
        }

    @app.route("/form", methods=["POST"])
    def take_form() -> Any:
        file = flask.request.files["file"]
        return {"word": flask.request.form["word"], "file": [file.filename, len(file.read())]}

    @app.route("/numbers")
    def numbers() -> Any:
        return flask.stream_with_context(f"{number}\n" for number in range(3)), {"Content-Type": "text/plain"}

    @app.route("/file")
    def file() -> Any:
        return flask.send_file(large, mimetype="text/plain", conditional=True)

    @app.route("/fail")
    def fail() -> Any:
        raise LookupError("no shelf")

    return app


def test_flask_request(flask_app: flask.Flask) -> None:
    """A Flask view gets what it expects, with its length and in one message."""
    stream = serve(flask_app, post("/show/a%20b?c=d", "é".encode()))
    assert flask.json.loads(stream.body) == {
        "name": "a b",
        "url": "http://example.test/show/a%20b?c=d",
        "self": "/show/x",
        "client": ["192.0.2.7", "49152"],
        "body": "é",
        "cookies": {},
    }
    assert stream.messages == [("respond", stream.body, True)]
    assert stream.length == len(stream.body)


def test_flask_behind_a_prefix(flask_app: flask.Flask) -> None:
    """URLs that Flask makes hold what was cut off in front, or what the configuration names a prefix."""
    body = serve(flask_app, get("/show/a"), root_path="/shop").body
    assert flask.json.loads(body)["self"] == "/shop/show/x"
    body = serve(flask_app, get("/shop/show/a"), prefixes=("/shop",)).body
    assert flask.json.loads(body)["self"] == "/shop/show/x"


def test_flask_body_in_transfer_chunks(flask_app: flask.Flask) -> None:
    """A body of unannounced length arrives whole."""
    assert flask.json.loads(serve(flask_app, post("/show/a", b"abc", chunked=True)).body)["body"] == "abc"


def test_flask_cookies_in_several_fields(flask_app: flask.Flask) -> None:
    """Cookies that come in several fields are all there."""
    stream = FakeSyncStream(b"GET /show/a HTTP/1.1\r\nHost: a\r\nCookie: a=1\r\nCookie: b=2\r\n\r\n")
    assert flask.json.loads(serve(flask_app, stream).body)["cookies"] == {"a": "1", "b": "2"}


def test_flask_form(flask_app: flask.Flask) -> None:
    """Fields and files of a form."""
    stream = serve(flask_app, form("/form"))
    assert flask.json.loads(stream.body) == {"word": "abc", "file": ["f.bin", 200_000]}


def test_flask_streaming(flask_app: flask.Flask) -> None:
    """Each piece of a stream is a message."""
    stream = serve(flask_app, get("/numbers"))
    assert [body for _, body, _ in stream.messages] == [b"0\n", b"1\n", b"2\n", b""]
    assert stream.length == UNKNOWN


def test_flask_file(flask_app: flask.Flask) -> None:
    """A file that Flask sends is sent by descriptor; a range of it is read."""
    stream = serve(flask_app, get("/file"))
    assert ([kind for kind, _, _ in stream.messages], stream.body) == (["respond", "file"], LARGE)
    head = b"GET /file HTTP/1.1\r\nHost: a\r\nRange: bytes=5-9\r\n\r\n"
    stream = serve(flask_app, FakeSyncStream(head))
    assert (stream.status, stream.body, stream.length) == (206, b"56789", 5)


def test_flask_head_and_errors(flask_app: flask.Flask, caplog: pytest.LogCaptureFixture) -> None:
    """HEAD has no body; Flask answers its own errors, so none is Bridge's."""
    stream = serve(flask_app, get("/show/a", "HEAD"))
    assert (stream.status, stream.body, stream.complete) == (200, b"", True)
    assert stream.length > 0
    assert serve(flask_app, get("/nowhere")).status == 404
    assert serve(flask_app, get("/fail")).status == 500
    assert not [record for record in caplog.records if record.name == "bridge"]


# Django


def django_show(request: HttpRequest) -> HttpResponse:
    where = f"{request.path} {request.path_info} {request.build_absolute_uri()}"
    return HttpResponse(f"{where} {request.META['REMOTE_PORT']} {request.body.decode()}")


def django_form(request: HttpRequest) -> HttpResponse:
    file = request.FILES["file"]
    assert isinstance(file, UploadedFile)
    return JsonResponse({"word": request.POST["word"], "file": [file.name, file.size]})


def django_numbers(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(f"{number}\n" for number in range(3))


def django_fail(request: HttpRequest) -> HttpResponse:
    raise SystemExit("in the view")


@pytest.fixture(scope="module")
def django_app(large: Path) -> Iterator[WsgiTarget]:
    def django_file(request: HttpRequest) -> FileResponse:
        return FileResponse(large.open("rb"), content_type="text/plain")

    with django_project(
        "django_urls_of_wsgi",
        path("show", django_show),
        path("form", django_form),
        path("numbers", django_numbers),
        path("file", django_file),
        path("fail", django_fail),
    ):
        yield get_wsgi_application()


def test_django_request(django_app: WsgiTarget) -> None:
    """A Django view gets path, TCP number of the client, and body; its response is one message with a length."""
    stream = serve(django_app, post("/show", b"hello"))
    assert stream.body == b"/show /show http://example.test/show 49152 hello"
    assert len(stream.messages) == 1
    assert stream.length == len(stream.body)


def test_django_behind_a_prefix(django_app: WsgiTarget) -> None:
    """Django's paths hold the script name."""
    expected = b"/shop/show /show http://example.test/shop/show 49152 "
    assert serve(django_app, get("/show"), root_path="/shop").body == expected
    assert serve(django_app, get("/shop/show"), prefixes=("/shop",)).body == expected


def test_django_form(django_app: WsgiTarget) -> None:
    """Fields and files of a form, also of one in transfer chunks."""
    expected = b'{"word": "abc", "file": ["f.bin", 200000]}'
    assert serve(django_app, form("/form")).body == expected
    chunked = post("/form", FORM, f"multipart/form-data; boundary={BOUNDARY}", chunked=True)
    assert serve(django_app, chunked).body == expected


def test_django_streaming(django_app: WsgiTarget) -> None:
    """Each piece of a stream is a message."""
    stream = serve(django_app, get("/numbers"))
    assert [body for _, body, _ in stream.messages] == [b"0\n", b"1\n", b"2\n", b""]


def test_django_file(django_app: WsgiTarget) -> None:
    """A FileResponse is sent by descriptor, with the length that Django announces."""
    stream = serve(django_app, get("/file"))
    assert ([kind for kind, _, _ in stream.messages], stream.body) == (["respond", "file"], LARGE)
    assert stream.length == len(LARGE)
    assert serve(django_app, get("/file", "HEAD")).messages == [("respond", b"", True)]


def test_django_view_that_exits(django_app: WsgiTarget, caplog: pytest.LogCaptureFixture) -> None:
    """sys.exit() in a view, which Django lets pass, costs that request and no thread."""
    assert fails(django_app, caplog, get("/fail")).status == 500
    assert serve(django_app, get("/show")).status == 200


def test_django_client_leaves_within_its_upload(django_app: WsgiTarget, caplog: pytest.LogCaptureFixture) -> None:
    """A client that is gone when its form is read is no error of the application."""
    stream = form("/form")
    stream.gone = True
    with caplog.at_level(logging.INFO, "bridge"):
        serve(django_app, stream)
    assert stream.messages == []
    assert not [record for record in caplog.records if record.name == "bridge"]


def test_head_is_not_the_frameworks_business(flask_app: flask.Flask) -> None:
    """A middleware that asks for nothing special sees HEAD as such."""
    assert serve(flask_app, FakeSyncStream(HEAD)).messages == [("respond", b"", True)]
