"""The status that each gateway writes to Redis once a second, for the clock of the alerts."""

from typing import NamedTuple

from tasks.servers.redis_client import GATEWAYS, client, text

# How long a message may take from a gateway into Kafka; a gateway that is slower does not listen.
ON_THE_WAY_MS = 2000


class GatewayStatus(NamedTuple):
    """A gateway's last status: since when it has listened without a break, 0 if it does not; and its time.

    Both are by Redis' clock. `skew_ms` is how far the gateway's own clock, which stamps records, is ahead.
    """

    since_ms: int
    said_ms: int
    skew_ms: int = 0


def write(name: str, status: GatewayStatus) -> None:
    """Writes the status under the gateway's name. Raises `redis.RedisError`."""
    client().hset(GATEWAYS, name, " ".join(map(str, status)))


def read() -> dict[str, GatewayStatus]:
    """The status of every gateway that was not removed, by name. Raises `redis.RedisError`."""
    # A gateway of an earlier version does not write the third number.
    return {
        text(name): GatewayStatus(*map(int, text(value).split(" ")))
        for name, value in client().hgetall(GATEWAYS).items()
    }


def forget(names: list[str]) -> None:
    """Removes gateways. Raises `redis.RedisError`."""
    if names:
        client().hdel(GATEWAYS, *names)
