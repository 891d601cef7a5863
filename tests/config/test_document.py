"""JSON text → values and places."""

from __future__ import annotations

import json

import pytest

from bridge.config.document import DEEPEST, Document, escape
from bridge.errors import ConfigError


def value(text: str) -> object:
    return Document(text.encode(), "f").value


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        '{"a": [1, -2, 0, 2.5, 1e3, -1.5E-2], "b": {"c": null, "d": [true, false]}}',
        '"\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00 é"',
        " \t\r\n 5 ",
        '{"": {"": ""}}',
    ],
)
def test_json_is_read_as_json(text: str) -> None:
    """What the standard library reads is read the same here, types of numbers included."""
    assert repr(value(text)) == repr(json.loads(text))


def test_comments_and_byte_order_mark() -> None:
    """Both kinds of comments may stand wherever white space may, and a byte order mark is passed over."""
    text = '\ufeff// a\n{/**/"a" /* : */ : // {\n [1 /* * / */ , 2 // ]\n ] } // end'
    assert value(text) == {"a": [1, 2]}
    assert value("[8/* each */, true// yes\n, null/**/]") == [8, True, None]
    assert value('{"//": "/* no */ // comment"}') == {"//": "/* no */ // comment"}


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ('{"a": 1,\n  "a": 2}', "2:3", "the name 'a' stands in this object a second time"),
        ('{"a": 1 "b": 2}', "1:9", "expected a comma or }, found '\"'"),
        ("[1, 2", "1:6", "expected a comma or ], found the end of the file"),
        ("[1, 2,]", "1:6", "a comma in front of ]"),
        ('{"a": 1,}', "1:8", "a comma in front of }"),
        ('{"a" 1}', "1:6", "expected a colon, found '1'"),
        ("{a: 1}", "1:2", "expected a name in quotes, found 'a'"),
        ("[01]", "1:2", "expected a value, found '01'"),
        ("[1.]", "1:2", "expected a value, found '1.'"),
        ("[+1]", "1:2", "expected a value, found '+1'"),
        ("[NaN]", "1:2", "expected a value, found 'NaN'"),
        ("[tru]", "1:2", "expected a value, found 'tru'"),
        ("", "1:1", "expected a value, found the end of the file"),
        ("{} {}", "1:4", "expected the end of the file, found '{'"),
        ("{} /* \n", "1:4", "this comment has no end"),
        ('["a', "1:2", "this string has no end"),
        ('["a\n"]', "1:4", "a control character in this string"),
        ('["\\x"]', "1:3", "an unknown escape in this string"),
        ('["\\ud800"]', "1:2", "half of a surrogate pair in this string"),
        ("[" * (DEEPEST + 1), f"1:{DEEPEST + 1}", f"more than {DEEPEST} objects and arrays within one another"),
        ("[" + "1" * 5000 + "]", "1:2", "a number of more than 100 characters"),
    ],
)
def test_what_is_no_json_is_located(text: str, place: str, reason: str) -> None:
    """A mistake of syntax has a line, a column, and says what was expected there."""
    with pytest.raises(ConfigError) as caught:
        value(text)
    assert str(caught.value) == f"f:{place}: {reason}"


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "byte order mark"])
@pytest.mark.parametrize(
    ("data", "place"), [(b'{\n "\xe9": 1}', "2:3"), ('{"€€a'.encode() + b"\xe9", "1:6"), (b"\xe9", "1:1")]
)
def test_bytes_that_are_no_text(mark: bytes, data: bytes, place: str) -> None:
    """What is not UTF-8 is located too."""
    with pytest.raises(ConfigError, match=f"f:{place}: expected UTF-8, found the byte 0xe9"):
        Document(mark + data, "f")


def test_places() -> None:
    """Every value and every member has a place; what is missing stands where its object stands."""
    document = Document(b'{\n  "a/b~": {"c": [5,\n 6]}\n}', "f")
    pointer = f"/{escape('a/b~')}"
    assert pointer == "/a~1b~0"
    assert document.where("") == (1, 1)
    assert document.where(pointer) == (2, 11)
    assert document.where(pointer, member=True) == (2, 3)
    assert document.where(f"{pointer}/c/1") == (3, 2)
    assert document.where(f"{pointer}/c/missing/deeper") == document.where(f"{pointer}/c") == (2, 17)
    assert document.place(f"{pointer}/missing", member=True) == "f:2:11"
