"""Encrypted and verified, on real servers: who they are is checked, and who we are is checked by them."""

import itertools
import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest
import redis

from compose.local.layout import PROJECT
from tasks import settings as tasks_settings
from tasks.servers import database, redis_client
from tasks.settings import Settings
from tests.integration import tls_servers
from tests.integration.fleet import wait_until
from tests.integration.mqtt_session import Session, session
from tests.integration.restarted import restarted
from tests.integration.tls_clients import SECONDS, SERVERS, fault, mqtt_fault
from tests.integration.tls_imposter import imposter
from tests.integration.tls_servers import TlsServers

# paho leaves the socket of a failed handshake to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")

Configure = Callable[..., Settings]


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServers]:
    """The servers, ready."""
    with tls_servers.running(tmp_path_factory.mktemp("tls")) as servers:
        chosen = Settings(_env_file=None, **tls_servers.fields(servers.settings()))
        for name in SERVERS:
            wait_until(lambda name=name: fault(name, chosen) == "", 180, f"{name} to let us in")  # type: ignore[misc]
        yield servers


@pytest.fixture
def configure(tls: TlsServers, monkeypatch: pytest.MonkeyPatch) -> Iterator[Configure]:
    """Makes this process use the servers with some settings changed."""

    def apply(**changed: str) -> Settings:
        for name, value in {**tls.settings(), **changed}.items():
            monkeypatch.setenv(name, value)
        _forget()
        return tasks_settings.settings()

    monkeypatch.setenv("SLUICE_ENV_FILE", os.devnull)
    yield apply
    _forget()


def _forget() -> None:
    for cached in (tasks_settings.settings, redis_client.client):
        cached.cache_clear()


@pytest.mark.parametrize("server", SERVERS)
def test_the_right_settings_are_let_in(configure: Configure, server: str) -> None:
    """With our authority and the right login every server lets us in."""
    assert fault(server, configure()) == ""


@pytest.mark.parametrize("server", SERVERS)
def test_a_server_of_another_authority_is_not_trusted(
    configure: Configure, tmp_path: Path, server: str
) -> None:
    """A certificate that our authority did not sign ends the connection before any password is sent."""
    other = tls_servers.authority(tmp_path, "other")
    assert "certificate" in fault(server, configure(TLS_CA_FILE=str(other.file))).lower()


@pytest.mark.parametrize("server", SERVERS)
def test_an_expired_certificate_is_not_trusted(
    configure: Configure, tls: TlsServers, tmp_path: Path, server: str
) -> None:
    """A server whose certificate ran out yesterday gets no password."""
    with imposter(tls.authority, tmp_path, server, "localhost", expired=True) as port:
        assert "certificate" in fault(server, configure(**_at(tls, server, port))).lower()


@pytest.mark.parametrize("server", SERVERS)
def test_a_certificate_for_another_host_is_not_trusted(
    configure: Configure, tls: TlsServers, tmp_path: Path, server: str
) -> None:
    """A certificate of our authority is good for the host in it and no other."""
    with imposter(tls.authority, tmp_path, server, "elsewhere.example", expired=False) as port:
        told = fault(server, configure(**_at(tls, server, port))).lower()
        assert "certificate" in told or "does not match" in told


WRONG = {
    "mqtt": {"MQTT_PASSWORD": "x" * 43},
    "kafka": {"KAFKA_SASL_PASSWORD": "x" * 43},
    "redis": {"REDIS_URL": "rediss://sluice:wrong@localhost:{REDIS_PORT}/0"},
    "postgres": {"DATABASE_URL": "postgresql://postgres:wrong@localhost:{POSTGRES_PORT}/postgres"},
}

NOBODY = {
    "mqtt": {"MQTT_USERNAME": ""},
    "kafka": {"KAFKA_SECURITY_PROTOCOL": "SSL"},
    "redis": {"REDIS_URL": "rediss://localhost:{REDIS_PORT}/0"},
    "postgres": {"DATABASE_URL": "postgresql://localhost:{POSTGRES_PORT}/postgres"},
}


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("login", [WRONG, NOBODY], ids=["wrong password", "anonymous"])
def test_nobody_gets_in_without_the_right_login(
    configure: Configure, tls: TlsServers, server: str, login: dict[str, dict[str, str]]
) -> None:
    """A wrong password and no login at all are turned away by every server."""
    changed = {name: value.format(**tls.ports) for name, value in login[server].items()}
    assert fault(server, configure(**changed)) != ""


def test_plain_connections_are_turned_away(tls: TlsServers) -> None:
    """A client that does not encrypt is refused: no server answers in the clear."""
    plain = {
        "MQTT_TLS": "false",
        "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "REDIS_URL": tls.settings()["REDIS_URL"].replace("rediss:", "redis:"),
    }
    chosen = Settings(_env_file=None, **tls_servers.fields({**tls.settings(), **plain}))
    assert [server for server in SERVERS[:3] if fault(server, chosen) == ""] == []
    with pytest.raises(psycopg.OperationalError, match="no encryption"):
        psycopg.connect(chosen.database_url.get_secret_value(), sslmode="disable")


def test_the_redis_user_may_not_administer(configure: Configure) -> None:
    """Sluice's user of Redis reads and writes, and cannot flush, configure, debug or stop the server."""
    configure()
    client = redis_client.client()
    for command in ("FLUSHALL", "CONFIG GET *", "SHUTDOWN NOSAVE", "ACL LIST", "KEYS *"):
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.execute_command(*command.split())  # type: ignore[no-untyped-call]


def test_the_database_is_verified_without_a_word_in_its_url(configure: Configure, tmp_path: Path) -> None:
    """With TLS_CA_FILE a plain URL means `verify-full`; a URL that says otherwise is left alone."""
    chosen = configure()
    with psycopg.connect(database.conninfo(chosen.database_url.get_secret_value())) as connection:
        assert connection.info.get_parameters()["sslmode"] == "verify-full"
    assert "sslmode=disable" in database.conninfo("postgresql://localhost/x?sslmode=disable")
    other = tls_servers.authority(tmp_path, "other")
    chosen = configure(TLS_CA_FILE=str(other.file))
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        psycopg.connect(database.conninfo(chosen.database_url.get_secret_value()))


def _trusting(tls: TlsServers) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=tls.authority.file)


def test_a_device_keeps_to_its_own_topic(tls: TlsServers) -> None:
    """Over TLS as in the clear: its own telemetry is granted, another's is refused."""
    with session(tls, tls.devices["ada"], _trusting(tls)) as device:
        assert device.publish("users/ada/devices/fridge/telemetry")
    for foreign in (
        "users/bob/devices/oven/telemetry",
        "users/ada/devices/oven/telemetry",
        "users/ada/config",
    ):
        with session(tls, tls.devices["ada"], _trusting(tls)) as device:
            assert not device.publish(foreign), foreign


def test_a_user_keeps_to_their_own_rules_and_alerts(tls: TlsServers) -> None:
    """Another's config cannot be written, and another's alerts cannot be heard or made up."""
    with (
        session(tls, tls.users["ada"], _trusting(tls)) as ada,
        session(tls, tls.service, _trusting(tls)) as service,
    ):
        ada.subscribe("users/bob/alerts", "users/+/alerts", "users/ada/alerts")
        assert ada.publish("users/ada/config")
        assert service.publish("users/bob/alerts", b"bob's")
        assert service.publish("users/ada/alerts", b"ada's")
        ada.pump(lambda: ("users/ada/alerts", b"ada's") in ada.received)
        ada.listen()
        # Twice where a broker answers each of overlapping subscriptions.
        assert set(ada.received) == {("users/ada/alerts", b"ada's")}
    for foreign in ("users/bob/config", "users/bob/alerts/manage", "users/bob/alerts"):
        with session(tls, tls.users["ada"], _trusting(tls)) as ada:
            assert not ada.publish(foreign), foreign


def test_a_device_may_be_known_by_its_certificate(
    configure: Configure, tls: TlsServers, tmp_path: Path
) -> None:
    """Mutual TLS: the name in the certificate is the account; without one, or with a foreign one, nobody."""
    port = {"MQTT_PORT": str(tls.mutual_port), "MQTT_USERNAME": ""}
    assert mqtt_fault(configure(**port)) != ""

    stranger = tls_servers.authority(tmp_path, "stranger")
    for made, granted in ((tls.authority, True), (stranger, False)):
        certificate, key = tls_servers.write_certificate(made, tmp_path, "device", common_name="ada/fridge")
        shown = {"MQTT_TLS_CERT_FILE": str(certificate), "MQTT_TLS_KEY_FILE": str(key)}
        chosen = configure(**port, **shown)
        assert (mqtt_fault(chosen) == "") is granted
    certificate, key = tls_servers.write_certificate(tls.authority, tmp_path, "own", common_name="ada/fridge")
    context = _trusting(tls)
    context.load_cert_chain(certificate, key)
    mutual = _At({**tls.env, "MQTT_PORT": str(tls.mutual_port)})
    with session(mutual, None, context) as device:
        assert device.publish("users/ada/devices/fridge/telemetry")
    with session(mutual, None, context) as device:
        assert not device.publish("users/bob/devices/oven/telemetry")


class _At:
    def __init__(self, env: dict[str, str]) -> None:
        self.env = env


@pytest.fixture(scope="module")
def processes(tls: TlsServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Gateway, bridge, control and worker, which use nothing but TLS; the folder of their logs."""
    folder = tmp_path_factory.mktemp("processes")
    env = {**os.environ, **tls.settings(), "SLUICE_ENV_FILE": os.devnull, "KAFKA_PARTITIONS": "2"}
    env |= {name.upper(): "0" for name in Settings.model_fields if name.endswith("metrics_port")}
    for command in ("migrate", "topics"):
        subprocess.run([sys.executable, "-m", "ingest.cli", command], env=env, cwd=PROJECT, check=True)
    worker = "celery -A tasks worker --concurrency=3 -Q process,db --without-mingle"
    with ExitStack() as running:
        for name, arguments in {
            "gateway": ["-m", "ingest.gateway"],
            "bridge": ["-m", "ingest.bridge"],
            "control": ["-m", "ingest.control"],
            "worker": ["-m", *worker.split()],
        }.items():
            # A worker that gets no processor for long takes itself for deaf, and ends.
            running.enter_context(restarted([sys.executable, *arguments], env, folder / f"{name}.log"))
        for name in ("gateway", "control"):
            log_file = folder / f"{name}.log"
            wait_until(lambda log_file=log_file: "mqtt_connected" in log_file.read_text(), 180, name)  # type: ignore[misc]
        yield folder


@contextmanager
def shown_on_failure(folder: Path) -> Iterator[None]:
    """Prints the ends of the processes' logs where the block fails."""
    try:
        yield
    except BaseException:
        for log in sorted(folder.glob("*.log")):
            sys.stdout.write(f"--- {log.name}\n{log.read_text()[-6000:]}\n")
        raise


def test_a_reading_goes_its_whole_way_encrypted(tls: TlsServers, processes: Path) -> None:
    """Gateway, bridge, control and worker use nothing but TLS: the reading is stored, the answer comes."""
    with (
        shown_on_failure(processes),
        psycopg.connect(tls.settings()["DATABASE_URL"], autocommit=True) as rows,
        session(tls, tls.devices["ada"], _trusting(tls)) as device,
    ):
        numbers = itertools.count()

        def stored() -> bool:
            # Again and again: the first may be sooner than the gateway's subscription.
            payload = b'{"sequence_id": %d}' % next(numbers)
            assert device.publish("users/ada/devices/fridge/telemetry", payload)
            device.listen(0.5)
            return rows.execute("SELECT FROM raw_telemetry WHERE user_id = 'ada'").rowcount > 0

        wait_until(stored, 180, "a row")
    with session(tls, tls.users["ada"], _trusting(tls)) as ada:
        ada.subscribe("users/ada/config/status")

        def answered() -> bool:
            assert ada.publish("users/ada/config", b'{"rules": []}')
            ada.listen(1)
            return bool(ada.received)

        wait_until(answered, 180, "an answer")
    topic, answer = ada.received[0]
    assert topic == "users/ada/config/status"
    assert json.loads(answer) == {"ok": True, "rules": 0}


def test_new_certificates_are_taken_without_a_lost_message(tls: TlsServers, processes: Path) -> None:
    """Each server shows its new one after the step of docs/secure.md; every reading meanwhile is a row."""
    first, each = 1_000_000, 50
    numbers = itertools.count(first)

    def publish(device: Session) -> None:
        for number in itertools.islice(numbers, each):
            payload = b'{"sequence_id": %d}' % number
            assert device.publish("users/bob/devices/oven/telemetry", payload)

    context = _trusting(tls)
    shown = {server: _certificate(tls, server, context) for server in SERVERS}
    with session(tls, tls.devices["bob"], context) as device:
        publish(device)
        for server in SERVERS:
            tls_servers.renew(tls, server)
            wait_until(
                lambda server=server: _certificate(tls, server, context) != shown[server],  # type: ignore[misc]
                SECONDS,
                f"the new certificate of {server}",
            )
            publish(device)
    with session(tls, tls.devices["bob"], context) as device:
        publish(device)
    wanted = list(range(first, next(numbers)))
    query = "SELECT sequence_id FROM raw_telemetry WHERE user_id = 'bob' AND sequence_id >= %s ORDER BY 1"
    with (
        shown_on_failure(processes),
        psycopg.connect(tls.settings()["DATABASE_URL"], autocommit=True) as rows,
    ):
        wait_until(lambda: len(rows.execute(query, [first]).fetchall()) >= len(wanted), 180, "all rows")
        assert [row[0] for row in rows.execute(query, [first])] == wanted


def _certificate(tls: TlsServers, server: str, context: ssl.SSLContext) -> bytes | None:
    """The certificate that a server shows to a new connection, verified."""
    port = tls.ports[f"{server.upper()}_PORT"]
    with socket.create_connection(("localhost", port), timeout=SECONDS) as connection:
        if server == "postgres":
            connection.sendall((8).to_bytes(4) + (80877103).to_bytes(4))
            assert connection.recv(1) == b"S"
        with context.wrap_socket(connection, server_hostname="localhost") as shown:
            return shown.getpeercert(binary_form=True)


def _at(tls: TlsServers, server: str, port: int) -> dict[str, str]:
    """The settings by which the server is looked for at another port."""
    before = tls.settings()
    return {
        "mqtt": {"MQTT_PORT": str(port)},
        "kafka": {"KAFKA_BOOTSTRAP_SERVERS": f"localhost:{port}"},
        "redis": {"REDIS_URL": before["REDIS_URL"].replace(str(tls.ports["REDIS_PORT"]), str(port))},
        "postgres": {
            "DATABASE_URL": before["DATABASE_URL"].replace(str(tls.ports["POSTGRES_PORT"]), str(port))
        },
    }[server]
