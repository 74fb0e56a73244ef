"""Redis behind Sentinels: connections that go to the master of the moment, Sluice's own and Celery's.

After a failover the old master may still answer, as a replica or, for some seconds, as a master without
replicas. What it refuses then means that Redis is away and is to be asked again: the next connection asks the
Sentinels.
"""

import os
import socket
import threading
from contextlib import suppress
from typing import Any
from urllib.parse import quote
from weakref import WeakSet

import redis
import structlog
from redis.backoff import NoBackoff
from redis.connection import SSLConnection
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel, SentinelManagedConnection

from tasks.servers.redis_client import tls_options
from tasks.settings import Settings
from tasks.settings.servers import Sentinels

log = structlog.get_logger()

# A Sentinel that does not answer is passed over; all together may take as long as one answer of Redis.
MOST_SECONDS = 1.0
_made: WeakSet["MasterConnection"] = WeakSet()
_lock = threading.Lock()
# Celery's scheme for Sentinels.
SCHEME = "sentinel"


class NotTheMaster(redis.ConnectionError):
    """The server is not a master, or is one that has lost its replicas to another master."""


class MasterConnection(SentinelManagedConnection):
    """A connection to the master. When its server ceases to be one it breaks, and is made again."""

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Sends, by a new connection where there is none.

        redis-py would make that to the server of before, however long that does not answer.
        """
        if not self._sock:
            self.connect()  # type: ignore[no-untyped-call]
        super().send_packed_command(command, check_health=check_health)  # type: ignore[no-untyped-call]

    def _connect_retry(self) -> None:
        try:
            super()._connect_retry()  # type: ignore[no-untyped-call]
        except MasterNotFoundError:
            # The error's own text names every Sentinel with all its options.
            name = self.connection_pool.service_name
            raise NotTheMaster(f"the Sentinels know no master {name!r} at present") from None

    def connect_to(self, address: tuple[str, int]) -> None:
        """Connects, and refuses a server that does not count itself as the master."""
        super().connect_to(address)  # type: ignore[no-untyped-call]
        self.send_command("INFO", "replication")  # type: ignore[no-untyped-call]
        reply = self.read_response()
        if "role:master" not in (reply.decode() if isinstance(reply, bytes) else str(reply)):
            self.disconnect()  # type: ignore[no-untyped-call]
            raise NotTheMaster(f"{address[0]}:{address[1]} is a replica; the Sentinels do not know yet")
        with _lock:
            _made.add(self)

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        """Reads a reply. Too few replicas are not an answer to a command: another may be the master.

        redis-py treats the refusals of a replica in the same way.
        """
        try:
            return super().read_response(*arguments, **options)
        except redis.ResponseError as error:
            if not str(error).startswith("NOREPLICAS"):
                raise
            self.disconnect()  # type: ignore[no-untyped-call]
            raise NotTheMaster(str(error)) from error


class MasterTLSConnection(MasterConnection, SSLConnection):
    """The same over TLS."""


def connect(chosen: Settings, **options: Any) -> redis.Redis:
    """A pooled client of the master, with these options for its connections."""
    place = _place(chosen)
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        place.addresses, sentinel_kwargs=sentinel_options(chosen)
    )
    made: redis.Redis = sentinel.master_for(  # type: ignore[no-untyped-call]
        place.master,
        db=place.database,
        username=place.username,
        password=place.password,
        connection_class=connection_class(encrypted=is_encrypted(chosen)),
        **options,
    )
    return made


def leave_others(client: redis.Redis) -> None:
    """Breaks this process's connections to any other server than the master that the client found last.

    A thread that waits without a timeout for a machine that is gone would wait forever.
    """
    master = getattr(client.connection_pool, "master_address", None)
    with _lock:
        # A child's copy of its parent's connection shares the socket.
        own = [one for one in _made if one.pid == os.getpid()]
    for connection in own:
        other = (connection.host, connection.port) != master
        if master is not None and other and (used := connection._sock) is not None:
            log.warning("left_old_master", address=f"{connection.host}:{connection.port}")
            with suppress(OSError):
                used.shutdown(socket.SHUT_RDWR)
            with _lock:
                _made.discard(connection)


def connection_class(*, encrypted: bool) -> type[MasterConnection]:
    """The class of connections to the master."""
    return MasterTLSConnection if encrypted else MasterConnection


def is_encrypted(chosen: Settings) -> bool:
    """Whether the Sentinels and the servers are reached by TLS."""
    return chosen.redis_url.get_secret_value().startswith("rediss+")


def sentinel_options(chosen: Settings) -> dict[str, Any]:
    """The options of a connection to a Sentinel."""
    place, password = _place(chosen), chosen.redis_sentinel_password
    seconds = min(MOST_SECONDS, chosen.redis_timeout_seconds / len(place.addresses))
    return {
        "socket_timeout": seconds,
        "socket_connect_timeout": seconds,
        # The next one is asked instead.
        "retry": Retry(NoBackoff(), 0),
        "username": chosen.redis_sentinel_username,
        "password": password.get_secret_value() if password else None,
        **({"ssl": True, **tls_options(chosen)} if is_encrypted(chosen) else {}),
    }


def celery_url(chosen: Settings) -> str:
    """The same place as Celery knows it: a URL for each Sentinel, with the login of the servers."""
    place = _place(chosen)
    login = quote(place.username or "", safe="")
    if place.password is not None:
        login += f":{quote(place.password, safe='')}"
    at = f"{login}@" if login else ""
    # Without brackets an IPv6 address has no end.
    hosts = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in place.addresses]
    return ";".join(f"{SCHEME}://{at}{host}/{place.database}" for host in hosts)


def celery_options(chosen: Settings) -> dict[str, Any]:
    """What Celery's transport and its backend need besides the URL."""
    return {"master_name": _place(chosen).master, "sentinel_kwargs": sentinel_options(chosen)}


def _place(chosen: Settings) -> Sentinels:
    place = chosen.redis_sentinels()
    assert place is not None
    return place
