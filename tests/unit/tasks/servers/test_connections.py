"""Each connection as the settings make it: verified where encrypted, and no secret where none belongs."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from psycopg.conninfo import conninfo_to_dict
from pydantic import ValidationError
from redis.connection import SSLConnection
from redis.sentinel import SentinelConnectionPool

from tasks import settings as tasks_settings
from tasks.servers import celery_broker, database, kafka, mqtt, redis_client, redis_sentinel
from tasks.settings import Settings

OF_EVERY_CLIENT = {
    "bootstrap.servers",
    "security.protocol",
    "reconnect.backoff.max.ms",
    "socket.timeout.ms",
    "topic.metadata.refresh.interval.ms",
}


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    """The certificate of an authority."""
    path = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(path)
    return path


@pytest.fixture
def in_force(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Changes of the environment are the settings of this process, and no file is read."""
    monkeypatch.setenv("SLUICE_ENV_FILE", "/dev/null")
    tasks_settings.settings.cache_clear()
    yield monkeypatch
    tasks_settings.settings.cache_clear()


def chosen(**values: Any) -> Settings:
    """Settings with these values, whatever the environment says."""
    return Settings(_env_file=None, **values)


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        ("PLAINTEXT", set()),
        ("SSL", {"ssl.ca.location"}),
        ("SASL_PLAINTEXT", {"sasl.mechanism", "sasl.username", "sasl.password"}),
        ("SASL_SSL", {"sasl.mechanism", "sasl.username", "sasl.password", "ssl.ca.location"}),
    ],
)
def test_a_kafka_client_has_what_its_protocol_needs_and_no_more(
    ca_file: Path, protocol: str, expected: set[str]
) -> None:
    """A password is given to a client only where it logs in, certificates only where it encrypts."""
    made = kafka.connection(
        chosen(
            kafka_security_protocol=protocol,
            kafka_sasl_username="sluice",
            kafka_sasl_password="a secret",  # noqa: S106
            tls_ca_file=ca_file,
        )
    )
    assert set(made) - OF_EVERY_CLIENT == expected
    assert not [name for name in made if "verif" in name or "identification" in name]


def test_a_kafka_client_finds_a_broker_soon_after_its_return_and_leaves_a_silent_one() -> None:
    """However long it was away; librdkafka alone would wait up to ten seconds more, and five minutes."""
    made = kafka.connection(chosen())
    assert made["reconnect.backoff.max.ms"] <= 2000
    assert made["socket.timeout.ms"] <= 10_000
    assert made["topic.metadata.refresh.interval.ms"] <= 10_000


def test_redis_is_verified_where_it_is_encrypted(ca_file: Path) -> None:
    """`rediss://` demands a certificate for the host; `redis://` knows nothing of TLS."""
    options = redis_client.tls_options(chosen(redis_url="rediss://r.example/0", tls_ca_file=ca_file))
    assert options == {
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
        "ssl_check_hostname": True,
        "ssl_ca_certs": str(ca_file),
    }
    assert redis_client.tls_options(chosen(redis_url="redis://r.example/0", tls_ca_file=ca_file)) == {}


def test_celerys_broker_is_redis_until_rabbitmq_is_named(ca_file: Path) -> None:
    """Each has the options that it understands, and RabbitMQ is verified, too, where it is encrypted."""
    over_redis = chosen(redis_url="redis://r.example/0")
    assert celery_broker.url(over_redis) == "redis://r.example/0"
    assert celery_broker.transport_options(over_redis)["visibility_timeout"] > 0
    url = "amqps://me:secret@rabbit.example/"
    over_rabbitmq = chosen(celery_broker_url=url, redis_url="rediss://r.example/0", tls_ca_file=ca_file)
    assert celery_broker.url(over_rabbitmq) == url
    assert celery_broker.transport_options(over_rabbitmq).keys() == {
        "confirm_publish",
        "read_timeout",
        "write_timeout",
    }
    assert celery_broker.tls_options(over_rabbitmq) == {
        "cert_reqs": ssl.CERT_REQUIRED,
        "server_hostname": "rabbit.example",
        "ca_certs": str(ca_file),
    }
    unencrypted = chosen(celery_broker_url="amqp://rabbit.example/", tls_ca_file=ca_file)
    assert celery_broker.tls_options(unencrypted) == {}


SENTINELS = "redis+sentinel://me:p%40@s1.example:26380,[::1]/2?master=main"


def test_sluice_and_celery_ask_the_same_sentinels_for_the_same_master() -> None:
    """The login of the servers is in each of Celery's URLs, that of the Sentinels in none."""
    by = chosen(redis_url=SENTINELS, redis_sentinel_username="asks", redis_sentinel_password="theirs")  # noqa: S106
    pool = redis_client.connect(by, socket_timeout=5).connection_pool
    assert isinstance(pool, SentinelConnectionPool)
    asked = [one.connection_pool.connection_kwargs for one in pool.sentinel_manager.sentinels]
    assert [(one["host"], one["port"]) for one in asked] == [("s1.example", 26380), ("::1", 26379)]
    assert {(one["username"], one["password"]) for one in asked} == {("asks", "theirs")}
    assert pool.service_name == "main"
    kept = {name: pool.connection_kwargs[name] for name in ("db", "username", "password", "socket_timeout")}
    assert kept == {"db": 2, "username": "me", "password": "p@", "socket_timeout": 5}

    url = "sentinel://me:p%40@s1.example:26380/2;sentinel://me:p%40@[::1]:26379/2"
    assert celery_broker.url(by) == celery_broker.redis_url(by) == url
    options = celery_broker.transport_options(by)
    assert options["master_name"] == celery_broker.redis_sockets(by)["master_name"] == "main"
    assert options["sentinel_kwargs"]["password"] == "theirs"  # noqa: S105
    assert options["visibility_timeout"] > 0


def test_sentinels_are_verified_where_they_are_encrypted(ca_file: Path) -> None:
    """Like the servers that they watch."""
    by = chosen(redis_url=SENTINELS.replace("redis+", "rediss+"), tls_ca_file=ca_file)
    verified = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True, "ssl_ca_certs": str(ca_file)}
    assert redis_client.tls_options(by) == celery_broker.tls_options(by) == verified
    assert {"ssl": True, **verified}.items() <= redis_sentinel.sentinel_options(by).items()
    pool = redis_client.connect(by).connection_pool
    assert issubclass(pool.connection_class, SSLConnection)
    assert verified.items() <= pool.connection_kwargs.items()


def test_sentinels_that_do_not_answer_cost_no_more_than_one_answer_of_redis() -> None:
    """Each is asked once, and then the next."""
    options = redis_sentinel.sentinel_options(chosen(redis_url=SENTINELS, redis_timeout_seconds=1))
    assert options["socket_timeout"] == options["socket_connect_timeout"] == 0.5
    assert redis_sentinel.sentinel_options(chosen(redis_url=SENTINELS))["socket_timeout"] == 1


def test_another_broker_is_refused_without_telling_its_password() -> None:
    """A broker other than Redis or RabbitMQ is named by its variable, and its URL is not shown."""
    with pytest.raises(ValidationError, match="must begin with amqp") as refused:
        chosen(celery_broker_url="sqs://me:secret@example/")
    assert "celery_broker_url" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_the_mqtt_broker_is_verified_where_it_is_encrypted(ca_file: Path, tmp_path: Path) -> None:
    """The certificate and the host of the broker are checked, and ours is shown if there is one."""
    assert mqtt.tls_context(chosen(tls_ca_file=ca_file)) is None
    context = mqtt.tls_context(chosen(mqtt_tls=True, tls_ca_file=ca_file))
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert len(context.get_ca_certs()) == 1
    empty = tmp_path / "empty.pem"
    empty.touch()
    with pytest.raises(OSError, match="PEM"):
        mqtt.tls_context(
            chosen(mqtt_tls=True, tls_ca_file=ca_file, mqtt_tls_cert_file=empty, mqtt_tls_key_file=empty)
        )


def test_the_database_is_verified_in_full_unless_its_url_says_otherwise(
    in_force: pytest.MonkeyPatch, ca_file: Path
) -> None:
    """TLS_CA_FILE makes `verify-full` the default; what a URL says itself is left alone."""
    url = "postgresql://me:secret@db.example:5432/x"
    assert database.conninfo(url) == url
    in_force.setenv("TLS_CA_FILE", str(ca_file))
    tasks_settings.settings.cache_clear()
    made = conninfo_to_dict(database.conninfo(url))
    assert (made["sslmode"], made["sslrootcert"]) == ("verify-full", str(ca_file))
    assert (made["host"], made["password"], made["dbname"]) == ("db.example", "secret", "x")
    assert conninfo_to_dict(database.conninfo(f"{url}?sslmode=disable"))["sslmode"] == "disable"


def test_secrets_come_from_files_below_the_environment(in_force: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file named like a setting is its value; the environment wins, and other files are left alone."""
    (tmp_path / "redis_url").write_text("redis://from-file/0\n")
    (tmp_path / "mqtt_password").write_text("from-file")
    (tmp_path / "server.key").write_text("not ours")
    in_force.setenv("SLUICE_SECRETS_DIR", str(tmp_path))
    in_force.setenv("MQTT_PASSWORD", "from-environment")
    tasks_settings.settings.cache_clear()
    read = tasks_settings.settings()
    assert read.redis_url.get_secret_value() == "redis://from-file/0"
    assert read.mqtt_password is not None
    assert read.mqtt_password.get_secret_value() == "from-environment"
    assert "from-file" not in repr(read)
