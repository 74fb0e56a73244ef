"""Clients of the servers that are reached by TLS alone: why a server does not let one in."""

import time
from typing import Any

import psycopg
import redis
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from paho.mqtt.enums import MQTTErrorCode

from tasks.servers import kafka, mqtt, redis_client
from tasks.settings import Settings

SECONDS = 15
"""Longest wait for a server's answer."""

SERVERS = ("mqtt", "kafka", "redis", "postgres")


def fault(server: str, chosen: Settings) -> str:
    """Why a client with these settings cannot use the server; nothing when it can."""
    return {"mqtt": mqtt_fault, "kafka": _kafka_fault, "redis": _redis_fault, "postgres": _postgres_fault}[
        server
    ](chosen)


def mqtt_fault(chosen: Settings) -> str:
    """The same of the MQTT broker."""
    client = mqtt.client(chosen, "")
    answers: list[str] = []
    client.on_connect = lambda _c, _d, _f, reason, _p: answers.append(str(reason))
    try:
        client.connect(chosen.mqtt_host, chosen.mqtt_port)
        deadline = time.monotonic() + SECONDS
        while not answers and time.monotonic() < deadline:
            if client.loop(0.1) != MQTTErrorCode.MQTT_ERR_SUCCESS and not answers:
                return "the connection broke"
        client.disconnect()
    except OSError as error:
        return str(error)
    finally:
        client._reset_sockets()  # or the garbage collector finds them, some time later
    return answers[0].replace("Success", "") if answers else "no answer"


def _kafka_fault(chosen: Settings) -> str:
    """Asks for the metadata until an answer or a final error comes."""
    told: list[KafkaError] = []
    config: dict[str, Any] = {**kafka.connection(chosen), "log_level": 0, "error_cb": told.append}
    client = AdminClient(config)
    final = {KafkaError._SSL, KafkaError._AUTHENTICATION}
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            client.list_topics(timeout=1)
        except KafkaException:
            client.poll(0.1)
            if errors := [error.str() for error in told if error.code() in final]:
                return errors[0]
        else:
            return ""
    return f"no answer: {told}"


def _redis_fault(chosen: Settings) -> str:
    url = chosen.redis_url.get_secret_value()
    with redis.Redis.from_url(url, retry=None, **redis_client.tls_options(chosen)) as client:
        try:
            client.get("anything")
        except redis.RedisError as error:
            return str(error)
    return ""


def _postgres_fault(chosen: Settings) -> str:
    conninfo = psycopg.conninfo.make_conninfo(
        chosen.database_url.get_secret_value(), sslmode="verify-full", sslrootcert=str(chosen.tls_ca_file)
    )
    try:
        psycopg.connect(conninfo, connect_timeout=SECONDS).close()
    except psycopg.OperationalError as error:
        return str(error)
    return ""
