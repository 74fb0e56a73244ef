"""Telling of alerts: the outbox to the users over MQTT, and to `active_alerts` and `alert_history`.

The two ways know nothing of each other: a broker that is away holds up the first, a database the second.
Each is gone by one worker at a time, in the order of the outbox; an entry counts as delivered after the
broker's PUBACK, or the commit. Who dies between the two leaves it to the next, so a user may hear of a change
again, under the same `alert_id` and status, and the tables have it once.
"""

import time
from collections.abc import Mapping
from typing import Any

import psycopg
import redis
import structlog
from kombu.exceptions import OperationalError

from tasks import backoff, database, exclusive, failing, notices, outbox
from tasks.alerts import tables, writing
from tasks.app import app
from tasks.errors import DatabaseAway, NotNow
from tasks.outbox import Group, backlog, require_room
from tasks.redis_client import OUTBOX_TOLD, client

log = structlog.get_logger()

__all__ = ["backlog", "deliver_database", "deliver_mqtt", "require_room", "settle", "wake"]

# Between looks at what another worker delivers.
FIRST_PAUSE_SECONDS, MOST_PAUSE_SECONDS = 0.01, 0.5
# A mark of a task that was lost in its queue must not keep others from being sent.
QUEUED_SECONDS = 30


def wake() -> None:
    """Has what was added to the outbox delivered at once; at most one task waits in each queue.

    It never fails: what cannot be sent now is left to the sweep.
    """
    tasks: dict[Group, Any] = {"mqtt": deliver_mqtt, "database": deliver_database}
    try:
        for group, task in tasks.items():
            if client().set(_queued(group), 1, nx=True, ex=QUEUED_SECONDS):
                task.apply_async()
    except (redis.RedisError, OperationalError) as error:
        log.warning("delivery_not_woken", error=str(error))


def settle(seconds: float, awaited: Mapping[str, int] | None = None) -> None:
    """Returns when what users had in the outbox by `outbox.awaited`, or all of it, is in the tables.

    From then on Redis may lose it: it is told again from there. Raises `DatabaseAway` after so many seconds,
    or as soon as a change of one of these users fails by itself, and `redis.RedisError`.
    """
    last = outbox.last()
    if last is None:
        return

    def settled() -> bool:
        if awaited is not None:
            return outbox.are_written(awaited)
        return outbox.backlog() == 0 or outbox.has_delivered("database", last)

    deadline = time.monotonic() + seconds
    pause = FIRST_PAUSE_SECONDS
    while not settled():
        try:
            _deliver_all("database", writing.write)
        except NotNow as error:
            log.info("settling_waits", error=str(error))
        if settled():
            return
        # Others need not wait for this one: its readings are left for later, and the batch is sent again.
        if awaited and failing.among(list(awaited)):
            raise DatabaseAway("a change of an alert fails again and again")
        if time.monotonic() + pause > deadline:
            raise DatabaseAway("changes of alerts could not be written in time")
        time.sleep(pause)
        pause = min(2 * pause, MOST_PAUSE_SECONDS)


@app.task(name="tasks.notify.deliver_mqtt")
def deliver_mqtt() -> None:
    """Publishes on `users/{user}/alerts` what was not published yet. Waits for nothing but the broker."""
    if backoff.rests("notify:mqtt"):
        client().delete(_queued("mqtt"))
        return
    try:
        if _deliver_all("mqtt", notices.publish):
            backoff.succeeded("notify:mqtt")
    except NotNow as error:
        log.warning(
            "delivery_waits", group="mqtt", error=str(error), again_in_s=backoff.failed("notify:mqtt")
        )


@app.task(name="tasks.notify.deliver_database", queue="db")
def deliver_database() -> None:
    """Writes to the tables what was not written yet. Waits for nothing but the database."""
    try:
        _deliver_all("database", writing.write)
        _note_told()
    except NotNow as error:
        # The breaker sees to the pauses.
        log.warning("delivery_waits", group="database", error=str(error))


def _note_told() -> None:
    position = outbox.delivered_position("mqtt")
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


def _deliver_all(group: Group, deliver: outbox.Deliver) -> bool:
    """Whether everything is delivered now, and by this call."""
    # Before reading: what is added from now on wants another task.
    client().delete(_queued(group))
    try:
        return exclusive.run_alone(f"notify:{group}", lambda turn: outbox.drain(group, turn, deliver))
    except exclusive.TurnLost:
        log.info("delivery_left_to_another", group=group)
        return False


def _queued(group: Group) -> str:
    return f"sluice:notify:{group}:queued"
