"""The four servers once more, reached by TLS alone, with certificates of an authority that the test makes."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import redis
import trustme
from confluent_kafka.admin import AdminClient

# The package itself does not export them by name.
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType
from cryptography.hazmat.primitives import serialization
from psycopg.conninfo import make_conninfo

from compose.local import ports, servers
from compose.local.layout import Layout
from compose.local.mosquitto_auth import Right, User, acl_file, password_file
from compose.local.passwords import password
from ingest.admin.accounts import accounts, passwords
from ingest.admin.accounts.accounts import Account
from ingest.admin.accounts.provision import Credential
from tasks.servers import kafka
from tasks.settings import Settings


@dataclass(frozen=True)
class Authority:
    """A certificate authority, and the file by which it is trusted."""

    ca: trustme.CA
    file: Path


@dataclass(frozen=True)
class TlsServers:
    """Where the servers are, whom they let in, and the authority that vouches for them."""

    layout: Layout
    ports: dict[str, int]
    authority: Authority
    service: Credential
    devices: dict[str, Credential]
    users: dict[str, Credential]
    mutual_port: int

    @property
    def env(self) -> dict[str, str]:
        """Where the broker is, for a session."""
        return self.settings()

    def settings(self) -> dict[str, str]:
        """The environment with which all of Sluice reaches these servers."""
        secret = password(self.layout, "redis")
        return {
            "TLS_CA_FILE": str(self.authority.file),
            "MQTT_HOST": "localhost",
            "MQTT_PORT": str(self.ports["MQTT_PORT"]),
            "MQTT_TLS": "true",
            "MQTT_USERNAME": self.service.username,
            "MQTT_PASSWORD": self.service.password,
            "KAFKA_BOOTSTRAP_SERVERS": f"localhost:{self.ports['KAFKA_PORT']}",
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_USERNAME": "sluice",
            "KAFKA_SASL_PASSWORD": password(self.layout, "kafka"),
            "REDIS_URL": f"rediss://sluice:{secret}@localhost:{self.ports['REDIS_PORT']}/0",
            "DATABASE_DIRECT_URL": "",
            "DATABASE_URL": make_conninfo(
                host="localhost",
                port=self.ports["POSTGRES_PORT"],
                user="postgres",
                password=password(self.layout, "postgres-superuser"),
                dbname="postgres",
            ),
        }


def authority(folder: Path, name: str) -> Authority:
    """A new authority."""
    made = trustme.CA(organization_name=name)
    made.cert_pem.write_to_path(folder / f"{name}.pem")
    return Authority(made, folder / f"{name}.pem")


def write_certificate(
    made: Authority, folder: Path, name: str, *identities: str, expired: bool = False, common_name: str = ""
) -> tuple[Path, Path]:
    """A certificate of the authority and its key, in files of their owner's."""
    until = datetime.now(UTC) - timedelta(days=1) if expired else None
    issued = made.ca.issue_cert(
        *identities,
        common_name=common_name or None,
        # Kafka takes a new certificate only for the subject of the old one; by default each has another.
        organization_unit_name="tests",
        not_after=until,
    )
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    # Kafka reads keys in no other format than PKCS #8.
    private = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    key.chmod(0o600)
    return certificate, key


@contextmanager
def running(folder: Path) -> Iterator[TlsServers]:
    """The servers, started and stopped again."""
    layout = Layout(folder)
    layout.make()
    numbers = ports.free({})
    made = authority(folder, "authority")
    extra = ports.free({})
    passwords_of: dict[Account, str] = {
        account: passwords.generate_password()
        for account in (
            accounts.service("sluice"),
            accounts.device("ada", "fridge"),
            accounts.device("bob", "oven"),
            accounts.user("ada"),
            accounts.user("bob"),
        )
    }
    credentials = {account: Credential(account.username, secret) for account, secret in passwords_of.items()}
    described = TlsServers(
        layout,
        numbers,
        made,
        service=next(c for a, c in credentials.items() if a.kind == "service"),
        devices={a.user_id or "": c for a, c in credentials.items() if a.kind == "device"},
        users={a.user_id or "": c for a, c in credentials.items() if a.kind == "user"},
        mutual_port=extra["MQTT_PORT"],
    )
    started: list[subprocess.Popen[bytes]] = []
    try:
        for server in (_postgres(described), _redis(described), _kafka(described), _mosquitto(described)):
            servers.initialise(server, layout)
            if server.name == "mosquitto":
                _write_accounts(layout, passwords_of)
            script = layout.conf(server.name) / "start.sh"
            script.write_text(servers.script(server, layout))
            with layout.log(server.name).open("wb") as log:
                started.append(
                    subprocess.Popen(
                        ["/bin/sh", str(script)], stdout=log, stderr=subprocess.STDOUT, start_new_session=True
                    )
                )
        yield described
    finally:
        for process in started:
            process.terminate()
        for process in started:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.wait()


def renew(described: TlsServers, server: str) -> None:
    """Gives a server another certificate of the same authority, as docs/secure.md says."""
    name = "mosquitto" if server == "mqtt" else server
    folder = described.layout.conf(name)
    certificate, key = write_certificate(described.authority, folder, "server", "localhost")
    if server == "mqtt":
        os.kill(int(described.layout.pid(name).read_text()), signal.SIGHUP)
    elif server == "postgres":
        with psycopg.connect(described.settings()["DATABASE_URL"], autocommit=True) as connection:
            connection.execute("SELECT pg_reload_conf()")
    elif server == "redis":
        url = described.settings()["REDIS_URL"].replace("sluice:", "operator:")
        with redis.Redis.from_url(url, ssl_ca_certs=str(described.authority.file)) as client:
            client.config_set("tls-cert-file", "/srv/conf/server.crt")
    else:
        keystore = folder / "server.pem"
        keystore.write_bytes(key.read_bytes() + certificate.read_bytes())
        location = ConfigEntry(
            "listener.name.broker.ssl.keystore.location",
            "/srv/conf/server.pem",
            incremental_operation=AlterConfigOpType.SET,
        )
        admin = AdminClient(kafka.connection(Settings(_env_file=None, **fields(described.settings()))))
        broker = ConfigResource(ResourceType.BROKER, "1", incremental_configs=[location])
        for done in admin.incremental_alter_configs([broker], request_timeout=15).values():
            done.result(15)


def fields(environ: dict[str, str]) -> dict[str, Any]:
    """The settings of an environment, by their fields."""
    return {name.lower(): value for name, value in environ.items()}


def _configure(servers_: TlsServers, server: servers.Server) -> Path:
    servers.configure(server, servers_.layout, servers_.ports)
    folder = servers_.layout.conf(server.name)
    write_certificate(servers_.authority, folder, "server", "localhost")
    (folder / "ca.pem").write_bytes(servers_.authority.file.read_bytes())
    return folder


def _edit(path: Path, replaced: dict[str, str], added: str) -> None:
    text = path.read_text()
    for old, new in replaced.items():
        assert old in text, f"{path.name} has no {old!r}"
        text = text.replace(old, new)
    path.write_text(text + added)


def _postgres(described: TlsServers) -> servers.Server:
    folder = _configure(described, servers.POSTGRES)
    _edit(folder / "pg_hba.conf", {"host all": "hostssl all"}, "")
    tls = "ssl = on\nssl_cert_file = '/srv/conf/server.crt'\nssl_key_file = '/srv/conf/server.key'\n"
    _edit(folder / "postgresql.conf", {"shared_buffers = 512MB": "shared_buffers = 32MB"}, tls)
    return servers.POSTGRES


def _redis(described: TlsServers) -> servers.Server:
    folder = _configure(described, servers.REDIS)
    secret = password(described.layout, "redis")
    _edit(
        folder / "redis.conf",
        {
            f"port {described.ports['REDIS_PORT']}": f"port 0\ntls-port {described.ports['REDIS_PORT']}",
            f"requirepass {secret}": "",
        },
        "tls-cert-file /srv/conf/server.crt\ntls-key-file /srv/conf/server.key\n"
        "tls-ca-cert-file /srv/conf/ca.pem\ntls-auth-clients no\n"
        f"user default off\nuser sluice on >{secret} ~* &* +@all -@admin -@dangerous +info\n"
        f"user operator on >{secret} ~* &* +@all\n",
    )
    return servers.REDIS


def _kafka(described: TlsServers) -> servers.Server:
    folder = _configure(described, servers.KAFKA)
    (folder / "server.pem").write_bytes(
        (folder / "server.key").read_bytes() + (folder / "server.crt").read_bytes()
    )
    secret = password(described.layout, "kafka")
    module = "org.apache.kafka.common.security.scram.ScramLoginModule"
    login = f'{module} required username="sluice" password="{secret}";'
    _edit(
        folder / "server.properties",
        {
            "BROKER:PLAINTEXT": "BROKER:SASL_SSL",
            "advertised.listeners=BROKER://127.0.0.1": "advertised.listeners=BROKER://localhost",
        },
        "ssl.keystore.type=PEM\nssl.keystore.location=/srv/conf/server.pem\n"
        "ssl.truststore.type=PEM\nssl.truststore.location=/srv/conf/ca.pem\n"
        "sasl.enabled.mechanisms=SCRAM-SHA-512\nsasl.mechanism.inter.broker.protocol=SCRAM-SHA-512\n"
        f"listener.name.broker.scram-sha-512.sasl.jaas.config={login}\n",
    )
    account = f"SCRAM-SHA-512=[name=sluice,password={secret}]"
    return replace(servers.KAFKA, first=f"{servers.KAFKA.first} --add-scram '{account}'")


def _mosquitto(described: TlsServers) -> servers.Server:
    folder = _configure(described, servers.MOSQUITTO)
    certificate = "cafile /srv/conf/ca.pem\ncertfile /srv/conf/server.crt\nkeyfile /srv/conf/server.key\n"
    listener = f"listener {described.ports['MQTT_PORT']} 127.0.0.1\n"
    _edit(
        folder / "mosquitto.conf",
        {listener: listener + certificate},
        # A client with a certificate is the one that it names, and needs no password.
        f"listener {described.mutual_port} 127.0.0.1\n{certificate}"
        "require_certificate true\nuse_identity_as_username true\n",
    )
    return servers.MOSQUITTO


def _write_accounts(layout: Layout, passwords_of: dict[Account, str]) -> None:
    users, rights = [], []
    for account, secret in passwords_of.items():
        salt = passwords.generate_salt()
        users.append(
            User(account.username, passwords.hash_password(secret, salt), salt, passwords.ITERATIONS, False)
        )
        rights += [Right(account.username, "allow", action, topic) for action, topic in accounts.acl(account)]
    data = layout.data("mosquitto")
    for name, text in (("passwords", password_file(users)), ("acl", acl_file(users, rights))):
        (data / name).write_text(text)
        (data / name).chmod(0o600)
