"""The settings of every process: one typed object, read from the environment."""

import os
from functools import lru_cache
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, FilePath, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tasks.text.urls import is_database, is_url


class Settings(BaseSettings):
    """All settings; each field is set by the environment variable of its name in capitals.

    The environment wins over the file named by `SLUICE_ENV_FILE` (default `.local/env`, which
    `make up` writes), that over the files in the folder named by `SLUICE_SECRETS_DIR`, each named like
    its field, and that over the defaults here.
    """

    model_config = SettingsConfigDict(
        env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    domains: str = Field(
        "tasks.telemetry",
        description="Modules of the domains, `module,…`; rules without a domain apply to the first.",
    )

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
        " another. A URL of `rediss://` is TLS.",
    )
    redis_timeout_seconds: float = Field(
        5.0,
        gt=0,
        description="A connection to Redis (or RabbitMQ) counts as broken after this time without an answer.",
    )

    database_url: SecretStr = Field(
        SecretStr("postgresql://127.0.0.1:5432/sluice"), description="PostgreSQL or TimescaleDB."
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
        " Each of several gateways needs its own.",
    )
    mqtt_control_client_id: str = Field(
        "sluice-control",
        min_length=1,
        description="Name of the control process; its client id is derived in the same way. Only one may"
        " run.",
    )
    mqtt_session_secret: SecretStr | None = Field(
        None,
        description="Secret from which these client ids are derived; by default `MQTT_PASSWORD`. Set it to"
        " the old password when you change that, so that the sessions stay the same.",
    )
    mqtt_shared_group: str = Field(
        "",
        description="Group of the shared subscription; several gateways need one, with the same name.",
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

    lanes: int = Field(
        2,
        ge=1,
        description="Lanes of each domain in one bridge; each has at most one batch in flight."
        " Fewer are quicker on few cores; more use more of them.",
    )
    batch_max_messages: int = Field(8000, ge=1, description="Maximum number of messages in a batch.")
    batch_max_bytes: int = Field(
        8_388_608, ge=1024, description="Maximum number of payload bytes in a batch."
    )
    batch_part_messages: int = Field(
        1000, ge=1, description="A batch gets one more `process` part for each of this many messages."
    )
    batch_max_parts: int = Field(2, ge=1, description="Maximum number of `process` parts of a batch.")
    part_alert_bytes: int = Field(
        524_288,
        ge=1,
        description="At this many bytes of one user's alert changes (about 1 kB each) a part judges no more"
        " of the user's readings; they go with the next batches, and other users' do not wait.",
    )
    batch_linger_ms: int = Field(
        100,
        ge=0,
        description="Longest wait of a message in its lane for others; less is quicker and costs more CPU.",
    )
    lease_seconds: int = Field(
        10,
        ge=2,
        description="A batch without a sign of life for this long is sent again (longer at each retry).",
    )
    process_cpu_seconds: float = Field(
        10.0,
        gt=0,
        description="CPU time that `process` may use for its part of a batch before it counts as hanging and"
        " is killed; a message that does so repeatedly becomes a dead letter.",
    )
    rebalance_wait_seconds: float = Field(
        5.0, ge=0, description="Time that a revoked lane waits for its batch before it drops it."
    )
    stop_grace_seconds: float = Field(
        20.0, ge=0, description="Time that a stopping process has to finish what it has begun."
    )

    payload_max_bytes: int = Field(
        262_144,
        ge=64,
        description="A larger payload becomes a dead letter. One above the broker's packet limit (1 MB)"
        " never arrives: the broker ends the connection.",
    )
    payload_max_depth: int = Field(32, ge=1, le=200, description="A payload nested deeper is refused.")

    store_wait_seconds: int = Field(
        120,
        ge=1,
        description="Time that `store` waits for a database that is away before it hands its batch back.",
    )

    dead_letter_retention_days: int = Field(
        30,
        ge=1,
        description="Retention of the dead letters' topics when `sluice topics` creates them.",
    )
    rejected_notices: bool = Field(
        False,
        description="Whether a device gets a notice on `users/{user}/devices/{device}/rejected` when Sluice"
        " refuses a message of the device (docs/devices.md).",
    )
    dead_letter_share_limit: float = Field(
        0.05,
        gt=0,
        le=1,
        description="Share of dead letters among all messages above which an alarm is raised; 1 is never.",
    )
    dead_letter_share_window_seconds: float = Field(300.0, ge=10, description="The window of that share.")

    outbox_max_entries: int = Field(
        50_000,
        ge=1,
        description="Undelivered alert changes above which no readings are judged until some are delivered.",
    )
    outbox_max_bytes: int = Field(
        256 * 1024 * 1024,
        ge=1024,
        description="At this many bytes of undelivered alert changes no readings are judged until some are"
        " delivered. They are in the memory of Redis.",
    )
    outbox_max_user_bytes: int = Field(
        8 * 1024 * 1024,
        ge=1024,
        description="At this many bytes of one user's undelivered alert changes no readings of that user are"
        " judged until some are delivered.",
    )
    absence_grace_seconds: int = Field(
        30,
        ge=0,
        description="Time that devices have to return after an outage of the gateway before silence counts.",
    )

    compress_after_days: int = Field(
        7, ge=0, description="Rows older than this are compressed where the server can; 0 never compresses."
    )
    retention_days: int = Field(
        0,
        ge=0,
        description="Rows older than this are removed, by whole days (UTC); 0 keeps them forever."
        " `sluice migrate` writes it into the table `retention`, by which beat has it done.",
    )
    retention_days_of: dict[str, Annotated[int, Field(ge=0)]] = Field(
        default={},
        description='The same for single domains, as JSON by their names: `{"crates": 30}`.',
    )
    rollups: bool = Field(
        False,
        description="Whether the numeric columns are rolled up by hour and by day (docs/retention.md).",
    )
    rollup_hourly_days: int = Field(
        400, ge=0, description="Rollups by the hour are kept this long; 0 keeps them forever."
    )
    rollup_daily_days: int = Field(
        3660, ge=0, description="Rollups by the day are kept this long; 0 keeps them forever."
    )

    user_messages_per_second: float = Field(
        10_000,
        ge=0,
        description="Messages per second that a user's devices may send through one gateway in the long run;"
        " more become dead letters (`RateLimited`). 0 means unlimited.",
    )
    user_bytes_per_second: float = Field(
        20_000_000, ge=0, description="The same for their payloads' bytes. 0 means unlimited."
    )
    user_burst_seconds: float = Field(
        300,
        ge=1,
        description="Seconds' worth of both that may come at once, as after an outage.",
    )
    devices_per_user: int = Field(
        100_000,
        ge=1,
        description="Maximum number of devices of one user (`sluice provision device`).",
    )
    open_alerts_per_user: int = Field(
        100_000,
        ge=1,
        description="Alerts that a user may have open at the same time; one more becomes a dead letter"
        " (`TooManyAlerts`), and is triggered later if its rule is still violated when there is room.",
    )
    absent_never_seen: bool = Field(
        False,
        description="Absence rules without a `key` are also about devices that have never sent anything:"
        " those with an account, and those that a rule names in `devices`. Silence counts from the time of"
        " the account, or of the user's rules where that is later.",
    )
    retained_alert_states: Literal["off", "on", "clear"] = Field(
        "off",
        description="`on`: the MQTT broker keeps the present state of each open alert on"
        " `users/{user}/alerts/state/{device}/{rule}` for who subscribes later. `clear`: what it keeps of an"
        " alert goes with the alert's next change.",
    )

    request_patience_seconds: float = Field(
        300.0,
        ge=30,
        description="Longest wait of a user's requests for servers that are away; then the answer"
        " refuses them.",
    )
    requests_per_user: int = Field(
        300,
        ge=1,
        description="Maximum number of a user's requests that wait for their answers; more are refused.",
    )

    channel_schemes: str = Field(
        "https,mailto,slack,workflows,discord,tgram,wxteams,gchat,zulip,pover,ntfys,gotifys,mmosts,matrixs,"
        "rockets,pagerduty,opsgenie",
        pattern=r"^[a-z][a-z0-9+]*( ?, ?[a-z][a-z0-9+]*)*$",
        description="Schemes that channels of alerts may have: `https` and `http` for webhooks, `mailto` for"
        " mail, all others by Apprise's names.",
    )
    channel_allowed_networks: str = Field(
        "",
        description="Networks that webhooks and Apprise may reach although they are not public,"
        " `10.1.0.0/16,…`. All other private, loopback, link-local and multicast addresses are refused"
        " at each connection.",
    )
    channel_timeout_seconds: float = Field(
        10.0,
        gt=0,
        le=20,
        description="Longest wait for one step of telling a channel; twice that for all of them together.",
    )
    channel_attempts: int = Field(
        15,
        ge=1,
        le=100,
        description="Attempts to tell a channel of one change, with pauses from 2 s to an hour; then it has"
        " failed.",
    )
    channel_patience_hours: float = Field(
        24.0, gt=0, description="A change that could not be told for this long has failed."
    )
    channel_messages_per_minute: float = Field(
        300.0,
        gt=0,
        description="Attempts per minute of all of one user's channels in the long run; as many may come at"
        " once.",
    )
    channel_retention_days: int = Field(
        30, ge=1, description="Time that the table `channel_deliveries` keeps what was sent or has failed."
    )

    smtp_host: str | None = Field(None, description="Mail server of the channels; without it none is sent.")
    smtp_port: int = Field(587, ge=1, le=65535, description="Its port.")
    smtp_security: Literal["starttls", "tls", "none"] = Field(
        "starttls",
        description="How the mail server is reached: `tls` from the first byte, mostly at port 465.",
    )
    smtp_username: str | None = Field(None, description="Account at the mail server, if it needs one.")
    smtp_password: SecretStr | None = Field(None, description="Its password.")
    smtp_from: str | None = Field(
        None, pattern=r"^[^\s@]+@[^\s@]+$", description="Address from which the mails come."
    )

    rules_poll_seconds: float = Field(
        5.0,
        gt=0,
        description="Interval at which the table of rules is checked for changes without a notification.",
    )

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
    celery_soft_shutdown_seconds: float = Field(
        15.0, ge=0, description="Time that a stopping worker gives its tasks to finish."
    )
    worker_deaf_seconds: float = Field(
        15.0,
        ge=5,
        description="A worker that takes no work for this long, though there is some and it is free, ends.",
    )

    flower_port: int = Field(5555, ge=1, le=65535, description="Port of the Flower page.")
    flower_basic_auth: SecretStr | None = Field(
        None, description="Login of the Flower page, `name:password`."
    )
    web_host: str = Field(
        "127.0.0.1", description="Address on which `web` serves the HTTP API and the console."
    )
    web_port: int = Field(8088, ge=1, le=65535, description="Its port.")
    web_token: SecretStr | None = Field(
        None,
        min_length=16,
        description="The operator's token of the HTTP API, of at least 16 characters; without it only tenants"
        " have tokens (`sluice tokens`).",
    )
    web_requests_per_second: float = Field(
        20.0,
        gt=0,
        description="Requests per second of one token in the long run; ten seconds' worth may come at once.",
    )
    web_trusted_proxies: str = Field(
        "",
        description="Addresses or networks of reverse proxies, `10.0.0.5,192.168.7.0/24`: of a request from"
        " one the address of the client is the last of `X-Forwarded-For` that is not a proxy's.",
    )
    web_secure_cookies: bool = Field(
        False,
        description="Cookies of the console only over TLS: true where people reach `web` by a proxy with TLS"
        " alone. A request that is known to have come by TLS gets such a cookie in any case.",
    )
    web_connections: int = Field(
        8, ge=1, description="Database connections of `web`; a request without one waits, then gets 503."
    )
    web_statement_timeout_seconds: float = Field(
        10.0,
        gt=0,
        description="Longest time of one query of the HTTP API; then 504.",
    )
    metrics_host: str = Field(
        "0.0.0.0",  # noqa: S104 - where Prometheus and the probes of a container come from
        description="Address on which each process serves its metrics and health.",
    )
    process_host: str = Field(
        "127.0.0.1",
        pattern=r"^[A-Za-z0-9.:{}_-]+$",
        description="Host at which `sluice status` asks a process; `{process}` in it is the process's name.",
    )
    metrics_port: int = Field(
        9000, ge=0, le=65535, description="Port of the worker's metrics and health; 0 opens none, as below."
    )
    gateway_metrics_port: int = Field(9001, ge=0, le=65535, description="The same for the gateway.")
    bridge_metrics_port: int = Field(9002, ge=0, le=65535, description="The same for the bridge.")
    control_metrics_port: int = Field(9003, ge=0, le=65535, description="The same for the control process.")
    notify_metrics_port: int = Field(
        9005, ge=0, le=65535, description="The same for a worker of the queue `notify` alone."
    )
    beat_metrics_port: int = Field(9004, ge=0, le=65535, description="The same for beat.")
    web_metrics_port: int = Field(9006, ge=0, le=65535, description="The same for `web`.")

    otel_exporter_otlp_endpoint: str | None = Field(
        None,
        description="Collector of traces (OTLP by HTTP), `http://collector:4318`; without it tracing is off.",
    )
    trace_sample_ratio: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Share of messages that are traced; dead letters, changes of alerts and messages that"
        " their sender sampled always are.",
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest severity that is logged."
    )
    log_format: Literal["json", "console"] = Field(
        "json", description="`json` for machines, `console` for people."
    )

    @field_validator("tls_watched")
    @classmethod
    def _has_ports(cls, watched: str) -> str:
        if any(int(one.rpartition(":")[2]) > 65_535 for one in watched.split(",") if one):
            raise ValueError("a port is at most 65535")
        return watched

    @field_validator("channel_allowed_networks")
    @classmethod
    def _are_networks(cls, networks: str) -> str:
        for one in networks.split(","):
            if one.strip():
                ip_network(one.strip())
        return networks

    @field_validator("celery_broker_url")
    @classmethod
    def _is_rabbitmq(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("amqp://", "amqps://")):
            raise ValueError(
                "must begin with amqp:// or amqps://; the Redis of REDIS_URL needs no other name"
            )
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

    @field_validator("web_trusted_proxies")
    @classmethod
    def _are_proxies(cls, value: str) -> str:
        named = [one.strip() for one in value.split(",") if one.strip()]
        for one in named:
            try:
                ip_network(one)
            except ValueError:
                raise ValueError(
                    "must be IP addresses or networks, with commas between them: 10.0.0.5,192.168.7.0/24"
                ) from None
        return ",".join(named)

    def retention_days_in(self, domain: str) -> int:
        """How long a domain's rows are kept; 0 is forever."""
        return self.retention_days_of.get(domain, self.retention_days)

    def owners_database_url(self) -> SecretStr:
        """The database URL of migrations, the operator's commands and listeners for notifications."""
        return self.database_direct_url or self.database_url


def env_file() -> Path | None:
    """The file that settings are read from, besides the environment.

    It is the one that SLUICE_ENV_FILE names, otherwise the local stack's `.local/env` of the checkout that
    the working directory is in; None if there is neither.
    """
    if named := os.environ.get("SLUICE_ENV_FILE"):
        return Path(named)
    here = Path.cwd()
    checkout = next(
        (folder for folder in (here, *here.parents) if (folder / "celeryconfig.py").exists()), here
    )
    found = checkout / ".local" / "env"
    return found if found.exists() else None


@lru_cache
def settings() -> Settings:
    """The settings of this process, read once.

    Raises `pydantic.ValidationError` naming each variable that is wrong.
    """
    return Settings(
        _env_file=env_file(),
        _secrets_dir=os.environ.get("SLUICE_SECRETS_DIR"),
    )
