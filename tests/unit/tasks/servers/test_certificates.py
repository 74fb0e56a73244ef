"""The watched certificates, and the last known state of a server that is away."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from pydantic import ValidationError

from tasks.servers import certificates
from tasks.servers.certificates import Place, Watch, places
from tasks.settings import Settings

CA = trustme.CA()
END = datetime(2031, 2, 3, 4, 5, 6, tzinfo=UTC)


def chosen(**values: Any) -> Settings:
    """Settings without a file or an environment."""
    return Settings(_env_file=None, **values)


def test_without_tls_there_is_nothing_to_watch() -> None:
    """By default no server is reached by TLS."""
    assert places(chosen()) == []


def test_every_server_that_is_reached_by_tls_is_watched(tmp_path: Path) -> None:
    """The broker, each of Kafka's, Redis, RabbitMQ, the database, and what else is named; each once."""
    file = tmp_path / "ca.pem"
    CA.cert_pem.write_to_path(file)
    found = places(
        chosen(
            mqtt_tls=True,
            mqtt_host="broker",
            mqtt_port=8883,
            kafka_security_protocol="SASL_SSL",
            kafka_bootstrap_servers="k1:9093,k2:9094",
            redis_url="rediss://u:p@redis:6380/0",
            celery_broker_url="amqps://u:p@rabbit/",
            database_url="postgresql://u:p@pool:6432/x",
            database_direct_url="postgresql://u:p@db1,db2:5433/x?target_session_attrs=read-write&sslmode=disable",
            tls_ca_file=str(file),
            tls_watched="broker:8883, [::1]:8884",
        )
    )
    assert found == [
        Place("broker", 8883), Place("k1", 9093), Place("k2", 9094), Place("redis", 6380),
        Place("rabbit", 5671), Place("pool", 6432, postgres=True), Place("::1", 8884),
    ]  # fmt: skip
    sentinels = chosen(redis_url="rediss+sentinel://u:p@s1,s2:26380/0?master=main")
    assert places(sentinels) == [Place("s1", 26379), Place("s2", 26380)]
    assert places(chosen(redis_url="redis+sentinel://u:p@s1,s2:26380/0?master=main")) == []
    require = chosen(database_url="postgresql://u:p@a,b:2/x?target_session_attrs=read-write&sslmode=require")
    assert places(require) == [Place("a", 5432, postgres=True), Place("b", 2, postgres=True)]


@pytest.fixture(params=[False, True], ids=["tls", "postgres"])
def server(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A TLS server with a certificate that nobody trusts; as PostgreSQL it is asked for TLS first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CA.issue_cert("nowhere.example", not_after=END).configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            if request.param:
                assert connection.recv(8) == bytes.fromhex("0000000804d2162f")
                connection.sendall(b"S")
            # A client that has read the certificate leaves without a word.
            with suppress(OSError), context.wrap_socket(connection, server_side=True) as secured:
                secured.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        yield Place("127.0.0.1", listener.getsockname()[1], postgres=request.param)
        thread.join(30)


def test_the_end_is_read_from_a_server_that_is_not_trusted(server: Place) -> None:
    """It is a date on a calendar, not a login."""
    assert certificates.read(server) == END.timestamp()


def test_a_server_that_is_away_keeps_its_end() -> None:
    """The alert must not go because the server does not answer."""
    answers: list[float | OSError] = [100.0, ConnectionRefusedError("refused"), 200.0]

    def read(_: Place) -> float:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    watch = Watch(chosen(tls_watched="emqx:8883"), read)
    assert watch.ends() == {}
    assert watch.look()
    assert watch.ends() == {("emqx:8883",): 100.0}
    assert not watch.look()
    assert watch.ends() == {("emqx:8883",): 100.0}
    assert watch.look()
    assert watch.ends() == {("emqx:8883",): 200.0}


def test_a_name_that_no_host_can_have_ends_no_watch() -> None:
    """It is logged like a server that is away, and the others are read."""
    watch = Watch(chosen(tls_watched="a..b:8883"))
    assert not watch.look()
    assert watch.ends() == {}


def test_files_of_the_settings_are_watched_by_their_earliest_end(tmp_path: Path) -> None:
    """A bundle ends with the first of its certificates; one that cannot be read keeps the end that it had."""
    file = tmp_path / "bundle.pem"
    issued = [trustme.CA().issue_cert("x", not_after=END + timedelta(days=days)) for days in (5, 0, 9)]
    file.write_text("".join(f"a comment\n{one.cert_chain_pems[0].bytes().decode()}" for one in issued))
    watch = Watch(chosen(tls_ca_file=str(file), database_url="postgresql://a/x?sslmode=disable"))
    assert watch.look()
    assert watch.ends() == {(str(file),): END.timestamp()}
    for text in ("nothing", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        file.write_text(text)
        assert not watch.look()
    assert watch.ends() == {(str(file),): END.timestamp()}


@pytest.mark.parametrize("text", ["emqx", "emqx:mqtts", "emqx:8883;", "a:1,,b:2", "a b:1", "a:99999"])
def test_a_place_that_cannot_be_asked_is_refused_by_the_settings(text: str) -> None:
    """It would be watched by nobody, without a word."""
    with pytest.raises(ValidationError):
        chosen(tls_watched=text)
