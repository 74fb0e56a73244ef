"""Whether devices are there, by their last wills: noted by `process`, brought into the registry."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgpack

from tasks.devices import tables
from tasks.devices.activity import storable_ms
from tasks.domain.presence import Said
from tasks.servers import database
from tasks.servers.redis_client import DEVICES_PRESENCE, client, text
from tasks.servers.turns import Turn

# Parts of batches whose notes wait for the database; of more, the oldest are dropped: the next message of a
# device says it again.
MOST_WAITING = 20_000
AT_ONCE = 500


def note(domain: str, said: Sequence[Said]) -> None:
    """Keeps what the messages of a part say, for the next `flush`; does nothing without any.

    A part may be noted again: the newest message of a device counts. Raises `redis.RedisError`.
    """
    if said:
        fields: Any = {"part": msgpack.packb([domain, *newest(said)])}
        client().xadd(DEVICES_PRESENCE, fields, maxlen=MOST_WAITING, approximate=True)


def newest(said: Iterable[Said]) -> list[Said]:
    """For each device its message that arrived last; of two at once, the later."""
    found: dict[tuple[str, str], Said] = {}
    for one in said:
        key = one[:2]
        if key not in found or one.at_ms >= found[key].at_ms:
            found[key] = one
    return list(found.values())


def flush(turn: Turn) -> None:
    """Brings what was noted into the table, and drops it in Redis.

    Raises `redis.RedisError`, `psycopg.Error`, `TurnLost`.
    """
    while entries := _entries():
        turn.keep()
        by_domain: dict[str, list[Said]] = {}
        for _, part in entries:
            domain, *said = msgpack.unpackb(part)
            by_domain.setdefault(domain, []).extend(
                Said(user, device, online, storable_ms(at_ms)) for user, device, online, at_ms in said
            )
        with database.access() as connection, connection.transaction():
            for domain, said in by_domain.items():
                tables.add_presence(connection, domain, newest(said))
        client().xdel(DEVICES_PRESENCE, *[entry for entry, _ in entries])


def _entries() -> list[tuple[str, bytes]]:
    found: Any = client().xrange(DEVICES_PRESENCE, count=AT_ONCE)
    return [(text(entry), fields[b"part"]) for entry, fields in found]
