"""A Kafka record is the same message for whoever reads it."""

from typing import Any

import msgpack

from tasks.batch import SILENT, Message, Part, pack_part, unpack_part
from tasks.records import message_of


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


def test_headers_that_are_not_ours_change_nothing() -> None:
    """Anybody may write into a topic: no header stops the bridge."""
    for header in (b"", b"-1", b"x", "²".encode(), b"9" * 5000, b"\xff"):
        found = message([("timestamp_ms", header), ("attempts", header), ("mqtt_topic", b"\xff")])
        assert (found.timestamp_ms, found.attempts) == (1_700_000_000_000, 0)
    assert message(None, None).payload == b""


def test_a_part_of_a_bridge_that_knows_no_replay_can_be_read() -> None:
    """Workers may be newer than the bridge: during an upgrade they are."""
    old = (3, 17, 1, "t", "", 0, b"{}")
    packed = msgpack.packb(({3: 17}, [old]), use_bin_type=True)
    assert unpack_part(packed) == Part("", {3: 17}, [Message(*old)])
    part = Part("packages", {3: 17}, [Message(*old, replay=SILENT)])
    assert unpack_part(pack_part(part)) == part
