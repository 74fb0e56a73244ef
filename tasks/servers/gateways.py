"""What each gateway writes to Redis once a second, and the clock of the alerts reads."""

from typing import NamedTuple

from tasks.servers.redis_client import GATEWAYS, client, text

# What a gateway has received may be so long on its way into Kafka; one that is slower does not listen.
ON_THE_WAY_MS = 2000


class Gateway(NamedTuple):
    """What a gateway wrote last: since when it has listened without a break, 0 if it does not; and when.

    Both are by Redis' clock. `skew_ms` is how far the gateway's own, which stamps records, is ahead of it.
    """

    since_ms: int
    said_ms: int
    skew_ms: int = 0


def write(name: str, gateway: Gateway) -> None:
    """Writes it under the gateway's name. Raises `redis.RedisError`."""
    client().hset(GATEWAYS, name, " ".join(map(str, gateway)))


def read() -> dict[str, Gateway]:
    """Every gateway that has ever written, by name. Raises `redis.RedisError`."""
    # A gateway of an earlier version does not write the third number.
    return {
        text(name): Gateway(*map(int, text(value).split(" ")))
        for name, value in client().hgetall(GATEWAYS).items()
    }


def forget(names: list[str]) -> None:
    """Removes gateways. Raises `redis.RedisError`."""
    if names:
        client().hdel(GATEWAYS, *names)
