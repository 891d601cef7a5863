"""How a WebSocket ends, RFC 6455 sections 5.5.1 and 7: codes and reasons both ways, and who closes what."""

from __future__ import annotations

import pytest

from tests.end_to_end.server import Server
from tests.end_to_end.websocket.client import NO_CODE, Client, connect
from tests.end_to_end.websocket.frames import CLOSE, PING, PONG, TEXT, Frame, close, fragments, frame, text

VALID = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
INVALID = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]
REASONS = {"none": "", "some": "that is all", "UTF-8": "schön", "the longest": "x" * 123, "NUL": "\0"}


@pytest.mark.parametrize("code", VALID)
def test_codes(server: Server, code: int) -> None:
    """A code that may be sent comes back, and the application gets it."""
    with connect(server, "/echo?name=closing") as client:
        assert client.leave(code)[0] == code
    server.log.take(rf"closing: left {code} ''\n")


@pytest.mark.parametrize("reason", REASONS.values(), ids=REASONS)
def test_reasons(server: Server, reason: str) -> None:
    """A reason of up to 123 bytes reaches the application."""
    with connect(server, "/echo?name=closing") as client:
        assert client.leave(4000, reason)[0] == 4000
    assert reason in eval(server.log.take(r"closing: left 4000 ([^\n]*)\n")[1])


def test_without_a_code(server: Server) -> None:
    """A close frame without a payload is answered, and is 1005 to the application."""
    with connect(server, "/echo?name=closing") as client:
        assert client.leave(None)[0] in (NO_CODE, 1000)
    server.log.take(r"closing: left 1005 [^\n]*\n")


BROKEN = {
    "one byte": (frame(CLOSE, b"\x03"), 1002),
    "124 bytes of reason": (frame(CLOSE, b"\x03\xe8" + b"x" * 124), 1002),
    "a reason that is not UTF-8": (frame(CLOSE, b"\x03\xe8bad \xff"), 1007),
    "a reason cut in a character": (frame(CLOSE, b"\x03\xe8\xe2\x82"), 1007),
    **{f"code {code}": (close(code), 1002) for code in INVALID},
    **{f"code {code} with a reason": (close(code, b"why"), 1002) for code in INVALID[2:6]},
}


@pytest.mark.parametrize(("made", "code"), BROKEN.values(), ids=BROKEN)
def test_broken(client: Client, made: bytes, code: int) -> None:
    """A close frame that is wrong is a broken frame."""
    client.send(made, text("behind"))
    assert client.failed() == code


def test_nothing_behind(client: Client) -> None:
    """What follows a close frame is not looked at: no message, no ping, no second close, no garbage."""
    client.send(close(1000), text("behind"), frame(PING), close(1001), b"\xff" * 1000)
    assert client.closing()[0] == 1000
    assert client.rest() == b""


def test_much_behind(client: Client) -> None:
    """Also when that is more than anybody would keep: the connection ends in order, without RST."""
    client.send(close(1000), bytes(1_000_000))
    assert client.closing()[0] == 1000
    assert client.rest() == b""


def test_in_front(server: Server) -> None:
    """The application hears what came before a close frame, and pings are answered; the close is the last word."""
    with connect(server, "/late?name=before") as client:
        client.send(text("one"), frame(PING, b"x"), text("two"), close(1000))
        assert client.frame() == Frame(PONG, b"x")
        assert client.closing()[0] == 1000
        assert client.rest() == b""
    server.log.take(r"before: received 'one'\nbefore: received 'two'\nbefore: left 1000 [^\n]*\nbefore: OSError True\n")


def test_inside_a_message(client: Client) -> None:
    """A close frame may stand between fragments; the message is never heard of."""
    first, second = fragments(TEXT, b"a", b"b")
    client.send(first, close(1000, b"enough"), second)
    assert client.closing()[0] == 1000
    assert client.rest() == b""


def test_byte_by_byte(client: Client) -> None:
    """A close frame may arrive in any pieces."""
    client.trickle(close(4001, b"slowly"))
    assert client.closing()[0] == 4001


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 3000, 4999])
def test_by_the_application(server: Server, code: int) -> None:
    """The application's code and reason reach the client behind its last message; the server ends the connection."""
    with connect(server, f"/end?text=last&code={code}&reason=that%20is%20all&name=ended") as client:
        assert client.message() == "last"
        assert client.closing() == (code, "that is all")
        client.send(close(code))
        assert client.rest() == b""
    server.log.take(rf"ended: left {code} [^\n]*\n")


def test_answered_with_another_code(server: Server) -> None:
    """The client's answer may carry what it likes."""
    with connect(server, "/end?code=1000") as client:
        assert client.closing()[0] == 1000
        assert client.send(close(4000, b"so what")).rest() == b""


def test_messages_on_their_way(server: Server) -> None:
    """Messages that cross the application's close frame are swallowed until the client's own comes."""
    with connect(server, "/end") as client:
        assert client.closing()[0] == 1000
        client.send(text("crossed"), frame(PING), close(1000))
        assert client.rest() == b""


def test_both_at_once(server: Server) -> None:
    """When both sides close at the same time nobody waits for anybody."""
    with connect(server, "/end?code=1001&name=both") as client:
        client.send(close(4000))
        assert client.closing()[0] in (1001, 4000)
        assert client.rest() == b""
    server.log.take(r"both: left (1001|4000) [^\n]*\n")


def test_a_client_that_does_not_answer() -> None:
    """The server waits for the client's close frame for its close timeout."""
    with Server("sockets:app", "--set", "http.websocket.close_timeout=0.5") as server:
        with connect(server, "/end?name=unanswered") as client:
            assert client.closing()[0] == 1000
            assert client.rest() == b""
        server.log.take(r"unanswered: left \d+ [^\n]*\n")


def test_a_client_that_answers_with_its_end(server: Server) -> None:
    """A FIN is enough as well."""
    with connect(server, "/end?name=unanswered") as client:
        assert client.closing()[0] == 1000
        assert client.finish().rest() == b""
    server.log.take(r"unanswered: left \d+ [^\n]*\n")


def test_a_client_that_ends_without_a_close(server: Server) -> None:
    """FIN or RST without a close frame is 1006 to the application, at once."""
    with connect(server, "/echo?name=fin") as client:
        client.send(text("hello"))
        client.message()
        client.finish()
        assert client.rest() == b""
    server.log.take(r"fin: left 1006 [^\n]*\n")
    with connect(server, "/echo?name=rst") as client:
        client.cut()
    server.log.take(r"rst: left 1006 [^\n]*\n")


def test_a_client_that_ends_behind_messages(server: Server) -> None:
    """What it sent before its FIN is heard."""
    with connect(server, "/late?name=half") as client:
        client.send(*(text(f"message {number}") for number in range(50))).finish()
        assert client.rest() == b""
    heard = "".join(rf"half: received 'message {number}'\n" for number in range(50))
    server.log.take(heard + r"half: left 1006 [^\n]*\nhalf: OSError True\n")


def test_a_client_that_ends_inside_a_frame(server: Server) -> None:
    """A frame that never ends is no message."""
    with connect(server, "/echo?name=cut") as client:
        client.send(text("hello")[:5]).finish()
        assert client.rest() == b""
    server.log.take(r"cut: left 1006 [^\n]*\n")


def test_raised(server: Server) -> None:
    """An application that raises ends the WebSocket with 1011, and its traceback is in the log."""
    with connect(server, "/fail?when=behind") as client:
        assert client.closing()[0] == 1011
        client.send(close(1011))
        assert client.rest() == b""
    server.log.take(r"[^\n]*\[error\][^\n]*/fail[^\n]*\nTraceback[\s\S]*?\nRuntimeError: on purpose\n")


def test_returned(server: Server) -> None:
    """An application that returns without closing ends the WebSocket with 1000."""
    with connect(server, "/silent?when=behind") as client:
        assert client.closing() == (1000, "")
        client.send(close(1000))
        assert client.rest() == b""


def test_sending_to_nobody(server: Server) -> None:
    """send() raises OSError when the client has left, and that is no error in the log."""
    with connect(server, "/late?name=late") as client:
        client.leave()
    server.log.take(r"late: left 1000 [^\n]*\nlate: OSError True\n")
