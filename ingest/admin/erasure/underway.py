"""Waits until the messages that have come are stored and counted, so that none comes after an erasure."""

import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from typing import Any

from ingest.admin.erasure.erase_tables import Target
from ingest.admin.errors import OperatorError
from ingest.admin.postgres import Connection
from ingest.admin.servers.positions import Positions
from tasks import registry
from tasks.outbox.entry import parse_id
from tasks.servers.pauses import pauses
from tasks.servers.redis_client import DEVICES_ACTIVE, client, text
from tasks.settings import settings

MOST_SECONDS = 60.0
# A device's message takes moments to reach Kafka; a device that is silent for this long has stopped.
SILENT_SECONDS = 60

_COUNTED = "SELECT position #>> '{}' FROM device_positions WHERE source = 'activity'"
_HEARD = """
SELECT max(last_seen), now() FROM devices
WHERE user_id = %(user)s AND (%(device)s::text IS NULL OR device_id = %(device)s)
"""
_ACCOUNTS = """
SELECT username FROM mqtt_users
WHERE enabled AND user_id = %(user)s
    AND (%(device)s::text IS NULL OR kind = 'device' AND device_id = %(source)s)
ORDER BY username
"""


def await_settled(connection: Connection) -> None:
    """Returns when what Kafka has now is stored and counted in the registry.

    Raises `OperatorError` when that takes more than a minute, `redis.RedisError`, `psycopg.Error`.
    """
    chosen = settings()
    with closing(Positions(chosen.kafka_bootstrap_servers, chosen.kafka_group)) as positions:
        topics = [domain.qualified(chosen.kafka_topic) for domain in registry.domains()]
        ends = {topic: positions.ends(topic) for topic in topics}
        _await(
            lambda: not any(positions.lag(topic, ends[topic]) for topic in topics),
            "Messages that came before are not stored yet: `sluice status` shows how many wait, and why."
            " Run the command again when none does.",
        )
    newest: Any = client().xrevrange(DEVICES_ACTIVE, count=1)
    if newest:
        last = parse_id(text(newest[0][0]))
        _await(
            lambda: _counted(connection) >= last,
            "The registry of devices does not follow, so it is unknown whether the device is silent: see"
            " that beat and a worker of the queue db run, and run the command again.",
        )


def heard_seconds(connection: Connection, target: Target) -> float | None:
    """How long ago anything came, by the registry; None if nothing ever did. Raises `psycopg.Error`."""
    found = connection.execute(_HEARD, _values(target)).fetchone()
    if found is None or found[0] is None:
        return None
    last, now = found
    assert isinstance(last, datetime)
    assert isinstance(now, datetime)
    return max(0.0, (now - last).total_seconds())


def accounts(connection: Connection, target: Target) -> list[str]:
    """The usernames by which something of the target may still come. Raises `psycopg.Error`."""
    return [str(username) for (username,) in connection.execute(_ACCOUNTS, _values(target)).fetchall()]


def _values(target: Target) -> dict[str, str | None]:
    return {"user": target.user_id, "device": target.device_id, "source": target.source_id}


def _counted(connection: Connection) -> tuple[int, int]:
    found = connection.execute(_COUNTED).fetchone()
    return (-1, 0) if found is None or found[0] is None else parse_id(str(found[0]))


def _await(condition: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + MOST_SECONDS
    waits = pauses(0.05, 1.0)
    while not condition():
        if time.monotonic() > deadline:
            raise OperatorError(otherwise)
        time.sleep(next(waits))
