"""Is it ready? One real round trip to each kind of server; processes answer for themselves."""

import time
from collections.abc import Callable, Mapping

import paho.mqtt.client as mqtt
import psycopg
import redis
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from paho.mqtt.enums import CallbackAPIVersion
from pydantic import SecretStr

from compose.healthcheck import fault
from tasks.servers.redis_client import connect
from tasks.settings import Settings

_SECONDS = 3.0
_REDIS = ("redis_url", "redis_sentinel_password")

Probe = Callable[[Mapping[str, str]], str]
"""Takes the values of the env file and returns what is wrong, or nothing when all is well."""


def kafka(env: Mapping[str, str]) -> str:
    """Asks Kafka for its metadata."""
    # librdkafka reports every refused connection on stderr by default.
    client = AdminClient({"bootstrap.servers": env["KAFKA_BOOTSTRAP_SERVERS"], "log_level": 0})
    try:
        brokers = client.list_topics(timeout=_SECONDS).brokers
    except KafkaException as error:
        return str(error.args[0].str())
    return "" if brokers else "no broker in the metadata"


def redis_server(env: Mapping[str, str]) -> str:
    """Sends a PING to Redis."""
    secrets = {name: SecretStr(env[name.upper()]) for name in _REDIS if name.upper() in env}
    chosen = Settings(_env_file=None, **secrets)  # type: ignore[arg-type]
    client = connect(chosen, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS)
    try:
        client.ping()
    except redis.RedisError as error:
        return str(error)
    finally:
        client.close()
    return ""


def postgres(env: Mapping[str, str]) -> str:
    """Runs SELECT 1 in the database itself."""
    return _select(env.get("DATABASE_DIRECT_URL") or env["DATABASE_URL"])


def pgbouncer(env: Mapping[str, str]) -> str:
    """Runs SELECT 1 through PgBouncer."""
    return _select(env["DATABASE_URL"])


def mosquitto_answers(env: Mapping[str, str]) -> str:
    """Sends an MQTT CONNECT; a refusal is an answer, too: before the accounts exist nobody may connect."""
    reason = _connect(env)
    return "" if reason in {"Success", "Not authorized", "Bad user name or password"} else reason


def mosquitto_admits(env: Mapping[str, str]) -> str:
    """Logs in to the MQTT broker with Sluice's own account."""
    reason = _connect(env)
    return "" if reason == "Success" else reason


def _says_ready(variable: str) -> Probe:
    """Asks the process, on the port that the variable names, whether it does its work."""
    return lambda env: fault({"HEALTH_URL": f"http://127.0.0.1:{env[variable]}/readyz"})


# By name of server or process; a process without one is healthy when it keeps running.
PROBES: dict[str, Probe] = {
    "kafka": kafka,
    "redis": redis_server,
    "postgres": postgres,
    "pgbouncer": pgbouncer,
    "mosquitto": mosquitto_answers,
    # The worker takes tasks; the gateway and the control process have their subscriptions.
    "worker": _says_ready("METRICS_PORT"),
    "gateway": _says_ready("GATEWAY_METRICS_PORT"),
    "control": _says_ready("CONTROL_METRICS_PORT"),
}


def _select(url: str) -> str:
    try:
        with psycopg.connect(url, connect_timeout=int(_SECONDS), prepare_threshold=None) as connection:
            connection.execute("SELECT 1")
    except psycopg.Error as error:
        return str(error).strip()
    return ""


def _connect(env: Mapping[str, str]) -> str:
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.username_pw_set(env["MQTT_USERNAME"], env["MQTT_PASSWORD"])
    reasons: list[str] = []
    client.on_connect = lambda _client, _data, _flags, reason, _properties: reasons.append(str(reason))
    deadline = time.monotonic() + _SECONDS
    try:
        client.connect(env["MQTT_HOST"], int(env["MQTT_PORT"]))
        while not reasons and time.monotonic() < deadline:
            if client.loop(0.1) != mqtt.MQTT_ERR_SUCCESS and not reasons:
                return "the connection broke"
        client.disconnect()
    except OSError as error:
        return str(error)
    return reasons[0] if reasons else f"no answer in {_SECONDS:.0f} s"
