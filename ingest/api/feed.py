"""The feed of changes: the tables are read once for all listeners, at a bounded rate.

Nothing is read while nobody listens. A listener that does not take its events is ended, and so are
all when the process stops: with the id of the last event, a client continues where it was.
"""

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextvars import Context
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from weakref import WeakSet

import anyio.to_thread
import structlog

from ingest.admin.alerting import events
from ingest.admin.errors import OperatorError
from ingest.api.callers import Caller
from ingest.api.connections import Connections
from ingest.api.inputs import plain
from ingest.api.problems import Busy, Refused

log = structlog.get_logger()

MEDIA_TYPE = "text/event-stream"
POLL_SECONDS = 1.0
# The registry of devices is written every five seconds.
DEVICES_EVERY = 5
MOST_LISTENERS, MOST_OF_A_TENANT = 32, 4
# The limits of one look. Beyond them, a `reset` event says that more happened.
MOST_CHANGES, MOST_DEVICES = 1000, 500
MOST_REMEMBERED = 20_000
MOST_UNREAD = 2 * MOST_CHANGES
# A client that comes back after longer than this reads the tables again.
MOST_BACK = timedelta(hours=1)
BEAT_SECONDS = 15.0


class Event(NamedTuple):
    """One event, and the user whom it is about; None where it is for everybody."""

    name: str
    data: dict[str, Any]
    id: str | None = None
    user_id: str | None = None

    def written(self) -> bytes:
        """As the stream has it."""
        head = f"id: {self.id}\n" if self.id else ""
        return f"{head}event: {self.name}\ndata: {json.dumps(self.data, ensure_ascii=False)}\n\n".encode()


RESET = Event("reset", {"why": "more has changed than is sent one by one; read /alerts and /devices again"})

READY = Event("ready", {"why": "every change from now on is sent"})


class Listener:
    """One client that listens, and its unread events; `ended` when there will be no more."""

    def __init__(self, user_id: str | None) -> None:
        self.user_id = user_id
        self.unread: asyncio.Queue[Event] = asyncio.Queue(MOST_UNREAD)
        self.ready = asyncio.Event()
        self.ended = False

    def tell(self, event: Event) -> None:
        """Passes on an event that is for this listener. A listener with too many unread ones is ended."""
        if event.user_id is not None and self.user_id not in (None, event.user_id):
            return
        try:
            self.unread.put_nowait(event)
        except asyncio.QueueFull:
            self.ended = True

    async def becomes_ready(self, seconds: float) -> bool:
        """Whether the tables are read for it, now or within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                return await self.ready.wait()
        except TimeoutError:
            return False

    async def next(self, seconds: float) -> Event | None:
        """The next event, or None after `seconds` without one."""
        try:
            async with asyncio.timeout(seconds):
                return await self.unread.get()
        except TimeoutError:
            return None


class Feed:
    """Reads what has changed, and passes it on to the listeners. All methods are called in the event loop."""

    def __init__(self, connections: Connections, is_ending: Callable[[], bool]) -> None:
        self._connections = connections
        self._is_ending = is_ending
        # Each listener lives as long as its stream, even if the stream was never begun.
        self._listeners = WeakSet[Listener]()
        self._task: asyncio.Task[None] | None = None
        self._since: datetime | None = None
        self._told: OrderedDict[tuple[Any, ...], None] = OrderedDict()
        self._devices: dict[tuple[str, str], tuple[Any, ...]] = {}
        self._looks = 0

    def events(
        self, caller: Caller, last_id: str | None, seconds: float, is_valid: Callable[[], bool]
    ) -> AsyncIterator[bytes]:
        """The stream of one client: what came after its last event, if it names one, then what comes.

        It ends after `seconds`, and when its token is no longer valid. Raises `Busy` before it begins.
        """
        listener = self._listen(caller)
        return self._stream(listener, after(last_id), time.monotonic() + seconds, is_valid)

    def _listen(self, caller: Caller) -> Listener:
        own = sum(one.user_id == caller.user_id for one in self._listeners)
        most = MOST_LISTENERS if caller.is_operator else MOST_LISTENERS - 1
        if len(self._listeners) >= most or (not caller.is_operator and own >= MOST_OF_A_TENANT):
            raise Busy("Too many clients listen to events already. Close one of them.")
        listener = Listener(caller.user_id)
        self._listeners.add(listener)
        if self._task is None or self._task.done():
            # For all who listen, not for the one who is first.
            self._task = asyncio.create_task(self._run(), context=Context())
        return listener

    async def _stream(
        self, listener: Listener, since: datetime | None, until: float, is_valid: Callable[[], bool]
    ) -> AsyncIterator[bytes]:
        try:
            # At once, so that a client sees that it is connected.
            yield b"retry: 3000\n\n"
            beat = time.monotonic() + BEAT_SECONDS
            is_ready = False
            while not (listener.ended or self._is_ending() or time.monotonic() > until):
                if is_ready:
                    if (event := await listener.next(POLL_SECONDS)) is not None:
                        yield event.written()
                elif await listener.becomes_ready(POLL_SECONDS):
                    # Events that are passed on to it meanwhile come after this.
                    is_ready = True
                    yield READY.written()
                    if since is not None:
                        for missed in await anyio.to_thread.run_sync(self._earlier, listener.user_id, since):
                            yield missed.written()
                if time.monotonic() > beat:
                    if not await anyio.to_thread.run_sync(is_valid):
                        return
                    yield b": still here\n\n"
                    beat = time.monotonic() + BEAT_SECONDS
            if listener.ended:
                yield RESET.written()
        finally:
            self._listeners.discard(listener)

    async def _run(self) -> None:
        """Looks as long as somebody listens."""
        self._since, away = None, False
        while self._listeners and not self._is_ending():
            begun = time.monotonic()
            try:
                users = {one.user_id for one in self._listeners}
                found = await anyio.to_thread.run_sync(self._look, users)
            except (Refused, OperatorError) as error:
                if not away:
                    log.warning("events_wait", error=str(error))
                away = True
            except Exception:
                # Those who listen would wait for ever.
                log.exception("events_failed")
            else:
                away = False
                self._tell(found)
            await asyncio.sleep(max(0.1, POLL_SECONDS - (time.monotonic() - begun)))

    def _tell(self, found: list[Event]) -> None:
        for listener in self._listeners:
            for event in found if listener.ready.is_set() else ():
                listener.tell(event)
            listener.ready.set()

    def _look(self, users: set[str | None]) -> list[Event]:
        """The events since the last look; none at the first look, which only notes what is there."""
        of = None if None in users else sorted(one for one in users if one is not None)
        first = self._since is None
        with self._connections.reading() as connection:
            now = events.now(connection)
            since = max(self._since or now, now - MOST_BACK) - timedelta(seconds=events.LATE_SECONDS)
            rows = events.changes(connection, of, since, MOST_CHANGES + 1)
            every = self._looks % DEVICES_EVERY == 0
            devices = events.devices(connection, of, MOST_DEVICES + 1) if every else []
        self._since, self._looks = now, self._looks + 1
        found = [event_of(row) for row in rows[:MOST_CHANGES] if self._is_new(row)]
        if len(rows) > MOST_CHANGES:
            found.append(RESET)
        found += self._changed(devices)
        return [] if first else found

    def _is_new(self, row: dict[str, Any]) -> bool:
        key = tuple(row[name] for name in ("alert_id", "status", "time", "severity"))
        if key in self._told:
            return False
        self._told[key] = None
        if len(self._told) > MOST_REMEMBERED:
            self._told.popitem(last=False)
        return True

    def _changed(self, rows: list[dict[str, Any]]) -> list[Event]:
        known, self._devices = self._devices, self._devices if not rows else {}
        found: dict[str, list[dict[str, Any]]] = {}
        for row in rows[:MOST_DEVICES]:
            key = row["user_id"], row["device_id"]
            self._devices[key] = tuple(row.values())
            if known.get(key) != self._devices[key]:
                found.setdefault(row["user_id"], []).append(plain(row))
        more = len(rows) > MOST_DEVICES
        return [
            Event("devices", {"devices": some, "more": more}, user_id=user_id)
            for user_id, some in found.items()
        ]

    def _earlier(self, user_id: str | None, since: datetime) -> list[Event]:
        """The events that a returning client has missed. A change near its last event may come again."""
        try:
            with self._connections.reading() as connection:
                oldest = events.now(connection) - MOST_BACK
                begin = since - timedelta(seconds=events.LATE_SECONDS)
                rows = events.changes(
                    connection,
                    None if user_id is None else [user_id],
                    max(begin, oldest),
                    MOST_CHANGES + 1,
                )
        except (Refused, OperatorError) as error:
            log.warning("events_wait", error=str(error))
            return [RESET]
        found = [event_of(row) for row in rows[:MOST_CHANGES]]
        return [*found, RESET] if begin < oldest or len(rows) > MOST_CHANGES else found


def event_of(row: dict[str, Any]) -> Event:
    """The event of a row of the history; its id is when the row was written, in microseconds since 1970."""
    written: datetime = row["recorded_at"]
    return Event("alert", plain(row), str(round(written.timestamp() * 1_000_000)), row["user_id"])


def after(last_id: str | None) -> datetime | None:
    """When the event with this id was written; None for what is not an id of ours."""
    if last_id is None or not (last_id.isascii() and last_id.isdigit() and len(last_id) <= 17):
        return None
    return datetime.fromtimestamp(int(last_id) / 1_000_000).astimezone()
