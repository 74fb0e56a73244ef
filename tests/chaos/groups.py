"""A place whose servers are groups of machines, with more processes than one of a kind."""

import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import redis

from compose.local import preparation
from compose.local.passwords import password
from compose.local.programs import MOSQUITTO_AUTH
from compose.local.servers import SERVICE
from compose.local.stack import Stack
from tests.chaos.more_processes import MoreProcesses, moved
from tests.chaos.place import Place
from tests.integration.kafka_group import KafkaGroup, kafka_group
from tests.integration.machines import Machine
from tests.integration.postgres_pair import PostgresPair, postgres_pair
from tests.integration.redis_group import RedisGroup, redis_group

Group = RedisGroup | KafkaGroup | PostgresPair
MADE: Mapping[str, Callable[..., AbstractContextManager[Group]]] = MappingProxyType(
    {"redis": redis_group, "kafka": kafka_group, "postgres": postgres_pair}
)


@dataclass
class GroupsPlace(Place):
    """A place some of whose servers are groups; the others are the stack's own."""

    groups: Mapping[str, Group] = field(kw_only=True)
    others: MoreProcesses = field(kw_only=True)

    @property
    def sentinels(self) -> RedisGroup:
        """Redis with Sentinels."""
        found = self.groups["redis"]
        assert isinstance(found, RedisGroup)
        return found

    @property
    def brokers(self) -> KafkaGroup:
        """Kafka."""
        found = self.groups["kafka"]
        assert isinstance(found, KafkaGroup)
        return found

    @property
    def pair(self) -> PostgresPair:
        """PostgreSQL with its standby."""
        found = self.groups["postgres"]
        assert isinstance(found, PostgresPair)
        return found

    def leading(self, server: str) -> Machine:
        """The machine of the server that most depends on: a master, a leader or a primary."""
        if server == "redis":
            return self.sentinels.await_master()
        return self.brokers.leader() if server == "kafka" else self.pair.primary

    def await_whole(self) -> None:
        """Returns when each group is whole."""
        for group in self.groups.values():
            group.await_whole()

    def redis(self) -> redis.Redis:
        """A client of the master."""
        if "redis" not in self.groups:
            return super().redis()
        return self.sentinels.client(self.sentinels.await_master())

    def rows_url(self) -> str:
        """The primary's, past its proxy."""
        return self.pair.url(self.pair.primary) if "postgres" in self.groups else super().rows_url()


@contextmanager
def groups_place(
    stack: Stack, servers: Collection[str], *, more: Mapping[str, int], troubles: bool = False
) -> Iterator[GroupsPlace]:
    """All processes, and some more of a kind, on groups of these servers.

    With `troubles` a machine's clock can be wrong and its disk full, which needs root or sudo.
    """
    before = stack.env
    folder = Path(tempfile.mkdtemp(prefix="machines-", dir=stack.layout.base))
    with ExitStack() as held:
        held.callback(shutil.rmtree, folder, ignore_errors=True)
        groups = {name: held.enter_context(MADE[name](folder, troubles=troubles)) for name in servers}
        own = {name: value for group in groups.values() for name, value in group.settings.items()}
        env = {**before, **own}
        if "kafka" in groups:
            preparation.topics(env)
        if "postgres" in groups:
            preparation.migrate(env)
            preparation.service_account(env, SERVICE, password(stack.layout, "mqtt"))
            preparation.rights(env)
        restart = [MOSQUITTO_AUTH] if "postgres" in groups else []
        others = held.enter_context(moved(stack, own, more=more, restart=restart))
        yield GroupsPlace(
            stack, {}, before["REDIS_URL"], env["DATABASE_DIRECT_URL"], groups=groups, others=others
        )
