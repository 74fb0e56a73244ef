"""Delivers the outbox: to the users over MQTT, and to `active_alerts` and `alert_history`.

The two ways know nothing of each other: a broker that is away holds up the first, a database the second.
One worker at a time delivers each, in the order of the outbox; an entry counts as delivered after the
broker's PUBACK, or the commit. A worker that dies between the two leaves it to the next, so a user may hear
of a change again, under the same `alert_id` and status, and the tables have it once.
"""

import time
from collections.abc import Mapping

import psycopg
import redis
import structlog
from celery import Signature
from kombu.exceptions import OperationalError

from tasks import calls
from tasks.errors import DatabaseAway, NotNow
from tasks.outbox import failing, notices, stream, tables, writing
from tasks.outbox.stream import Group
from tasks.servers import database, turns
from tasks.servers.redis_client import OUTBOX_TOLD, client

log = structlog.get_logger()

# Between looks at what another worker delivers.
FIRST_PAUSE_SECONDS, MOST_PAUSE_SECONDS = 0.01, 0.5
# A mark of a task that was lost in its queue must not keep others from being sent.
QUEUED_SECONDS = 30


def wake() -> None:
    """Has what was added to the outbox delivered at once; at most one task waits in each queue.

    It never fails: what cannot be sent now is left to the sweep.
    """
    wanted: dict[Group, Signature[None]] = {
        "mqtt": calls.deliver_mqtt(),
        "database": calls.deliver_database(),
    }
    try:
        for group, call in wanted.items():
            if client().set(_queued(group), 1, nx=True, ex=QUEUED_SECONDS):
                call.apply_async()
    except (redis.RedisError, OperationalError) as error:
        log.warning("delivery_not_woken", error=str(error))


def await_written(seconds: float, awaited: Mapping[str, int] | None = None) -> None:
    """Returns when what users had in the outbox by `stream.awaited`, or all of it, is in the tables.

    From then on Redis may lose it: it is published again from there. Raises `DatabaseAway` after so many
    seconds, or as soon as a change of one of these users fails by itself, and `redis.RedisError`.
    """
    last = stream.last()
    if last is None:
        return

    def written() -> bool:
        if awaited is not None:
            return stream.are_written(awaited)
        return stream.backlog() == 0 or stream.has_delivered("database", last)

    deadline = time.monotonic() + seconds
    pause = FIRST_PAUSE_SECONDS
    while not written():
        try:
            to_database()
        except NotNow as error:
            log.info("writing_waits", error=str(error))
        if written():
            return
        # Others need not wait for this one: its readings are left for later, and the batch is sent again.
        if awaited and failing.among(list(awaited)):
            raise DatabaseAway("a change of an alert fails again and again")
        if time.monotonic() + pause > deadline:
            raise DatabaseAway("changes of alerts could not be written in time")
        time.sleep(pause)
        pause = min(2 * pause, MOST_PAUSE_SECONDS)


def to_mqtt() -> bool:
    """Publishes what was not published yet; whether that is everything, and by this call. Raises `NotNow`."""
    return _deliver_all("mqtt", notices.publish)


def to_database() -> bool:
    """Writes what was not written yet; whether that is everything, and by this call. Raises `NotNow`."""
    return _deliver_all("database", writing.write)


def is_not_queued(group: Group) -> None:
    """Notes that no task waits in the queue: what is added from now on wants another one."""
    client().delete(_queued(group))


def note_told() -> None:
    """Notes in the database what users were told, for the case that Redis loses it."""
    position = stream.delivered_position("mqtt")
    if position is None or client().get(OUTBOX_TOLD) == str(position).encode():
        return
    try:
        with database.access() as connection:
            tables.note_told(connection, position)
    except psycopg.Error as error:
        # Only after a loss of Redis it would show: the users would be told again what they know.
        log.warning("told_not_noted", error=str(error).strip())
        return
    client().set(OUTBOX_TOLD, position)


def _deliver_all(group: Group, deliver: stream.Deliver) -> bool:
    # Before reading: what is added from now on wants another task.
    is_not_queued(group)
    try:
        return turns.run_alone(f"notify:{group}", lambda turn: stream.drain(group, turn, deliver))
    except turns.TurnLost:
        log.info("delivery_left_to_another", group=group)
        return False


def _queued(group: Group) -> str:
    return f"sluice:notify:{group}:queued"
