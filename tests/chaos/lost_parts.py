"""Servers that come back with less than they had: Redis without its last writes, a topic made again."""

import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import redis
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from compose.local import ports, servers
from compose.local.envfile import write_private
from compose.local.layout import Layout
from compose.local.passwords import password
from ingest.admin.servers import topics
from tasks.settings import Settings
from tests.chaos.place import Place, await_return
from tests.integration import fleet
from tests.integration.lag import wait_for_no_lag
from tests.integration.redis_servers import OwnRedis

TOPIC, GROUP = "iot-stream", "sluice-bridge"
SNAPSHOT = "dump.rdb"
# What it takes to store all that is in Kafka.
ALL_THE_WAY = ("gateway", "kafka", "bridge", "redis", "worker", "postgres")


@dataclass(frozen=True)
class OldSnapshot:
    """Redis is killed, and starts with a snapshot of some seconds ago."""

    name: str = "redis restarts from an old snapshot"
    touches: frozenset[str] = frozenset({"redis"})
    seconds: float = 5
    killed: list[int] = field(default_factory=list)

    def begin(self, place: Place) -> None:
        """What is written from now on will be lost."""
        _save(place.redis_url)

    def end(self, place: Place) -> None:
        """Returns when it answers."""
        pid = place.stack.pid("redis")
        fleet.kill(pid)
        await_return(place.stack, "redis", pid)
        _snapshot(place).unlink()


@dataclass(frozen=True)
class FailOver:
    """A replica that lacks the last writes takes over, and hands back some seconds later."""

    name: str = "redis fails over to a replica that is behind"
    touches: frozenset[str] = frozenset({"redis"})
    seconds: float = 5
    replicas: list[OwnRedis] = field(default_factory=list)

    def begin(self, place: Place) -> None:
        """The replica gets everything up to now, and nothing from now on."""
        layout = Layout(Path(tempfile.mkdtemp(prefix="replica-", dir=place.stack.layout.base)))
        layout.make()
        secret = password(place.stack.layout, "redis")
        write_private(layout.secret("redis"), secret)
        port = _port(place)
        numbers = ports.free({})
        servers.configure(servers.REDIS, layout, numbers)
        servers.initialise(servers.REDIS, layout)
        replica = OwnRedis(layout, numbers["REDIS_PORT"])
        self.replicas.append(replica)
        replica.start()
        replica.replicate(OwnRedis(place.stack.layout, port))
        replica.promote()

    def end(self, place: Place) -> None:
        """Returns when the stack's own server is there again."""
        replica = self.replicas.pop()
        try:
            place.stack.stop("redis")
            replica.move(_port(place))
            time.sleep(self.seconds)
            replica.save()
            replica.kill()
            shutil.copyfile(replica.layout.data("redis") / SNAPSHOT, _snapshot(place))
            place.stack.start("redis")
            _snapshot(place).unlink()
        finally:
            if replica.process is not None:
                replica.kill()
            shutil.rmtree(replica.layout.base)


@dataclass(frozen=True)
class TopicMadeAgain:
    """The topic is deleted and created again, all of it being stored: its offsets begin at 0 once more."""

    name: str = "topic deleted and made again"
    touches: frozenset[str] = frozenset(ALL_THE_WAY)
    seconds: float = 0

    def begin(self, place: Place) -> None:
        """Without a gateway nothing comes; the MQTT broker keeps what devices send."""
        place.stack.stop("gateway")
        wait_for_no_lag(place.stack)
        place.before_deletion()
        chosen = Settings(_env_file=place.stack.layout.env)
        admin = AdminClient({"bootstrap.servers": chosen.kafka_bootstrap_servers})
        admin.delete_topics([TOPIC])[TOPIC].result(30)
        fleet.wait_until(
            lambda: TOPIC not in admin.list_topics(timeout=10).topics, 30, "the topic to be gone"
        )
        fleet.wait_until(lambda: _made(chosen), 30, "the topic to be there again")
        place.made_again = True

    def end(self, place: Place) -> None:
        """What devices sent meanwhile comes."""
        place.stack.start("gateway")


def _made(chosen: Settings) -> bool:
    # While the old one is still being removed, its name is taken.
    with suppress(topics.TopicRefused, KafkaException):
        return all(outcome.topic.name != TOPIC or outcome.created for outcome in topics.ensure(chosen))
    return False


def _save(url: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.save()


def _snapshot(place: Place) -> Path:
    return place.stack.layout.data("redis") / SNAPSHOT


def _port(place: Place) -> int:
    port = urlsplit(place.redis_url).port
    assert port is not None
    return port
