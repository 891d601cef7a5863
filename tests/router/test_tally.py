"""bridge.router.tally: what stands in the log about requests that were refused."""

from __future__ import annotations

from bridge.router.tally import EVERY, Tally


def test_nothing_to_say() -> None:
    """Clients that leave are no overload, as long as the line does not stand."""
    tally = Tally("shop")
    assert not tally.line(0.0, 0, 0.0, stands=False)
    tally.unserved += 5
    assert not tally.line(0.0, 3, 0.1, stands=False)


def test_everything_at_once() -> None:
    """One line names the application, what was refused why, and what waits."""
    tally = Tally("shop")
    tally.expired, tally.turned_away, tally.unserved = 3, 4, 5
    assert tally.line(0.0, 6, 7.25, stands=True) == (
        "'shop' gets more requests than its workers end: 3 refused (503): no worker took them in time;"
        " 4 refused (503): the line was full; 5 given up by their clients before they were answered;"
        " 6 wait, newest first, the oldest for 7.2 s"
    )


def test_not_more_than_a_line_now_and_then() -> None:
    """However many are refused; and each is counted in one line."""
    tally = Tally("shop")
    said = []
    for second in range(30):
        tally.expired += 10
        said.append(tally.line(float(second), 1, 30.0, stands=False))
    assert [second for second, line in enumerate(said) if line] == [0, EVERY, 2 * EVERY]
    assert said[0].startswith("'shop' gets more requests than its workers end: 10 refused")
    assert "100 refused" in said[20]


def test_silence() -> None:
    """What was said once is not said again."""
    tally = Tally("shop")
    tally.turned_away += 1
    assert tally.line(0.0, 0, 0.0, stands=False)
    assert not tally.line(100.0, 0, 0.0, stands=True)


def test_who_left_long_before() -> None:
    """A line tells of the clients that an overload has cost, not of all that have left since the last one."""
    tally = Tally("shop")
    for second in range(1000):
        tally.unserved += 1
        assert not tally.line(float(second), 0, 0.0, stands=False)
    tally.unserved += 1
    left = int(tally.line(1000.0, 1, 1.0, stands=True).split(": ")[1].split()[0])
    assert 1 <= left <= EVERY + 1
