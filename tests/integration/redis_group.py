"""Redis on three machines, each with a Sentinel, that a test may kill, hang, cut off and bring back.

A machine is an address of the loopback network. Each server is reached through a proxy, by the others too, so
that a machine can be cut off. The configuration is that which docs/deploy.md asks for.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from compose.local import ports, servers
from compose.local.envfile import write_private
from compose.local.layout import Layout
from compose.local.passwords import password
from tests.chaos.proxy import Proxy
from tests.integration import machines
from tests.integration.fleet import wait_until
from tests.integration.machines import Process

MASTER = "sluice"
COUNT = 3
# A master that is silent for so long is down; a failover that fails is tried again after twice the other.
DOWN_SECONDS, FAILOVER_SECONDS = 3, 6
ELECTED_SECONDS = 60
# Of a machine that gets into trouble; nothing but configuration is written.
DISK_BYTES = 16 * 2**20
ONCE = Retry(NoBackoff(), 0)

REDIS = """
bind {address}
port {inside}
replica-announce-ip {address}
replica-announce-port {port}
masterauth {secret}
repl-diskless-sync-delay 0
repl-backlog-size 64mb
# A master that no replica follows takes no writes: another may be the master.
min-replicas-to-write 1
min-replicas-max-lag 10
"""
SENTINEL = """
bind {address}
port {inside}
requirepass {sentinels}
sentinel announce-ip {address}
sentinel announce-port {port}
sentinel sentinel-pass {sentinels}
sentinel monitor {name} {master} {master_port} 2
sentinel auth-pass {name} {secret}
sentinel down-after-milliseconds {name} {down}
sentinel failover-timeout {name} {failover}
sentinel parallel-syncs {name} 2
"""
# Both rewrite their configuration, which therefore lies with their data.
SERVER = replace(servers.REDIS, command="redis-server /srv/data/redis.conf")
SENTINEL_SERVER = replace(
    servers.REDIS, name="sentinel", command="redis-server /srv/data/sentinel.conf --sentinel"
)


@dataclass
class Machine(machines.Machine):
    """One address with a Sentinel and a server, whose memory is lost when it is killed."""

    address: str

    @property
    def sentinel(self) -> Process:
        """The Sentinel."""
        return self.processes[0]

    @property
    def server(self) -> Process:
        """Redis."""
        return self.processes[1]


class RedisGroup:
    """The machines; the first is the master at first."""

    def __init__(self, folder: Path, *, troubles: bool = False) -> None:
        free = list(ports.free({}).values())
        self._port, inside, self._sentinel_port, sentinel_inside = free[:4]
        self.machines: list[Machine] = []
        for number in range(COUNT):
            layout = Layout(folder / f"machine{number + 1}")
            layout.make()
            if self.machines:
                first = self.machines[0].layout
                write_private(layout.secret("redis"), password(first, "redis"))
                write_private(layout.secret("sentinel"), password(first, "sentinel"))
            address = f"127.0.0.{number + 2}"
            machine = Machine(
                address,
                layout=layout,
                processes=[Process(SENTINEL_SERVER, layout), Process(SERVER, layout)],
                to=[
                    Proxy(sentinel_inside, address, self._sentinel_port),
                    Proxy(inside, address, self._port),
                ],
            )
            self.machines.append(machine)
            layout.conf("sentinel").mkdir(parents=True, exist_ok=True, mode=0o700)
            servers.configure(servers.REDIS, layout, {"REDIS_PORT": inside})
            if troubles:
                machine.prepare_troubles(DISK_BYTES)
            self._configure(machine, inside, sentinel_inside)
        self.secret = password(self.machines[0].layout, "redis")
        self.sentinels_secret = password(self.machines[0].layout, "sentinel")

    def _configure(self, machine: Machine, inside: int, sentinel_inside: int) -> None:
        layout, first = machine.layout, self.machines[0]
        secret, sentinels = password(layout, "redis"), password(layout, "sentinel")
        for name in ("redis", "sentinel"):
            layout.data(name).mkdir(parents=True, mode=0o700)
        common = (layout.conf("redis") / "redis.conf").read_text()
        own = REDIS.format(address=machine.address, inside=inside, port=self._port, secret=secret)
        if machine is not first:
            own += f"replicaof {first.address} {self._port}\n"
        write_private(layout.data("redis") / "redis.conf", common + own)
        write_private(
            layout.data("sentinel") / "sentinel.conf",
            SENTINEL.format(
                address=machine.address,
                inside=sentinel_inside,
                port=self._sentinel_port,
                sentinels=sentinels,
                name=MASTER,
                master=first.address,
                master_port=self._port,
                secret=secret,
                down=DOWN_SECONDS * 1000,
                failover=FAILOVER_SECONDS * 1000,
            ),
        )

    @property
    def settings(self) -> dict[str, str]:
        """The settings by which Sluice finds the master."""
        places = ",".join(f"{machine.address}:{self._sentinel_port}" for machine in self.machines)
        return {
            "REDIS_URL": f"redis+sentinel://:{self.secret}@{places}/0?master={MASTER}",
            "REDIS_SENTINEL_PASSWORD": self.sentinels_secret,
        }

    def start(self) -> None:
        """Starts all, and returns when each replica and each Sentinel is known."""
        for machine in self.machines:
            machine.server.start()
        for machine in self.machines:
            machine.sentinel.start()
        self.await_whole()

    def close(self) -> None:
        """Kills all."""
        for machine in self.machines:
            machine.close()

    def client(self, machine: Machine) -> redis.Redis:
        """A client of one machine's server."""
        return redis.Redis(
            host=machine.address, port=self._port, password=self.secret, socket_timeout=1, retry=ONCE
        )

    def master(self) -> Machine | None:
        """The master by the majority of the Sentinels that answer, if it says so itself."""
        said: list[str] = []
        for machine in self.machines:
            with suppress(redis.RedisError), self._sentinel(machine) as sentinel:
                said.append(sentinel.sentinel_get_master_addr_by_name(MASTER)[0])
        for machine in self.machines:
            if said.count(machine.address) > COUNT // 2 and self._role(machine) == "master":
                return machine
        return None

    def await_master(self, *, other_than: Machine | None = None) -> Machine:
        """The master, once there is one."""
        found: list[Machine] = []

        def there_is() -> bool:
            found[:] = [one for one in [self.master()] if one is not None and one is not other_than]
            return bool(found)

        wait_until(there_is, ELECTED_SECONDS, "a master")
        return found[0]

    def await_whole(self) -> None:
        """Returns when all others follow the master, and each Sentinel knows of all of them."""
        wait_until(self._is_whole, 2 * ELECTED_SECONDS, "the replicas and Sentinels to be there")

    def fail_over(self) -> None:
        """Asks a Sentinel for a failover, as an operator does before work on a machine."""
        deadline = time.monotonic() + ELECTED_SECONDS
        while True:
            try:
                with self._sentinel(self.machines[0]) as sentinel:
                    sentinel.execute_command("SENTINEL", "FAILOVER", MASTER)
            except redis.ResponseError:
                # The replica's last sign of life is too old, or a failover has just been.
                assert time.monotonic() < deadline
                time.sleep(0.2)
            else:
                return

    def _is_whole(self) -> bool:
        master = self.master()
        if master is None:
            return False
        try:
            with self.client(master) as asked:
                following = asked.info("replication")["min_slaves_good_slaves"]
            return following == COUNT - 1 and all(self._knows_all(one, master) for one in self.machines)
        except redis.RedisError:
            return False

    def _knows_all(self, machine: Machine, master: Machine) -> bool:
        with self._sentinel(machine) as sentinel:
            state = sentinel.sentinel_master(MASTER)
            replicas = sentinel.sentinel_slaves(MASTER)
        others = COUNT - 1
        return (
            (state["ip"], state["flags"]) == (master.address, "master")
            and (len(replicas), state["num-other-sentinels"]) == (others, others)
            and not any(one["is_sdown"] or one["is_disconnected"] for one in replicas)
        )

    def _sentinel(self, machine: Machine) -> redis.Redis:
        return redis.Redis(
            host=machine.address,
            port=self._sentinel_port,
            password=self.sentinels_secret,
            socket_timeout=1,
            decode_responses=True,
            retry=ONCE,
        )

    def _role(self, machine: Machine) -> str:
        with suppress(redis.RedisError), self.client(machine) as asked:
            return str(asked.info("replication")["role"])
        return "away"


@contextmanager
def redis_group(folder: Path, *, troubles: bool = False) -> Iterator[RedisGroup]:
    """A group that runs, and is killed at the end."""
    group = RedisGroup(folder, troubles=troubles)
    try:
        group.start()
        yield group
    finally:
        group.close()
