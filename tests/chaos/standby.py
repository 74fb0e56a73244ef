"""Faults of a process that has a second one of its kind, which goes on; requests of a user come meanwhile."""

import shlex
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from uuid import uuid4

import psycopg

from compose.local.procfile import read
from compose.local.stack import Stack
from ingest.admin.accounts import accounts, provision
from tests.chaos.faults import Hang, Kill
from tests.chaos.place import PROJECT, Place
from tests.docker.load import Account, Connection
from tests.docker.requests import Requests
from tests.integration import fleet
from tests.integration.mqtt_session import await_honoured
from tests.integration.second_process import Second, readiness, second

PORTS = {
    "gateway": "GATEWAY_METRICS_PORT",
    "control": "CONTROL_METRICS_PORT",
    "beat": "BEAT_METRICS_PORT",
}
START_SECONDS = 60
STOP_SECONDS = 60
# Of Kafka, Redis and the workers nothing is broken.
ANSWER_SECONDS = 60


@dataclass(frozen=True)
class Reached:
    """A stack of this machine, as a user reaches it."""

    stack: Stack

    def broker(self, *, tls: bool = False) -> tuple[str, int]:
        """The host and the port of MQTT."""
        assert not tls
        return self.stack.env["MQTT_HOST"], int(self.stack.env["MQTT_PORT"])

    @contextmanager
    def database(self) -> Iterator[Connection]:
        """The database as the owner of its tables."""
        with psycopg.connect(self.stack.env["DATABASE_DIRECT_URL"], autocommit=True) as connection:
            yield connection


@dataclass
class _Both:
    other: Second
    requests: Requests
    resources: ExitStack


@dataclass(frozen=True)
class OfTwo:
    """The first is killed or hangs, and is back; then the second ends gently, and the first goes on."""

    fault: Kill | Hang
    running: list[_Both] = field(default_factory=list)

    @property
    def victim(self) -> str:
        """The kind of process."""
        return self.fault.victim

    @property
    def seconds(self) -> float:
        """As long as the fault."""
        return self.fault.seconds

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"{self.fault.name} of two"

    @property
    def touches(self) -> frozenset[str]:
        """Its victim, and what answers requests."""
        return self.fault.touches | {"control", "worker", "mosquitto", "postgres", "redis"}

    def begin(self, place: Place) -> None:
        """When the second is ready, and the first acts."""
        requests = _requests(place.stack)
        resources = ExitStack()
        command = shlex.split(read(PROJECT / "Procfile")[self.victim])
        log = place.stack.layout.log(f"{self.victim}-2")
        other = resources.enter_context(second(place.stack, command, PORTS[self.victim], log))
        self.running.append(_Both(other, requests, resources))
        fleet.wait_until(
            lambda: other.ready().startswith("ok"), START_SECONDS, f"the second {self.victim} to be ready"
        )
        requests.await_answer(ANSWER_SECONDS)
        self.fault.begin(place)

    def end(self, place: Place) -> None:
        """All requests are answered, with either process; each ends gently, or is an error."""
        self.fault.end(place)
        if not self.running:
            return
        both = self.running.pop()
        with both.resources:
            try:
                both.requests.await_answer(ANSWER_SECONDS)
                self._await_first(place)
                both.other.process.send_signal(signal.SIGTERM)
                assert both.other.process.wait(STOP_SECONDS) == 0
                both.requests.await_answer(ANSWER_SECONDS)
            finally:
                both.requests.stop()

    def _await_first(self, place: Place) -> None:
        port = place.stack.env[PORTS[self.victim]]
        fleet.wait_until(
            lambda: readiness(port).startswith("ok"), START_SECONDS, f"the first {self.victim} to be back"
        )


def _requests(stack: Stack) -> Requests:
    user = f"two-{uuid4().hex[:6]}"
    with psycopg.connect(stack.env["DATABASE_DIRECT_URL"]) as connection:
        made = provision.provision(connection, accounts.user(user))
    await_honoured(stack, made)
    return Requests(Reached(stack), user, Account(made.username, made.password))
