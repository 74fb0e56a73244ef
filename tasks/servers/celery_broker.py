"""Celery's broker: the Redis that holds everything else, or RabbitMQ; its connection, and its queues' length.

With either broker, leases, states, counters and the parts of batches are in Redis.
"""

import os
import ssl
import threading
from collections.abc import Iterable
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import redis
from kombu import Connection, Queue
from kombu.exceptions import OperationalError

from tasks.servers import redis_client
from tasks.settings import Settings, settings

# RabbitMQ's reply code for a queue that is not declared yet.
NOT_FOUND = 404


class CeleryBrokerAway(Exception):
    """The broker does not report the length of its queues."""


def url(chosen: Settings) -> str:
    """The URL of the broker, with its password."""
    return chosen.celery_broker_url.get_secret_value() if chosen.celery_broker_url else redis_url(chosen)


def redis_url(chosen: Settings) -> str:
    """The URL of Redis as Celery knows it, with its password: for the broker, and for the results."""
    if chosen.redis_sentinels() is None:
        return chosen.redis_url.get_secret_value()
    from tasks.servers import redis_sentinel  # noqa: PLC0415 - few sites have Sentinels

    return redis_sentinel.celery_url(chosen)


def tls_options(chosen: Settings) -> dict[str, Any]:
    """The options of a connection besides the URL: empty, or how the broker is verified."""
    if chosen.celery_broker_url is None:
        return redis_client.tls_options(chosen)
    parts = urlsplit(url(chosen))
    if parts.scheme != "amqps":
        return {}
    return {
        "cert_reqs": ssl.CERT_REQUIRED,
        # Without a name any certificate of the authority would do.
        "server_hostname": parts.hostname,
        **({"ca_certs": str(chosen.tls_ca_file)} if chosen.tls_ca_file else {}),
    }


def transport_options(chosen: Settings) -> dict[str, Any]:
    """Kombu's options for the broker besides its address."""
    if chosen.celery_broker_url is None:
        return {
            **redis_sockets(chosen),
            "visibility_timeout": chosen.celery_visibility_timeout_seconds,
            "priority_steps": [0],  # one priority: each further one is one more list to ask at every poll
        }
    return {
        # A task counts as sent once RabbitMQ confirms it; otherwise one that it cannot take is lost silently.
        "confirm_publish": True,
        "read_timeout": chosen.redis_timeout_seconds,
        "write_timeout": chosen.redis_timeout_seconds,
    }


def redis_sockets(chosen: Settings) -> dict[str, Any]:
    """Options by which Celery's connections to Redis notice that they have stalled.

    Without them a worker can wait forever on a Redis that came back.
    """
    options = {
        "socket_timeout": chosen.redis_timeout_seconds,
        "socket_connect_timeout": chosen.redis_timeout_seconds,
        "socket_keepalive": True,
        "health_check_interval": 10,
        "retry_on_timeout": True,
    }
    if chosen.redis_sentinels() is None:
        return options
    from tasks.servers import redis_sentinel  # noqa: PLC0415 - few sites have Sentinels

    return options | redis_sentinel.celery_options(chosen)


def waiting(queues: Iterable[str]) -> dict[str, int]:
    """How many tasks wait in each queue for a worker. Raises `CeleryBrokerAway`. For any thread."""
    if settings().celery_broker_url is not None:
        return _rabbitmq(os.getpid()).waiting(queues)
    names = list(queues)
    try:
        pipeline = redis_client.client().pipeline(transaction=False)
        for name in names:
            pipeline.llen(name)
        return dict(zip(names, pipeline.execute(), strict=True))
    except redis.RedisError as error:
        raise CeleryBrokerAway(str(error)) from error


class _RabbitMQ:
    """One connection for all callers, one after the other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: Connection | None = None

    def waiting(self, queues: Iterable[str]) -> dict[str, int]:
        with self._lock:
            connection = self._connection = self._connection or _connect()
            away: tuple[type[BaseException], ...] = (
                OperationalError,
                *connection.connection_errors,
                *connection.channel_errors,
            )
            try:
                return {name: _count(connection, name) for name in queues}
            except away as error:
                connection.collect()
                self._connection = None
                raise CeleryBrokerAway(str(error) or type(error).__name__) from error


@lru_cache
def _rabbitmq(_process: int) -> _RabbitMQ:
    """One for each process: a child must not use the connection, or the lock, that it has inherited."""
    return _RabbitMQ()


def _connect() -> Connection:
    chosen = settings()
    return Connection(
        url(chosen),
        ssl=tls_options(chosen) or False,
        transport_options=transport_options(chosen),
        connect_timeout=chosen.redis_timeout_seconds,
    )


def _count(connection: Connection, queue: str) -> int:
    connection.ensure_connection(max_retries=1)
    with connection.channel() as channel:
        try:
            declared: Any = Queue(queue, channel=channel).queue_declare(passive=True)  # the stubs say str
        except connection.channel_errors as error:
            if getattr(error, "code", None) == NOT_FOUND:
                return 0
            raise
    return int(declared.message_count)
