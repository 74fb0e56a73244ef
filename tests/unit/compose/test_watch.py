"""The live view: true numbers, and a sentence instead of a traceback."""

import io
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from compose.watch import screen
from compose.watch.counts import NAMES, Counts
from compose.watch.polling import Meter, Poller
from ingest.admin.errors import ServerAway
from ingest.admin.servers.flow import Flow

VIEW = screen.View(
    up_seconds=72,
    received=screen.Count(12_345, 200.4),
    stored=screen.Count(12_300, 198),
    dead_lettered=screen.Count(45, 2),
    duplicates=screen.Count(0),
    lag=3,
    latency_ms=42,
    restarts={"redis": 2, "gateway": 0},
    resent=1,
    fleet=screen.FleetView(30, 30, 12_345),
    columns=["time", "user_id", "temperature"],
    rows=[(datetime(2026, 5, 1, 10, tzinfo=UTC), f"user-{number}", 21.5) for number in range(50)],
    places=[("MQTT", "127.0.0.1:1883"), ("env file", ".local/env")],
    hints=["psql …"],
)
UNKNOWN = screen.Count(None)
NOTHING = screen.View(
    up_seconds=1,
    received=UNKNOWN,
    stored=UNKNOWN,
    dead_lettered=UNKNOWN,
    duplicates=UNKNOWN,
    lag=None,
    latency_ms=None,
    restarts=None,
    resent=None,
    fleet=None,
    away={"Kafka": "no answer"},
)


def drawn(view: screen.View, width: int, height: int) -> list[str]:
    """The lines of the screen."""
    text = io.StringIO()
    console = Console(file=text, width=width, height=height)
    console.print(screen.screen(view, height), height=height)
    return text.getvalue().splitlines()


def test_a_picture_needs_nothing_from_elsewhere() -> None:
    """It is well-formed SVG, has the numbers, and fetches no font."""
    found = screen.picture(VIEW)
    text = "".join(ElementTree.fromstring(found).itertext())  # noqa: S314 - made a line before
    assert "12,345" in text
    assert not re.search(r"url\(\"?https?:", found)


@pytest.mark.parametrize(("width", "height"), [(100, 30), (80, 24)])
def test_everything_is_on_the_screen(width: int, height: int) -> None:
    """On a usual terminal every number, the newest rows, the addresses and a hint can be seen."""
    lines = drawn(VIEW, width, height)
    text = "\n".join(lines)
    assert len(lines) <= height
    assert max(len(line) for line in lines) <= width
    for part in ("12,345", "200/s", "12,300", "42 ms", "redis 2", "30 of 30", "user-0", "1883", "psql …"):
        assert part in text


@pytest.mark.parametrize(("width", "height"), [(100, 30), (40, 10), (20, 3)])
def test_a_server_that_is_away_is_told_with_its_reason(width: int, height: int) -> None:
    """Without any server there is still a screen, of any size, which names who is away and why."""
    text = "\n".join(drawn(NOTHING, width, height))
    if width >= 80:
        assert "Kafka is away" in text
        assert "no answer" in text


def test_square_brackets_are_shown_as_they_are() -> None:
    """Names, addresses and reasons are text: nothing in them is taken for markup, nothing is swallowed."""
    odd = "[/bold]x"
    view = replace(
        VIEW,
        rows=[(datetime(2026, 5, 1, 10, tzinfo=UTC), odd, 21.5)],
        away={"Kafka": f"reason {odd}"},
        places=[("env file", f"place {odd}")],
    )
    text = "\n".join(drawn(view, 100, 30))
    assert text.count(odd) == 3


def test_a_long_address_keeps_its_name() -> None:
    """An address or a reason wider than the screen is cut, and what it belongs to is still there."""
    places = [("MQTT", "127.0.0.1:1883"), ("env file", "deep/" * 100)]
    view = replace(VIEW, places=places, away={"Kafka": "no answer " * 100})
    text = "\n".join(drawn(view, 80, 24))
    assert "MQTT" in text
    assert "env file" in text
    assert "Kafka is away" in text


def test_a_line_says_the_same() -> None:
    """Without a terminal one line has the numbers, and who is away."""
    assert screen.line(VIEW) == (
        "up 1 min 12 s · since then in 12,345 200/s · stored 12,300 198/s · dead letters 45 · duplicates 0"
        " · lag 3 · latency 42 ms · restarts 2"
    )
    assert "Kafka away: no answer" in screen.line(NOTHING)


def test_the_end_says_what_was_done() -> None:
    """The last words are how long it ran and what came of it."""
    text = screen.farewell(VIEW, {"messages in": 1000, "rows stored": None}, 1000, 999)
    assert text.splitlines() == [
        "In 1 min 12 s: messages in 1,000, rows stored -, 3 still waiting in Kafka.",
        "The fleet published 1,000 messages, 999 of them acknowledged.",
    ]


@pytest.mark.parametrize(("seconds", "text"), [(0.9, "0 s"), (61, "1 min 01 s"), (7300, "2 h 01 min")])
def test_durations_are_for_people(seconds: float, text: str) -> None:
    """A time span has at most two units."""
    assert screen.duration(seconds) == text


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=50))
def test_a_meter_adds_up_what_a_total_grew(steps: list[int]) -> None:
    """A meter's growth is the sum of the steps, and its rate that of the last seconds."""
    meter, total = Meter(seconds=5), 10_000
    for second, step in enumerate(steps):
        total += step
        meter.note(total, float(second))
    assert meter.grown == sum(steps[1:])
    window = steps[1:][-5:]
    assert meter.per_second == pytest.approx(sum(window) / len(window))


def test_a_meter_survives_a_flushed_redis() -> None:
    """A total that starts again counts from zero, and the rate is never negative."""
    meter = Meter()
    for now, total in enumerate([100, 150, 10, 30]):
        meter.note(total, float(now))
    assert meter.grown == 80
    assert meter.per_second > 0


def test_what_is_shown_is_counted_from_the_same_moment() -> None:
    """After a restart Redis counts from zero and Kafka does not: the view shows what came since it began.

    Nothing is stored that did not come, but for what waited then.
    """
    counts = Counts()
    counts.note(Flow(50_000, 45, 20), None, 0.0)
    counts.note(Flow(50_010, 45, 30), {}, 1.0)
    assert counts.grown() == dict.fromkeys(NAMES, 0)
    assert counts.waited == 30
    counts.note(Flow(50_110, 46, 5), {"stored": 130, "duplicate": 4}, 2.0)
    assert counts.grown() == {
        "messages in": 100,
        "rows stored": 130,
        "dead letters": 1,
        "duplicates": 4,
    }
    assert counts.count("messages in").per_second == pytest.approx(100)
    assert "30 when this began" in "\n".join(drawn(replace(VIEW, waited=counts.waited), 100, 30))


def test_a_server_that_was_never_read_has_no_count() -> None:
    """An unknown number is not a zero."""
    counts = Counts()
    counts.note(None, {"stored": 7}, 0.0)
    counts.note(None, {"stored": 9}, 1.0)
    assert counts.grown() == {"messages in": None, "rows stored": 2, "dead letters": None, "duplicates": 0}


def test_a_gauge_outlives_its_server() -> None:
    """A poller says why there is no value, keeps the last one, and reads on until the server is back."""
    answers: Iterator[int | ServerAway] = iter([1, ServerAway("gone for a while"), 2])
    turn, seen = threading.Semaphore(0), threading.Semaphore(0)
    states: list[tuple[int | None, str]] = []

    def read() -> int:
        if states:
            states[-1] = (poller.value, poller.away)
        states.append((None, ""))
        seen.release()
        assert turn.acquire(timeout=10)
        answer = next(answers, 3)
        if isinstance(answer, ServerAway):
            raise answer
        return answer

    poller = Poller(read, pause=0.0)
    poller.start()
    for _ in range(3):
        turn.release()
        assert seen.acquire(timeout=10)
    assert seen.acquire(timeout=10)
    poller.stop()
    turn.release()
    assert states[:3] == [(1, ""), (1, "gone for a while"), (2, "")]
