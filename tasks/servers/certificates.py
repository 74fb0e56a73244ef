"""When the certificates end with which this site's servers are reached over TLS."""

import binascii
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import structlog
from psycopg.conninfo import conninfo_to_dict

from tasks.observe.metrics import control as metrics
from tasks.servers.database import places as database_places
from tasks.settings import Settings
from tasks.text.certificates import InvalidCertificate, ends_at

log = structlog.get_logger()

LOOK_SECONDS = 3600.0
# A server that was away is asked again sooner.
AGAIN_SECONDS = 300.0
ANSWER_SECONDS = 10.0
# PostgreSQL speaks TLS only after this request, and the answer `S`.
_SSL_REQUEST = struct.pack("!II", 8, 80877103)
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_TLS_MODES = {"require", "verify-ca", "verify-full"}


class Place(NamedTuple):
    """A server that shows a certificate."""

    host: str
    port: int
    postgres: bool = False

    @property
    def name(self) -> str:
        """Its label."""
        return f"{self.host}:{self.port}"


def places(chosen: Settings) -> list[Place]:
    """The servers that the settings reach by TLS, and those of TLS_WATCHED, each once."""
    return list(dict.fromkeys(_places(chosen)))


def _places(chosen: Settings) -> Iterator[Place]:
    if chosen.mqtt_tls:
        yield Place(chosen.mqtt_host, chosen.mqtt_port)
    if chosen.kafka_security_protocol.endswith("SSL"):
        yield from _listed(chosen.kafka_bootstrap_servers, 9092)
    if (sentinels := chosen.redis_sentinels()) and chosen.redis_url.get_secret_value().startswith("rediss"):
        yield from (Place(*address) for address in sentinels.addresses)
    urls = [None if sentinels else chosen.redis_url, chosen.celery_broker_url]
    for url in [urlsplit(one.get_secret_value()) for one in urls if one]:
        if url.scheme in {"rediss", "amqps"}:
            yield Place(url.hostname or "localhost", url.port or (6379 if url.scheme == "rediss" else 5671))
    for database in (chosen.database_url, chosen.database_direct_url):
        if database:
            yield from _databases(database.get_secret_value(), by_default=chosen.tls_ca_file is not None)
    yield from _listed(chosen.tls_watched, 8883)


def _databases(url: str, *, by_default: bool) -> Iterator[Place]:
    mode = conninfo_to_dict(url).get("sslmode")
    if mode in _TLS_MODES or (by_default and mode is None):
        for host, port in database_places(url):
            if not host.startswith("/"):  # a socket of this machine
                yield Place(host or "localhost", port, postgres=True)


def _listed(text: str, port: int) -> Iterator[Place]:
    for one in filter(None, (part.strip() for part in text.split(","))):
        found = urlsplit(f"//{one.rpartition('://')[2]}")
        yield Place(found.hostname or "localhost", found.port or port)


def read(place: Place) -> float:
    """The end of the certificate that the server shows, in Unix seconds.

    Nothing is sent that could be secret, so a server is asked whether it is trusted or not. Raises `OSError`
    (`ssl.SSLError` is one) and `InvalidCertificate`.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection((place.host, place.port), ANSWER_SECONDS) as plain:
        if place.postgres:
            plain.sendall(_SSL_REQUEST)
            if plain.recv(1) != b"S":
                raise ConnectionError(f"{place.name} offers no TLS")
        with context.wrap_socket(plain, server_hostname=place.host) as connection:
            shown = connection.getpeercert(binary_form=True)
    if shown is None:
        raise InvalidCertificate(f"{place.name} shows no certificate")
    return ends_at(shown)


def read_file(path: Path) -> float:
    """The earliest end of the certificates in a PEM file. Raises `OSError` and `InvalidCertificate`."""
    found = _PEM.findall(path.read_text(errors="replace"))
    if not found:
        raise InvalidCertificate("no certificate in it")
    try:
        return min(ends_at(ssl.PEM_cert_to_DER_cert(one)) for one in found)
    except binascii.Error as error:
        raise InvalidCertificate(str(error)) from error


class Watch:
    """The expiry times read last; a server that is away keeps the time that it had."""

    def __init__(self, chosen: Settings, read_from: Callable[[Place], float] = read) -> None:
        self._files = [path for path in (chosen.tls_ca_file, chosen.mqtt_tls_cert_file) if path]
        self._places = places(chosen)
        self._read = read_from
        self._ends: dict[tuple[str, ...], float] = {}

    def look(self) -> bool:
        """Reads all of them; returns whether all could be read."""
        found = [
            *(self._one(str(path), partial(read_file, path)) for path in self._files),
            *(self._one(place.name, partial(self._read, place)) for place in self._places),
        ]
        return all(found)

    def _one(self, name: str, read_end: Callable[[], float]) -> bool:
        try:
            end = read_end()
        except (OSError, ValueError) as error:  # a name that no host can have is a `UnicodeError`
            log.warning("certificate_not_read", server=name, error=str(error))
            return False
        self._ends = {**self._ends, (name,): end}
        return True

    def ends(self) -> dict[tuple[str, ...], float]:
        """The ends in Unix seconds, by server or file."""
        return self._ends


def watch(chosen: Settings) -> None:
    """Reads the certificates from now on, in a thread, and exports when they end."""
    found = Watch(chosen)

    def look() -> None:
        while True:
            time.sleep(LOOK_SECONDS if found.look() else AGAIN_SECONDS)

    metrics.CERTIFICATE_ENDS.read_from(found.ends)
    threading.Thread(target=look, name="certificates", daemon=True).start()
