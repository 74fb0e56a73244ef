"""Delivers the outbox: to the users over MQTT, and to `active_alerts` and `alert_history`.

The two are independent: a broker that is away holds up the first, a database that is away the second. One
worker at a time delivers each, keeping each user's order; an entry counts as delivered after the broker's
PUBACK, or the commit. If a worker dies before it has noted that, the next one delivers the entry again: a
user may get a change twice, under the same `alert_id` and status, and the tables have it once.
"""

import time
from collections.abc import Callable, Mapping

import psycopg
import redis
import structlog
from celery import Signature
from kombu.exceptions import OperationalError

from tasks import calls
from tasks.errors import DatabaseAway, NotNow
from tasks.outbox import failing, notices, stream, tables, writing
from tasks.outbox.stream import Group, LostOutbox, Superseded
from tasks.servers import database, turns
from tasks.servers.pauses import pauses
from tasks.servers.redis_client import OUTBOX_PUBLISHED, client

log = structlog.get_logger()

# Pauses between checks of what another worker delivers.
FIRST_PAUSE_SECONDS, MOST_PAUSE_SECONDS = 0.01, 0.5
# The mark of a task that was lost in its queue must not keep others from being sent for longer.
QUEUED_SECONDS = 30


def wake(*groups: Group) -> None:
    """Has new entries of the outbox delivered at once, by default to both; at most one task waits for each.

    It never fails: if a task cannot be sent now, the sweep delivers.
    """
    calls_of: dict[Group, Callable[[], Signature[None]]] = {
        "mqtt": calls.deliver_mqtt,
        "database": calls.deliver_database,
    }
    try:
        for group in groups or calls_of:
            if client().set(_queued(group), 1, nx=True, ex=QUEUED_SECONDS):
                calls_of[group]().apply_async()
    except (redis.RedisError, OperationalError) as error:
        log.warning("delivery_not_woken", error=str(error))


def await_written(seconds: float, awaited: Mapping[str, int] | None = None) -> None:
    """Returns when the users' entries given by `stream.awaited`, or all entries, are in the tables.

    From then on Redis may lose them: they are published again from the tables. Raises `DatabaseAway` after
    `seconds`, or as soon as a change of one of these users fails on its own, `LostOutbox` at once, and
    `redis.RedisError`.
    """
    last = stream.last()
    if last is None:
        return

    def written() -> bool:
        if awaited is not None:
            return stream.are_written(awaited)
        return stream.backlog() == 0 or stream.has_delivered("database", last)

    deadline = time.monotonic() + seconds
    waits = pauses(FIRST_PAUSE_SECONDS, MOST_PAUSE_SECONDS)
    while not written():
        try:
            to_database()
        except LostOutbox:
            # The awaited entries will not come back before the batch does.
            raise
        except NotNow as error:
            log.info("writing_waits", error=str(error))
        if written():
            return
        # Other users need not wait: the batch is sent again, and this user's readings are deferred.
        if awaited and failing.among(list(awaited)):
            raise DatabaseAway("a change of an alert failed repeatedly")
        pause = next(waits)
        if time.monotonic() + pause > deadline:
            raise DatabaseAway("changes of alerts were not written in time")
        time.sleep(pause)


def to_mqtt() -> bool:
    """Publishes what is not published yet; returns whether this call published all. Raises `NotNow`."""
    return _deliver_all("mqtt", notices.publish)


def to_database() -> bool:
    """Writes what is not written yet; returns whether this call wrote all. Raises `NotNow`."""
    return _deliver_all("database", writing.write)


def is_not_queued(group: Group) -> None:
    """Notes that no task waits in the queue: later entries need another one."""
    client().delete(_queued(group))


def note_published() -> None:
    """Notes in the database what was published to users, in case Redis loses it."""
    position = stream.delivered_position("mqtt")
    if position is None or client().get(OUTBOX_PUBLISHED) == str(position).encode():
        return
    try:
        with database.access() as connection:
            tables.note_published(connection, position)
    except psycopg.Error as error:
        # It would only show after a loss of Redis: users would get the same changes again.
        log.warning("told_not_noted", error=str(error).strip())
        return
    client().set(OUTBOX_PUBLISHED, position)


def _deliver_all(group: Group, deliver: stream.Deliver) -> bool:
    # Before reading: entries added from now on need another task.
    is_not_queued(group)
    try:
        return turns.run_alone(f"notify:{group}", lambda turn: _drain(group, turn, deliver))
    except turns.TurnLost:
        log.info("delivery_left_to_another", group=group)
        return False


def _drain(group: Group, turn: turns.Turn, deliver: stream.Deliver) -> None:
    try:
        stream.drain(group, turn, deliver)
    except Superseded:
        log.warning("outbox_superseded", memory=turn.memory)
        # By new connections, which go to the master of now; its memory, if it is another, is not forgotten.
        client().connection_pool.disconnect(inuse_connections=False)
        stream.forget(turn.memory)
        raise


def _queued(group: Group) -> str:
    return f"sluice:notify:{group}:queued"
