"""Kafka on three machines, each a broker and a controller, that a test may kill, hang and cut off.

A machine is an address of the loopback network, and reaches each of the others by an address of the two,
behind which is a proxy: so the network can fail for one machine, in both directions or in one. The
configuration is that which docs/deploy.md asks for.
"""

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from confluent_kafka import ElectionType, KafkaException
from confluent_kafka.admin import AdminClient, ClusterMetadata  # type: ignore[attr-defined]  # lacks an __all__

from compose.local import ports, servers
from compose.local.envfile import write_private
from compose.local.layout import Layout
from tests.chaos.proxy import Proxy
from tests.integration import machines
from tests.integration.fleet import wait_until

COUNT = 3
READY_SECONDS = 120
ANSWER_SECONDS = 10
# Until the elected broker is seen.
ELECTION_SECONDS = 1.0
# Of a machine that gets into trouble.
DISK_BYTES = 1024 * 2**20
CLIENT, INTERNAL, CONTROLLER = "CLIENT", "INTERNAL", "CONTROLLER"

PROPERTIES = """
node.id={number}
controller.quorum.voters={voters}
listeners={listeners}
advertised.listeners={advertised}
listener.security.protocol.map=CLIENT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=INTERNAL
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2
unclean.leader.election.enable=false
broker.session.timeout.ms=6000
broker.heartbeat.interval.ms=1000
"""
_HOSTS = "-Djdk.net.hosts.file=/srv/conf/hosts"
SERVER = replace(servers.KAFKA, command=servers.KAFKA.command.replace("java ", f"java {_HOSTS} ", 1))
ELECTED = "Becoming the active controller"


@dataclass
class Machine(machines.Machine):
    """One address with a broker."""

    number: int

    def stop(self) -> None:
        """The broker hands over what it leads, and ends."""
        for process in self.processes:
            process.stop(signal.SIGTERM)


class KafkaGroup:
    """The machines, numbered from 1."""

    def __init__(self, folder: Path, *, troubles: bool = False) -> None:
        free = list(ports.free({}).values())
        self._ports = dict(zip((CLIENT, INTERNAL, CONTROLLER), free, strict=False))
        self.machines: list[Machine] = []
        for number in range(1, COUNT + 1):
            layout = Layout(folder / f"kafka{number}")
            layout.make()
            machine = Machine(number, layout=layout, processes=[machines.Process(SERVER, layout)])
            self.machines.append(machine)
            machine.to.append(self._way(_own(number), _outside(number), CLIENT))
            self._configure(machine)
            if troubles:
                machine.prepare_troubles(DISK_BYTES)
        for one in self.machines:
            for other in self.machines:
                if one is not other:
                    for kind in (INTERNAL, CONTROLLER):
                        way = self._way(_own(other.number), _seen(one.number, other.number), kind)
                        one.back.append(way)
                        other.to.append(way)
        self._admin: AdminClient | None = None

    @property
    def settings(self) -> dict[str, str]:
        """The settings by which Sluice finds the brokers."""
        places = (f"{_outside(machine.number)}:{self._ports[CLIENT]}" for machine in self.machines)
        return {"KAFKA_BOOTSTRAP_SERVERS": ",".join(places), "KAFKA_REPLICATION": str(COUNT)}

    def start(self) -> None:
        """Starts all, and returns when each knows the others."""
        for machine in self.machines:
            servers.initialise(SERVER, machine.layout)
            machine.start()
        self._admin = AdminClient(
            {"bootstrap.servers": self.settings["KAFKA_BOOTSTRAP_SERVERS"], "log_level": 0}
        )
        self.await_whole()

    def close(self) -> None:
        """Kills all."""
        for machine in self.machines:
            machine.close()

    def leader(self) -> Machine:
        """The machine that leads the most partitions."""
        led = Counter(
            partition.leader
            for topic in self._metadata().topics.values()
            for partition in topic.partitions.values()
        )
        return self.machines[led.most_common(1)[0][0] - 1]

    def controller(self) -> Machine:
        """The machine whose controller is the active one."""
        # No client may ask for it, and the tool that may is no part of the broker.
        became = {machine.number: _last_election(machine) for machine in self.machines}
        return self.machines[max(became, key=became.__getitem__) - 1]

    def await_whole(self) -> None:
        """Returns when each partition is on all machines, and led by the one that should."""
        self._await(self._is_whole)
        self._await(lambda: self._is_whole() and self._balance())

    def _await(self, condition: Callable[[], bool]) -> None:
        def holds() -> bool:
            try:
                return condition()
            except KafkaException:
                return False

        wait_until(holds, READY_SECONDS, "all brokers to have all partitions")

    def _is_whole(self) -> bool:
        metadata = self._metadata()
        partitions = [one for topic in metadata.topics.values() for one in topic.partitions.values()]
        return len(metadata.brokers) == COUNT and all(len(one.isrs) == COUNT for one in partitions)

    def _balance(self) -> bool:
        """Whether the right brokers lead; if not, has them elected, in vain while one is coming back."""
        if self._is_balanced():
            return True
        assert self._admin is not None
        with suppress(KafkaException):
            self._admin.elect_leaders(ElectionType.PREFERRED).result(ANSWER_SECONDS)
        time.sleep(ELECTION_SECONDS)
        return self._is_balanced()

    def _is_balanced(self) -> bool:
        topics = self._metadata().topics.values()
        return all(one.leader == one.replicas[0] for topic in topics for one in topic.partitions.values())

    def _metadata(self) -> ClusterMetadata:
        assert self._admin is not None
        return self._admin.list_topics(timeout=ANSWER_SECONDS)

    def _way(self, to: str, address: str, kind: str) -> Proxy:
        return Proxy(self._ports[kind], address, self._ports[kind], target_address=to)

    def _configure(self, machine: Machine) -> None:
        layout, number = machine.layout, machine.number
        kinds = self._ports.items()
        servers.configure(servers.KAFKA, layout, {"KAFKA_PORT": 1, "KAFKA_CONTROLLER_PORT": 1})
        own = PROPERTIES.format(
            number=number,
            voters=",".join(f"{n}@kafka-{n}:{self._ports[CONTROLLER]}" for n in range(1, COUNT + 1)),
            listeners=",".join(f"{kind}://{_own(number)}:{port}" for kind, port in kinds),
            advertised=",".join(
                f"{kind}://{_outside(number) if kind == CLIENT else f'kafka-{number}'}:{port}"
                for kind, port in kinds
            ),
        )
        folder = layout.conf(SERVER.name)
        common = (folder / "server.properties").read_text()
        write_private(folder / "server.properties", common + own)
        seen = {n: _own(n) if n == number else _seen(number, n) for n in range(1, COUNT + 1)}
        hosts = [f"{address} kafka-{n}" for n, address in seen.items()]
        write_private(folder / "hosts", "\n".join(["127.0.0.1 localhost", *hosts, ""]))


def _last_election(machine: Machine) -> str:
    """When it last became the active controller, by its log, whose lines begin with the time."""
    log = machine.layout.log(SERVER.name).read_text(errors="replace")
    return max((line.split()[0] for line in log.splitlines() if ELECTED in line), default="")


def _own(number: int) -> str:
    """Where the broker listens."""
    return f"127.0.2.{number}"


def _outside(number: int) -> str:
    """Where clients reach it."""
    return f"127.0.3.{number}"


def _seen(of: int, number: int) -> str:
    """Where one broker reaches another."""
    return f"127.0.{10 + of}.{number}"


@contextmanager
def kafka_group(folder: Path, *, troubles: bool = False) -> Iterator[KafkaGroup]:
    """A group that runs, and is killed at the end."""
    group = KafkaGroup(folder, troubles=troubles)
    try:
        group.start()
        yield group
    finally:
        group.close()
