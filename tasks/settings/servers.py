"""Settings of the servers: where they are, and how they are reached."""

import re
from typing import Literal, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import BaseModel, Field, FilePath, SecretStr, ValidationInfo, field_validator

_BAD_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2})|%00")
_PLACE = re.compile(r"[A-Za-z0-9._%-]*(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")

_PORT = re.compile(r":([0-9]+)$")
MOST_PORT = 65_535
_SENTINEL = "+sentinel"
_SENTINELS_FORM = "redis+sentinel://user:password@host:port,host:port/0?master=NAME"
SENTINEL_PORT = 26379


class Sentinels(NamedTuple):
    """Sentinels, and the Redis that they watch: its name, and how its current master is logged in to."""

    addresses: tuple[tuple[str, int], ...]
    master: str
    database: int
    username: str | None
    password: str | None


class Servers(BaseModel):
    """Where Kafka, Redis, the database, the MQTT broker and Celery's broker are, and how they are reached."""

    kafka_bootstrap_servers: str = Field("127.0.0.1:9092", description="Kafka brokers, `host:port,…`.")
    kafka_topic: str = Field("iot-stream", description="Topic of the telemetry; other domains add `-NAME`.")
    kafka_dlq_topic: str = Field(
        "iot-stream-dlq", description="Topic of its dead letters; other domains add `-NAME`."
    )
    kafka_group: str = Field("sluice-bridge", description="Consumer group of the bridge.")
    kafka_partitions: int = Field(
        12, ge=1, description="Partitions of the topics when `sluice topics` creates them."
    )
    kafka_replication: int = Field(
        1,
        ge=1,
        description="Replication factor when it creates them; from 3 on, two replicas must acknowledge a"
        " record.",
    )
    kafka_max_message_bytes: int = Field(
        2_097_152,
        ge=1024,
        description="Largest record of a domain's topic; twice that for its dead letters.",
    )
    kafka_delivery_timeout_seconds: int = Field(
        120,
        ge=1,
        description="Longest wait of a record for Kafka's acknowledgement; then the sender gives up.",
    )

    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="Protocol to Kafka: `SASL_SSL` encrypts, verifies the broker and logs in."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="Login mechanism of the `SASL_` protocols."
    )
    kafka_sasl_username: str | None = Field(None, description="User at Kafka.")
    kafka_sasl_password: SecretStr | None = Field(None, description="Its password.")

    tls_ca_file: FilePath | None = Field(
        None,
        description="CA certificates (PEM) that verify every server reached by TLS; by default the system's."
        " With it PostgreSQL is reached by `verify-full`, unless its URL says otherwise.",
    )
    tls_watched: str = Field(
        "",
        pattern=r"^((^|, ?)([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5})*$",
        description="Further TLS servers whose certificates the control process watches, `host:port,…`: the"
        " MQTT broker's port for devices, for example.",
    )

    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="Redis: results, leases, states, and Celery's broker unless `CELERY_BROKER_URL` names"
        " another. A URL of `rediss://` is TLS. `redis+sentinel://host:port,host:port/0?master=NAME` names"
        " Sentinels, which know where the master is, whose login comes before the first host;"
        " `rediss+sentinel://` is TLS to all of them.",
    )
    redis_sentinel_username: str | None = Field(
        None, description="User at the Sentinels; the user in `REDIS_URL` is that of the servers they watch."
    )
    redis_sentinel_password: SecretStr | None = Field(
        None, description="Password at the Sentinels, if they have one."
    )
    redis_timeout_seconds: float = Field(
        5.0,
        gt=0,
        description="A connection to Redis (or RabbitMQ) counts as broken after this time without an answer.",
    )

    database_url: SecretStr = Field(
        SecretStr("postgresql://127.0.0.1:5432/sluice"),
        description="PostgreSQL or TimescaleDB. Of several servers,"
        " `postgresql://host:port,host:port/name?target_session_attrs=read-write`, the one that takes writes"
        " is found.",
    )
    database_direct_url: SecretStr | None = Field(
        None,
        description="The same database without PgBouncer, whose transaction mode passes no notifications, as"
        " the owner of the tables: for migrations and the operator's commands; by default `DATABASE_URL`.",
    )
    database_connect_timeout_seconds: int = Field(
        5, ge=1, description="Longest time to open a database connection."
    )
    database_statement_timeout_seconds: int = Field(
        60, ge=1, description="Longest time of one statement; then the database ends it."
    )

    mqtt_host: str = Field("127.0.0.1", description="MQTT broker.")
    mqtt_port: int = Field(1883, ge=1, le=65535, description="Its port.")
    mqtt_username: str | None = Field(None, description="Service account of the gateway and the notifier.")
    mqtt_password: SecretStr | None = Field(None, description="Its password.")
    mqtt_tls: bool = Field(False, description="Connect to the MQTT broker by TLS, and verify it.")
    mqtt_tls_cert_file: FilePath | None = Field(
        None, description="Certificate (PEM) that is shown to the MQTT broker, if it asks for one."
    )
    mqtt_tls_key_file: FilePath | None = Field(None, description="The private key (PEM) of that certificate.")
    mqtt_client_id: str = Field(
        "sluice-gateway",
        min_length=1,
        description="Name of the gateway. Its client id is this name with a digest that cannot be guessed."
        " Each of several gateways that share the messages needs its own; of those with one name one acts,"
        " the others stand by.",
    )
    mqtt_control_client_id: str = Field(
        "sluice-control",
        min_length=1,
        description="Name of the control process; its client id is derived in the same way. Several have the"
        " same name: one acts, the others stand by.",
    )
    mqtt_session_secret: SecretStr | None = Field(
        None,
        description="Secret from which these client ids are derived; by default `MQTT_PASSWORD`. Set it to"
        " the old password when you change that, so that the sessions stay the same.",
    )
    mqtt_shared_group: str = Field(
        "",
        description="Group of the shared subscription; gateways that share the messages have the same one.",
    )
    mqtt_receive_maximum: int = Field(
        2000, ge=1, le=65535, description="Messages that the broker may have unacknowledged at the gateway."
    )
    mqtt_session_expiry_seconds: int = Field(
        4_294_967_295,
        ge=0,
        le=4_294_967_295,
        description="Time that the broker keeps the session of a gateway that is away; by default forever.",
    )
    mqtt_keepalive_seconds: int = Field(30, ge=5, description="MQTT keep-alive.")

    celery_broker_url: SecretStr | None = Field(
        None,
        description="RabbitMQ as Celery's broker: a URL of `amqp://`, or of `amqps://`, which is TLS. Redis"
        " is still needed.",
    )
    celery_visibility_timeout_seconds: int = Field(
        300,
        ge=10,
        description="After this long Redis gives an unacknowledged task to another worker; RabbitMQ does so"
        " when the worker's connection ends.",
    )
    celery_result_expires_seconds: int = Field(
        600, ge=60, description="Time that task results stay in Redis."
    )

    @field_validator("tls_watched")
    @classmethod
    def _has_ports(cls, watched: str) -> str:
        if any(int(one.rpartition(":")[2]) > MOST_PORT for one in watched.split(",") if one):
            raise ValueError(f"a port is at most {MOST_PORT}")
        return watched

    @field_validator("celery_broker_url")
    @classmethod
    def _is_rabbitmq(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("amqp://", "amqps://")):
            raise ValueError(
                "must begin with amqp:// or amqps://; the Redis of REDIS_URL needs no other name"
            )
        return value

    @field_validator("redis_url")
    @classmethod
    def _is_not_celerys(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value().startswith("sentinel://"):
            raise ValueError(f"Sentinels are named by {_SENTINELS_FORM}, without a scheme before each")
        return value

    @field_validator("database_url", "database_direct_url", "redis_url", "celery_broker_url")
    @classmethod
    def _is_url(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        judge = is_database if (info.field_name or "").startswith("database") else is_url
        if value and not judge(value.get_secret_value()):
            raise ValueError(
                "is not a URL such as scheme://user:password@host:port/name; in a password"
                " %, @, :, /, ?, # and spaces must be written as %25, %40, %3A, %2F, %3F, %23 and %20"
            )
        return value

    @field_validator("database_url", "database_direct_url")
    @classmethod
    def _finds_the_primary(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not finds_the_primary(value.get_secret_value()):
            raise ValueError(
                "names several servers, and of these the one must be found that takes writes: it must say"
                " target_session_attrs=read-write, as in"
                " postgresql://user:password@host:port,host:port/name?target_session_attrs=read-write"
            )
        return value

    @field_validator("redis_url")
    @classmethod
    def _is_redis(cls, value: SecretStr) -> SecretStr:
        sentinels(value.get_secret_value())
        return value

    def redis_sentinels(self) -> Sentinels | None:
        """The Sentinels that know the master; None where `redis_url` names the server itself."""
        return sentinels(self.redis_url.get_secret_value())

    def owners_database_url(self) -> SecretStr:
        """The database URL of migrations, the operator's commands and listeners for notifications."""
        return self.database_direct_url or self.database_url


def sentinels(url: str) -> Sentinels | None:
    """The Sentinels in a URL; None in one of a single server. The URL must pass `is_url`.

    Raises `ValueError`, which does not quote it.
    """
    scheme = url.partition("://")[0]
    if not scheme.endswith(_SENTINEL):
        if scheme not in {"redis", "rediss"}:
            raise ValueError("must begin with redis://, rediss://, redis+sentinel:// or rediss+sentinel://")
        if "," in urlsplit(url).netloc:
            raise ValueError(f"names several servers; Sentinels are named by {_SENTINELS_FORM}")
        return None
    if scheme.removesuffix(_SENTINEL) not in {"redis", "rediss"}:
        raise ValueError(f"must be {_SENTINELS_FORM}, or rediss+sentinel:// for TLS")
    parts = urlsplit(url)
    login, _, places = parts.netloc.rpartition("@")
    username, _, password = login.partition(":")
    found = [urlsplit(f"//{place}") for place in places.split(",")]
    if not all(one.hostname for one in found):
        raise ValueError(f"has no host between two commas, or none at all; it must be {_SENTINELS_FORM}")
    ports = [SENTINEL_PORT if end is None else int(end) for end in map(_port_of, places.split(","))]
    if not all(1 <= port <= MOST_PORT for port in ports):
        raise ValueError(f"a port of a Sentinel is at least 1 and at most {MOST_PORT}")
    query = parse_qs(parts.query, keep_blank_values=True)
    if set(query) != {"master"} or len(query["master"]) != 1 or not query["master"][0]:
        raise ValueError(f"must end with ?master=NAME, and nothing else: {_SENTINELS_FORM}")
    database = parts.path.removeprefix("/") or "0"
    if not database.isdecimal():
        raise ValueError(f"the database is a number: {_SENTINELS_FORM}")
    return Sentinels(
        tuple((str(one.hostname), port) for one, port in zip(found, ports, strict=True)),
        query["master"][0],
        int(database),
        unquote(username) or None,
        unquote(password) or None,
    )


def _port_of(place: str) -> str | None:
    return found[1] if (found := _PORT.search(place)) else None


def is_url(text: str) -> bool:
    """Whether user, password, hosts and ports can be read in one way only.

    Otherwise the libraries quote the whole URL in their errors, or take a piece of the password for a host
    or a port and name that.
    """
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    login, _, places = parts.netloc.rpartition("@")
    return (
        "://" in text
        and text.isprintable()
        and " " not in text
        and not _BAD_ESCAPE.search(text)
        and login.count(":") <= 1
        and not set("@[]") & set(login)
        and not any("@" in part for part in (parts.path, parts.query, parts.fragment))
        and all(_PLACE.fullmatch(place) for place in places.split(","))
    )


def finds_the_primary(text: str) -> bool:
    """Whether what passes `is_database` names one server, or asks for that of several which takes writes."""
    if "," not in text:
        return True
    import psycopg  # noqa: PLC0415 - not every process needs it

    given = psycopg.conninfo.conninfo_to_dict(text)
    servers = max(str(given.get(name, "")).count(",") for name in ("host", "hostaddr"))
    return not servers or given.get("target_session_attrs") in {"read-write", "primary"}


def is_database(text: str) -> bool:
    """The same for a database, which may also be given as libpq's `key=value` pairs."""
    if "://" in text:
        return is_url(text)
    import psycopg  # noqa: PLC0415 - not every process needs it

    try:
        return bool(psycopg.conninfo.conninfo_to_dict(text))
    except psycopg.ProgrammingError:
        return False
