"""The outcomes of the messages: rows in the database, dead letters and records in Kafka."""

import base64
import json
import time
from collections.abc import Iterator
from datetime import datetime

import psycopg
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from ingest.admin.servers.positions import KafkaAway, Positions
from ingest.loadtest.ledger import Letter, RunRecord, fingerprint
from tasks.servers import kafka
from tasks.servers.database import conninfo
from tasks.settings import settings
from tasks.telemetry import DOMAIN

TABLE = DOMAIN.table
SILENCE_SECONDS = 20.0
"""Seconds after which a read of Kafka that returns nothing, though there is more, has failed."""


class KafkaEvidence:
    """What Kafka got since this object was made, for the given topics' messages of MQTT.

    Every method raises `KafkaAway` when Kafka does not answer.
    """

    def __init__(
        self, bootstrap_servers: str, topic: str, dlq_topic: str, group: str, mqtt_topics: set[str]
    ) -> None:
        self._topic, self._dlq_topic = topic, dlq_topic
        self._mqtt_topics = mqtt_topics
        self._bootstrap_servers = bootstrap_servers
        self._positions = Positions(bootstrap_servers, group)
        self._start = self._positions.ends(topic)
        self._letters_read = self._positions.ends(dlq_topic)

    def new_letters(self) -> list[Letter]:
        """The dead letters that came since the last call."""
        ends = self._positions.ends(self._dlq_topic)
        letters = []
        for record in self._read(self._dlq_topic, self._letters_read, ends):
            letter = _letter(record)
            if letter.topic in self._mqtt_topics:
                letters.append(letter)
        self._letters_read = ends
        return letters

    def ends(self) -> dict[int, int]:
        """Where the telemetry topic ends now."""
        return self._positions.ends(self._topic)

    def lag(self, ends: dict[int, int]) -> int:
        """Records before `ends` that the bridge has not committed."""
        return self._positions.lag(self._topic, ends)

    def records(self) -> Iterator[RunRecord]:
        """The telemetry topic's records of the run, read from Kafka one by one."""
        committed = self._positions.committed(self._topic)
        for record in self._read(self._topic, self._start, self.ends()):
            topic = _text(dict(record.headers() or ()).get("mqtt_topic"))
            if topic in self._mqtt_topics:
                payload = record.value() or b""
                partition, offset = _position(record)
                yield RunRecord(
                    topic,
                    _sequence_id(payload),
                    fingerprint(topic, payload),
                    offset < committed.get(partition, 0),
                )

    def close(self) -> None:
        """Ends the connections."""
        self._positions.close()

    def _read(self, topic: str, start: dict[int, int], ends: dict[int, int]) -> Iterator[KafkaMessage]:
        waiting = {number: end for number, end in ends.items() if start.get(number, 0) < end}
        if not waiting:
            return
        consumer = Consumer(
            {
                **kafka.connection(settings()),
                "bootstrap.servers": self._bootstrap_servers,
                "group.id": "sluice-loadtest",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "log_level": 0,
            }
        )
        try:
            consumer.assign([TopicPartition(topic, number, start.get(number, 0)) for number in waiting])
            heard = time.monotonic()
            while waiting:
                if time.monotonic() - heard > SILENCE_SECONDS:
                    raise KafkaAway(f"{topic} could not be read to its end within {SILENCE_SECONDS:.0f} s")
                for record in consumer.consume(1000, 0.5):
                    error = record.error()
                    if error is not None:
                        _check(error)
                        continue
                    heard = time.monotonic()
                    partition, offset = _position(record)
                    if partition in waiting:
                        if offset < waiting[partition]:
                            yield record
                        if offset + 1 >= waiting[partition]:
                            del waiting[partition]
        except KafkaException as error:
            raise KafkaAway(str(error)) from error
        finally:
            consumer.close()


def _check(error: KafkaError) -> None:
    # librdkafka reconnects on its own; only errors that it calls fatal are final.
    if error.fatal():
        raise KafkaAway(error.str())


def _position(record: KafkaMessage) -> tuple[int, int]:
    partition, offset = record.partition(), record.offset()
    assert partition is not None
    assert offset is not None
    return partition, offset


def _text(header: str | bytes | None) -> str:
    return header.decode() if isinstance(header, bytes) else header or ""


def _letter(record: KafkaMessage) -> Letter:
    envelope = json.loads(record.value() or b"{}")
    topic = envelope.get("original_topic") or ""
    payload = base64.b64decode(envelope.get("payload_base64") or "")
    return Letter(
        record.key() or b"",
        topic,
        envelope.get("error_type") or "",
        fingerprint(topic, payload),
        _sequence_id(payload),
    )


def _sequence_id(payload: bytes) -> int | None:
    try:
        sequence_id = json.loads(payload)["sequence_id"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return sequence_id if type(sequence_id) is int else None


class Rows:
    """The run's rows. Each call connects again, and raises `psycopg.OperationalError` when it cannot."""

    def __init__(self, database_url: str, users: list[str], since: datetime) -> None:
        self._database_url = database_url
        # The time lets TimescaleDB look at the newest chunks only.
        self._where = "user_id = any(%s) AND time >= %s"
        self._values = (users, since)

    def count(self) -> int:
        """How many rows there are now."""
        with self._connect() as connection:
            row = connection.execute(
                f"SELECT count(*) FROM {TABLE} WHERE {self._where}",  # noqa: S608 - fixed text
                self._values,
            ).fetchone()
        assert row is not None
        return int(row[0])

    def all(self) -> Iterator[tuple[str, str, int]]:
        """User, device and sequence id of each row."""
        with self._connect() as connection, connection.cursor(name="loadtest_rows") as cursor:
            cursor.itersize = 20_000
            cursor.execute(
                f"SELECT user_id, device_id, sequence_id FROM {TABLE} WHERE {self._where}",  # noqa: S608
                self._values,
            )
            yield from cursor

    def _connect(self) -> psycopg.Connection[tuple[str, str, int]]:
        return psycopg.connect(
            conninfo(self._database_url), connect_timeout=5, application_name="sluice-loadtest"
        )
