"""What is measured, and in which order."""

from __future__ import annotations

import pytest

from tests.bench.plan import SLICE, WHOLE_SLICE, Choice, groups, plan
from tests.bench.rows import ROWS, complaint

HELLO = ROWS[0]


def names(choice: Choice) -> list[tuple[int, str, str, int]]:
    """The steps as their round, row, server and workers."""
    return [(step.round, step.row.name, step.server.name, step.workers) for step in plan(choice)]


def test_servers_take_turns_and_the_order_turns_round() -> None:
    """In each round every server is measured once before any is measured again, from the other end each time."""
    steps = names(Choice(2, 1, rows=["hello-asgi"]))
    assert [server for number, _, server, _ in steps if number == 0] == [
        "bridge",
        "uvicorn",
        "granian",
        "gunicorn-asgi",
    ]
    assert [step[2] for step in steps[4:]] == [step[2] for step in steps[:4]][::-1]


def test_bridge_is_measured_once_where_peers_have_its_two_processes() -> None:
    """Bridge appears once, with one worker, however many its peers have: its router is the second process."""
    for workers in ([1, 2], [2]):
        steps = [step[2:] for step in names(Choice(1, 1, rows=["hello-wsgi"], workers=workers))]
        assert [step for step in steps if step[0] == "bridge"] == [("bridge", 1)]
        assert [count for server, count in steps if server == "gunicorn-sync"] == workers


def test_every_row_has_bridge_and_a_peer() -> None:
    """No row stands for itself alone, and patterns choose among rows and servers."""
    steps = names(Choice(1, 1))
    for row in ROWS:
        assert len({server for _, name, server, _ in steps if name == row.name} - {"bridge"}) >= 2
    assert {step[1:3] for step in names(Choice(1, 1, rows=["up*"], servers=["bridge"]))} == {
        ("upload-asgi", "bridge"),
        ("upload-wsgi", "bridge"),
    }


def test_connections_are_the_rows_own_unless_said() -> None:
    """Pages have many connections, mebibytes few, and the command line may ask for others, but for idle ones."""
    own = {step.row.name: step.connections for step in plan(Choice(1, 1))}
    assert (own["upload-wsgi"], own["ws-short"], own["ws-idle"]) == ((4,), (64,), (5000,))
    asked = {step.row.name: step.connections for step in plan(Choice(1, 1, connections=[1, 64]))}
    assert {asked.pop("ws-idle")} == {(5000,)}
    assert set(asked.values()) == {(1, 64)}


def test_slices_are_of_servers_of_one_row() -> None:
    """All servers of a row are up together, with each number of connections; what is idle has no slices."""
    found = list(groups(Choice(3, 1, slices=50, rows=["ws-*"], servers=["bridge", "uvicorn"], connections=[1, 64])))
    assert {group.steps[0].row.name for group in found} == {row.name for row in ROWS if row.message and not row.idle}
    assert [group.connections for group in found[:2]] == [1, 64]
    assert all([step.server.name for step in group.steps] == ["bridge", "uvicorn"] for group in found)
    assert found[0].seconds == SLICE
    assert found[0].duration > 2 * 50 * SLICE
    (hello,) = groups(Choice(1, 1, slices=50, rows=["hello-asgi"]))
    assert hello.seconds == WHOLE_SLICE


@pytest.mark.parametrize(("status", "body"), [(500, b"Hello, world!\n"), (200, b"Hello"), (200, b"Sorry, world!\n")])
def test_wrong_answers_are_not_measured(status: int, body: bytes) -> None:
    """Status, length and beginning of an answer must be right."""
    assert complaint(HELLO, status, body)
    assert not complaint(HELLO, 200, b"Hello, world!\n")
