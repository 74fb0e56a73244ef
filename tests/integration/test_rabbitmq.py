"""RabbitMQ as Celery's broker: a real one, by TLS, killed on the way; the promises are the same."""

import base64
import json
import shutil
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from kombu import Connection

from compose.local import envfile, ports
from compose.local.stack import Stack
from tasks.replays import runs
from tasks.servers import celery_broker
from tasks.settings import Settings
from tests.conftest import DeadLetters
from tests.integration import enclosure, fleet, pages
from tests.integration.commands import call
from tests.integration.deployment import stop
from tests.integration.lag import wait_for_no_lag
from tests.integration.production import counter
from tests.integration.tls_servers import authority, write_certificate

PROCESSES = ("gateway", "bridge", "control", "worker", "beat")
DEVICES, READINGS, BAD_EVERY = 10, 6000, 50


@dataclass(frozen=True)
class RabbitMQ:
    """Where the server's folder is, its ports, and the file of the authority that vouches for it."""

    folder: Path
    port: int
    node_ports: tuple[int, int]
    password: str
    authority: Path

    @property
    def url(self) -> str:
        """Where Celery finds it."""
        return f"amqps://sluice:{self.password}@127.0.0.1:{self.port}/"

    def send(self, body: bytes) -> None:
        """Puts something that is not a task into a queue of the workers."""
        chosen = Settings(_env_file=None, celery_broker_url=self.url, tls_ca_file=self.authority)
        with Connection(self.url, ssl=celery_broker.tls_options(chosen)) as connection:
            connection.Producer().publish(body, routing_key="process", content_type="application/x-odd")

    @contextmanager
    def running(self) -> Iterator[None]:
        """The server, until the block ends, and then killed: what it was given before is in its folder."""
        distribution, names = self.node_ports
        here = "-kernel inet_dist_use_interface {127,0,0,1}"
        environment = {
            "HOME": "/srv/write",
            "RABBITMQ_NODENAME": "sluice@localhost",
            "RABBITMQ_DIST_PORT": distribution,
            "ERL_EPMD_PORT": names,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": here,
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": "/srv/write/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": "/srv/write/plugins",
            "RABBITMQ_MNESIA_BASE": "/srv/write/data",
            "RABBITMQ_LOG_BASE": "/srv/write/log",
        }
        argv = ["env", *(f"{name}={value}" for name, value in environment.items())]
        with enclosure.running(
            [*argv, "/usr/lib/rabbitmq/bin/rabbitmq-server"], write=self.folder, daemons=True
        ):
            fleet.wait_until(self._listens, 300, "RabbitMQ")
            yield

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture
def rabbitmq(tmp_path: Path) -> RabbitMQ:
    """A RabbitMQ that does not run yet, with a certificate and one user."""
    free = ports.free({})
    folder = tmp_path / "rabbitmq"
    folder.mkdir()
    made = authority(tmp_path, "authority")
    write_certificate(made, folder, "server", "127.0.0.1")
    shutil.copy(made.file, folder / "authority.pem")
    password = uuid4().hex
    (folder / "rabbitmq.conf").write_text(
        "listeners.tcp = none\n"
        f"listeners.ssl.1 = 127.0.0.1:{free['KAFKA_PORT']}\n"
        "ssl_options.certfile = /srv/write/server.crt\n"
        "ssl_options.keyfile = /srv/write/server.key\n"
        "ssl_options.cacertfile = /srv/write/authority.pem\n"
        f"default_user = sluice\ndefault_pass = {password}\n"
    )
    node_ports = free["REDIS_PORT"], free["MQTT_PORT"]
    return RabbitMQ(folder, free["KAFKA_PORT"], node_ports, password, made.file)


@pytest.fixture
def settings(stack: Stack, rabbitmq: RabbitMQ, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The env file with which Celery works over RabbitMQ; at the end no process runs, and it is as before.

    Its authority is one of the system's: the other servers of the stack have no TLS.
    """
    before = stack.env
    monkeypatch.setenv("SSL_CERT_FILE", str(rabbitmq.authority))
    stop(stack)
    yield {**before, "CELERY_BROKER_URL": rabbitmq.url, "SSL_CERT_FILE": str(rabbitmq.authority)}
    stop(stack)
    stack.stop("beat")
    envfile.write(stack.layout.env, before)


def payload(number: int) -> bytes:
    """A reading, one in fifty of them bad."""
    sequence_id = number if number % BAD_EVERY else f"bad {number}"
    return json.dumps({"sequence_id": sequence_id, "time": f"2026-04-01T10:{number % 60:02}:00Z"}).encode()


def readiness(stack: Stack) -> str:
    """The worker's own report."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{stack.env['METRICS_PORT']}/readyz", timeout=10) as ok:
            return str(ok.read())
    except urllib.error.HTTPError as problem:
        return str(problem.read())
    except OSError:  # started again, or busy
        return ""


def queued(stack: Stack) -> float:
    """How many tasks wait, as beat shows it."""
    return pages.value(stack, "beat", "sluice_queued_tasks", queue="process")


def ended(database: psycopg.Connection[tuple[Any, ...]], run_id: str) -> bool:
    """Whether the replay has come to its end."""
    run = runs.read(database, run_id)
    return run is not None and run.ended_at is not None


def test_the_promises_hold_over_rabbitmq(
    stack: Stack,
    database: psycopg.Connection[tuple[Any, ...]],
    rabbitmq: RabbitMQ,
    settings: dict[str, str],
) -> None:
    """Workers are killed, and RabbitMQ is: each message still is one row or one dead letter.

    A replay makes rows again, a forged task is refused, and queues are measured as they are in Redis.
    """
    user = uuid4().hex[:8]

    def publish(numbers: range) -> None:
        for number in numbers:
            devices[number % DEVICES].publish(payload(number))

    def stored() -> list[int]:
        rows = database.execute("SELECT sequence_id FROM raw_telemetry WHERE user_id = %s", [user]).fetchall()
        return sorted(number for (number,) in rows)

    def refused() -> list[bytes]:
        # A worker that was killed just after Kafka took a letter sends it again, under the same key.
        letters = {key: letter for key, letter in dead_letters.read() if user in letter["original_topic"]}
        return sorted(base64.b64decode(letter["payload_base64"]) for letter in letters.values())

    begun, third = datetime.now(UTC), READINGS // 3
    good = [number for number in range(READINGS) if number % BAD_EVERY]
    with rabbitmq.running():
        envfile.write(stack.layout.env, settings)
        stack.up(PROCESSES)
        dead_letters = DeadLetters(stack.env["KAFKA_BOOTSTRAP_SERVERS"])
        devices = fleet.devices(stack, [(user, f"dev-{number}") for number in range(DEVICES)])
        publish(range(third))
        fleet.wait_until(lambda: len(stored()) > 0, 60, "the first rows")
        worker = stack.pid("worker")
        for pid in (worker, *fleet.children(worker)):
            fleet.kill(pid)
        publish(range(third, 2 * third))
        stack.up(["worker"])
    publish(range(2 * third, READINGS))
    for device in devices:
        device.await_acknowledged()
    fleet.wait_until(
        lambda: "the broker is away" in readiness(stack), 60, "the worker to say that it has no broker"
    )
    with rabbitmq.running():
        fleet.wait_until(lambda: len(stored()) >= len(good), 300, "the rows")
        wait_for_no_lag(stack)
        assert stored() == good
        assert refused() == sorted(payload(number) for number in range(0, READINGS, BAD_EVERY))
        dead_letters.close()
        fleet.disconnect(devices)

        database.execute("DELETE FROM raw_telemetry WHERE user_id = %s", [user])
        run_id = call(stack, "tasks.replay.times", start=begun.isoformat(), end=datetime.now(UTC).isoformat())
        fleet.wait_until(lambda: ended(database, run_id), 90, "the replay to end")
        assert stored() == good

        before = counter(stack, "task_messages_refused")
        stack.stop("worker")
        rabbitmq.send(b"no task")
        fleet.wait_until(lambda: queued(stack) > 0, 30, "beat to see that something waits")
        stack.start("worker")
        fleet.wait_until(
            lambda: counter(stack, "task_messages_refused") == before + 1, 30, "the forged task's refusal"
        )
        fleet.wait_until(lambda: queued(stack) == 0, 30, "the queues to be empty")
