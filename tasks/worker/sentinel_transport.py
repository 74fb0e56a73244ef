"""Celery's broker and results on a Redis behind Sentinels, by connections that stay with the master."""

from typing import Any

from celery.backends.redis import SentinelBackend
from kombu.transport import redis as kombu_redis

from tasks.servers.redis_sentinel import MasterConnection, MasterTLSConnection
from tasks.worker import redis_transport


class Channel(redis_transport.Channel, kombu_redis.SentinelChannel):
    """Sluice's channel, on the master of the moment."""

    connection_class = MasterConnection
    connection_class_ssl = MasterTLSConnection


class Transport(redis_transport.Transport):
    """Sluice's transport, on the master of the moment."""

    default_port = kombu_redis.SentinelTransport.default_port
    Channel = Channel


class Backend(SentinelBackend):
    """Celery's results, on the master of the moment."""

    connection_class_ssl = MasterTLSConnection

    def _get_pool(self, **params: Any) -> Any:
        chosen = {"connection_class": MasterConnection, **params}
        return super()._get_pool(**chosen)  # type: ignore[misc]  # not in the stubs
