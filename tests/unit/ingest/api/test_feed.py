"""Listeners get their events, and few may listen; the looks at the tables do not depend on their number."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from ingest.admin.alerting import events
from ingest.api import feed
from ingest.api.callers import Caller
from ingest.api.connections import Connections
from ingest.api.feed import Feed
from ingest.api.problems import Busy

NOW = datetime(2026, 5, 1, 10, tzinfo=UTC)


class Tables:
    """The history as far as the feed reads it, and how often it was read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: list[dict[str, Any]] = []
        self.looks = 0
        monkeypatch.setattr(feed, "POLL_SECONDS", 0.01)
        monkeypatch.setattr(events, "now", lambda _: NOW)
        monkeypatch.setattr(events, "changes", self._changes)
        monkeypatch.setattr(events, "devices", lambda *_: [])

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Stands for `Connections.reading`."""
        yield

    def _changes(
        self, _: object, users: list[str] | None, since: datetime, most: int
    ) -> list[dict[str, Any]]:
        self.looks += 1
        found = [row for row in self.rows if users is None or row["user_id"] in users]
        return [row for row in found if row["recorded_at"] > since][:most]

    def add(self, user_id: str, alert: str, at: datetime = NOW) -> None:
        """A change that is written."""
        told = {"alert_id": alert, "status": "TRIGGERED", "time": at, "severity": None}
        self.rows.append({**told, "user_id": user_id, "recorded_at": at})


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Tables:
    """Tables without a server."""
    return Tables(monkeypatch)


def stream(one: Feed, user: str | None, last: str | None = None, seconds: float = 5) -> AsyncIterator[bytes]:
    """The stream that a client with a token of the user gets."""
    return one.events(Caller(user), last, seconds, lambda: True)


def made(tables: Tables, *, ending: bool = False) -> Feed:
    """A feed on these tables."""
    return Feed(cast(Connections, tables), lambda: ending)


async def until(found: AsyncIterator[bytes], wanted: str) -> list[str]:
    """The events up to the one that holds this."""
    told: list[str] = []
    async for event in found:
        told.append(event.decode())
        if wanted in told[-1]:
            return told
    raise AssertionError(told)


def test_each_hears_what_is_for_them_once(tables: Tables) -> None:
    """A tenant the tenant's own, the operator all; a change that is seen again is not sent again."""

    async def listen() -> None:
        one = made(tables)
        ada, operator = stream(one, "ada"), stream(one, None)
        await asyncio.gather(until(ada, "event: ready"), until(operator, "event: ready"))
        tables.add("eve", "e1")
        tables.add("ada", "a1")
        assert ["e1" in event for event in await until(ada, "a1")] == [False]
        assert len(await until(operator, "a1")) == 2
        await asyncio.sleep(0.1)
        tables.add("ada", "a2")
        assert len(await until(ada, "a2")) == 1

    asyncio.run(listen())


def test_nothing_is_told_before_the_client_knows_that_it_listens(
    tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the tables are read twice while its stream waits."""
    monkeypatch.setattr(feed, "POLL_SECONDS", 60.0)
    monkeypatch.setattr(Feed, "_look", lambda *_: [])

    async def listen() -> None:
        one = made(tables)
        found = stream(one, None)
        assert b"retry" in await anext(found)
        following = asyncio.ensure_future(anext(found))
        await asyncio.sleep(0)
        for events_told in ([], [feed.Event("alert", {})]):
            one._tell(events_told)
        assert b"event: ready" in await following
        assert b"event: alert" in await anext(found)

    asyncio.run(listen())


def test_who_comes_back_hears_what_was_missed(tables: Tables) -> None:
    """Up to an hour back; beyond that, it has to read again."""

    async def listen(last: datetime) -> list[str]:
        found = stream(made(tables), "ada", str(round(last.timestamp() * 1_000_000)), seconds=0.5)
        return [event.decode() async for event in found]

    tables.add("ada", "missed", NOW - timedelta(minutes=10))
    told = asyncio.run(listen(NOW - timedelta(minutes=20)))
    assert [event.partition("\n")[0] for event in told][2:] == [
        f"id: {round((NOW - timedelta(minutes=10)).timestamp() * 1_000_000)}"
    ]
    assert "event: reset" in asyncio.run(listen(NOW - timedelta(hours=2)))[-1]


def test_few_may_listen_and_nobody_reads_for_nobody(tables: Tables) -> None:
    """A place is free again when its stream has ended, or was never begun; without any, nothing is read."""

    async def listen() -> None:
        one = made(tables)
        open_ones = [stream(one, "ada") for _ in range(feed.MOST_OF_A_TENANT)]
        with pytest.raises(Busy):
            stream(one, "ada")
        stream(one, "eve")
        await until(open_ones[0], "event: ready")
        open_ones.clear()
        gc.collect()
        await asyncio.sleep(0.1)
        before = tables.looks
        await asyncio.sleep(0.2)
        assert tables.looks <= before + 1
        stream(one, "ada")

    asyncio.run(listen())


def test_a_stream_ends_with_the_process_and_with_its_token(
    tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listener that does not read is ended, with the word to read again."""
    monkeypatch.setattr(feed, "BEAT_SECONDS", 0.0)

    async def listen() -> None:
        begun = time.monotonic()
        assert [event async for event in stream(made(tables, ending=True), None)] == [b"retry: 3000\n\n"]
        revoked = made(tables).events(Caller("ada"), None, 60, lambda: False)
        assert b"still here" not in b"".join([event async for event in revoked])
        assert time.monotonic() - begun < 10

    asyncio.run(listen())
    listener = feed.Listener(None)
    for number in range(feed.MOST_UNREAD + 1):
        listener.tell(feed.Event("alert", {"number": number}))
    assert listener.ended
