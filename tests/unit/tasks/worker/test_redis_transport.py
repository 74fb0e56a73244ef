"""Kombu's channel over Redis: one client for all of its commands."""

from types import SimpleNamespace
from typing import Any

import redis

from tasks.worker.redis_transport import Channel


def channel() -> Any:
    """A channel of no connection, whose pool is whatever `_pool` is."""
    made: Any = object.__new__(Channel)
    made._pool = redis.ConnectionPool()
    made.Client = redis.Redis
    made.connection = SimpleNamespace(client=None)
    return made


def test_the_client_is_kept_for_as_long_as_its_pool() -> None:
    """Commands share it; after a fork or a lost connection kombu has another pool, and so another client."""
    made = channel()
    with made.conn_or_acquire() as first, made.conn_or_acquire() as second:
        assert first is second
    made._pool = redis.ConnectionPool()
    with made.conn_or_acquire() as third:
        assert third is not first
        assert third.connection_pool is made._pool
