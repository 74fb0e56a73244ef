"""Users with a change of an alert that fails in the database again and again while others pass."""

import json
import time
from collections.abc import Collection
from typing import NamedTuple

from tasks.servers.redis_client import OUTBOX_FAILING, OUTBOX_GIVEN_UP, client, text

MOST_PAUSE_SECONDS = 30
# Longer than an entry with such a change stays in the outbox.
REMEMBER_SECONDS = 86_400


class Failure(NamedTuple):
    """The item that fails, how often it has failed alone, and when it is tried again."""

    item: str
    times: int
    again_at: float

    @property
    def is_due(self) -> bool:
        """Whether it may be tried again."""
        return time.time() >= self.again_at


def known() -> dict[str, Failure]:
    """The failures, by user; there are rarely any. Raises `redis.RedisError`."""
    return {
        text(user): Failure(*json.loads(value)) for user, value in client().hgetall(OUTBOX_FAILING).items()
    }


def among(users: list[str]) -> set[str]:
    """The users among these who have a failure. Raises `redis.RedisError`."""
    found = client().hmget(OUTBOX_FAILING, users)
    return {user for user, value in zip(users, found, strict=True) if value is not None}


def note(user: str, item: str, before: Failure | None) -> Failure:
    """The user's failure after one more of this item. Raises `redis.RedisError`."""
    times = before.times + 1 if before is not None and before.item == item else 1
    failure = Failure(item, times, time.time() + min(2**times, MOST_PAUSE_SECONDS))
    client().hset(OUTBOX_FAILING, user, json.dumps(failure))
    return failure


def forget(user: str) -> None:
    """Forgets the user's failure: the database takes the changes again. Raises `redis.RedisError`."""
    client().hdel(OUTBOX_FAILING, user)


def give_up(item: str) -> None:
    """Remembers that the item is a dead letter. Raises `redis.RedisError`."""
    pipeline = client().pipeline(transaction=False)
    pipeline.sadd(OUTBOX_GIVEN_UP, item)
    pipeline.expire(OUTBOX_GIVEN_UP, REMEMBER_SECONDS)
    pipeline.execute()


def given_up(items: Collection[str]) -> set[str]:
    """The items among these that are dead letters by now. Raises `redis.RedisError`."""
    names = list(items)
    if not names:
        return set()
    flags = client().smismember(OUTBOX_GIVEN_UP, names)
    return {name for name, flag in zip(names, flags, strict=True) if flag}
