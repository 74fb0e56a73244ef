"""A Kafka record is the same message for whoever reads it."""

import json
from datetime import UTC, datetime
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.mqtt.record import record_of
from tasks.batch.kafka_record import message_of
from tasks.batch.messages import REDELIVERED, SILENT, HintedMessage, Message, Part, pack_part, unpack_part
from tasks.dead_letters import sender
from tasks.dead_letters.letter import parse_letter
from tasks.dead_letters.sender import DeadLetter
from tasks.domain.payload import Limits, Refused
from tasks.settings import Settings
from tasks.telemetry import DOMAIN


class Record:
    """What `message_of` asks of a Kafka record."""

    def __init__(self, headers: list[tuple[str, bytes]] | None, value: bytes | None = b"{}") -> None:
        self._headers, self._value = headers, value

    def headers(self) -> Any:
        """The headers, or none."""
        return self._headers

    def timestamp(self) -> tuple[int, int]:
        """The record's own."""
        return (1, 1_700_000_000_000)

    def partition(self) -> int:
        """The partition."""
        return 3

    def offset(self) -> int:
        """The offset."""
        return 17

    def value(self) -> bytes | None:
        """The payload."""
        return self._value


def message(headers: list[tuple[str, bytes]] | None, value: bytes | None = b"{}") -> Message:
    """The message of a record with these headers."""
    return message_of(Record(headers, value))  # type: ignore[arg-type]


def test_a_record_of_the_gateway_keeps_its_own_timestamp() -> None:
    """Place, topic, trace and payload; no attempts, and no replay."""
    assert message([("mqtt_topic", b"users/u/devices/d/telemetry"), ("traceparent", b"00-1")]) == Message(
        3, 17, 1_700_000_000_000, "users/u/devices/d/telemetry", "00-1", 0, b"{}", ""
    )


def test_a_record_that_the_broker_delivered_again_says_so() -> None:
    """With the timestamp of its own arrival: it is not a replay."""
    topic, now = "users/u/devices/d/telemetry", datetime(2026, 5, 1, tzinfo=UTC)
    for redelivered, replay in ((False, ""), (True, REDELIVERED)):
        made = record_of((DOMAIN,), topic, b"{}", "", now, Settings(), redelivered=redelivered)
        found = message(made.headers)  # type: ignore[arg-type]
        assert (found.topic, found.timestamp_ms, found.replay) == (topic, 1_700_000_000_000, replay)


def test_a_replayed_record_has_the_timestamp_of_the_first_one() -> None:
    """So that a payload without a time becomes the same row, whenever it is replayed."""
    headers = [
        ("mqtt_topic", b"t"),
        ("timestamp_ms", b"1600000000123"),
        ("attempts", b"2"),
        ("replay", b"silent"),
    ]
    found = message(headers)
    assert (found.timestamp_ms, found.attempts, found.replay) == (1_600_000_000_123, 2, SILENT)


def test_the_owner_in_the_record_is_the_messages() -> None:
    """Also of a replay: the access lists of today decide nothing about it."""
    found = message([("mqtt_topic", b"tele/cellar/SENSOR"), ("owner", b"ada"), ("replay", b"silent")])
    assert isinstance(found, HintedMessage)
    assert (found.owner, found.replay) == ("ada", SILENT)


def test_headers_that_are_not_ours_change_nothing() -> None:
    """Anybody may write into a topic: no header stops the bridge."""
    for header in (b"", b"-1", b"x", "²".encode(), b"9" * 5000, b"\xff"):
        found = message([("timestamp_ms", header), ("attempts", header), ("mqtt_topic", b"\xff")])
        assert (found.timestamp_ms, found.attempts) == (1_700_000_000_000, 0)
    assert message(None, None).payload == b""


OURS = [
    "mqtt_topic",
    "traceparent",
    "received_at",
    "attempts",
    "replay",
    "timestamp_ms",
    "origin",
    "content_type",
]
VALUES = (
    st.none() | st.sampled_from([b"silent", b"3/17", b"\xff", b"t"]) | st.integers(0).map(lambda n: b"%d" % n)
)
HEADERS = st.lists(st.tuples(st.sampled_from(OURS), VALUES), max_size=6)


@given(HEADERS, HEADERS, st.text(max_size=3).filter(lambda name: name not in OURS))
def test_a_header_of_another_name_changes_nothing(before: Any, after: Any, name: str) -> None:
    """Wherever it stands: records with more headers than the gateway's are read in another way."""
    found, other = message([*before, *after]), message([*before, (name, b"1"), *after])
    assert (type(found), found, vars_of(found)) == (type(other), other, vars_of(other))


def vars_of(found: Message) -> dict[str, Any]:
    """The hints of a message, if it has any."""
    return vars(found) if isinstance(found, HintedMessage) else {}


@given(st.binary(min_size=1).filter(lambda level: not _is_utf8(level)))
def test_a_topic_that_is_no_utf_8_is_refused(level: bytes) -> None:
    """Also on its way over Redis: no reading goes to an id that is only what bytes were made to look like."""
    topic = b"users/" + level + b"/devices/d/telemetry"
    part = Part("", {3: 17}, [message([("mqtt_topic", topic)], b'{"sequence_id": 1}')])
    (found,) = unpack_part(pack_part(part)).messages
    with pytest.raises(Refused, match="InvalidTopic: the topic must be UTF-8, but its byte"):
        DOMAIN.validate(found.topic, found.payload, found.timestamp_ms, Limits())
    value = sender._envelope_of("iot-stream", DeadLetter(found, "InvalidTopic", "not UTF-8"))
    assert parse_letter(b"k", value, 5).topic.encode(errors="surrogateescape") == topic


def test_the_dead_letter_shows_the_bytes_of_such_a_topic() -> None:
    """For a reader as escapes, for a replay exactly; other letters say nothing of it."""
    found = message([("mqtt_topic", b"users/Ren\xe9/devices/d/telemetry")])
    letter = json.loads(sender._envelope_of("iot-stream", DeadLetter(found, "InvalidTopic", "not UTF-8")))
    assert letter["original_topic"] == "users/Ren\\xe9/devices/d/telemetry"
    assert letter["original_topic_base64"] == "dXNlcnMvUmVu6S9kZXZpY2VzL2QvdGVsZW1ldHJ5"
    plain = message([("mqtt_topic", "users/René/devices/d/telemetry".encode())])
    letter = json.loads(sender._envelope_of("iot-stream", DeadLetter(plain, "MissingField", "wrong")))
    assert letter["original_topic"] == "users/René/devices/d/telemetry"
    assert "original_topic_base64" not in letter


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_a_part_of_a_bridge_that_knows_no_replay_can_be_read() -> None:
    """Workers may be newer than the bridge: during an upgrade they are."""
    old = (3, 17, 1, "t", "", 0, b"{}")
    packed = msgpack.packb(({3: 17}, [old]), use_bin_type=True)
    assert unpack_part(packed) == Part("", {3: 17}, [Message(*old)])
    part = Part("packages", {3: 17}, [Message(*old, replay=SILENT)])
    assert unpack_part(pack_part(part)) == part
