"""The part of MQTT 5 that a publishing device needs, as bytes.

Not paho's client, on purpose: one QoS 1 publish and its acknowledgement cost it 70 to 100 µs of CPU, and
this 12 to 40 µs (60 connections, 1,000 to 5,000 messages/s), which is what decides how much load one
machine can make while it also carries everything that is under test. paho reads the rarer packets.
"""

import struct
from typing import NamedTuple

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

CONNACK = 0x20
PUBACK = 0x40
DISCONNECT = 0xE0

PING_PACKET = b"\xc0\x00"
DISCONNECT_PACKET = b"\xe0\x00"

NO_SUBSCRIBER = 0x10
FAILED = 0x80
"""Reason codes from here on mean that the broker did not take the packet."""

# A publish's properties: their length, then one user property, `traceparent`, whose value has 55 bytes.
_TRACE = b"\x47\x26\x00\x0btraceparent\x00\x37"


class Accepted(NamedTuple):
    """The broker's answer to a device that connects."""

    reason: int
    receive_maximum: int
    maximum_packet_size: int | None
    keepalive: int | None


def string(text: str) -> bytes:
    """A text with its length in front. Raises `ValueError` when it has more than 65,535 bytes."""
    raw = text.encode()
    if len(raw) > 0xFFFF:
        raise ValueError(f"an MQTT string has at most 65,535 bytes, not {len(raw)}")
    return struct.pack("!H", len(raw)) + raw


def length(number: int) -> bytes:
    """A packet's remaining length. Raises `ValueError` beyond 268,435,455."""
    if not 0 <= number < 1 << 28:
        raise ValueError(f"an MQTT packet has at most 268,435,455 bytes, not {number}")
    if number < 128:
        return bytes((number,))
    if number < 16_384:
        return bytes((number & 127 | 128, number >> 7))
    return bytes((number & 127 | 128,)) + length(number >> 7)


def connect(client_id: str, username: str, password: str, keepalive: int) -> bytes:
    """A connection that begins a new session."""
    flags = 0x02 | 0x80 | 0x40
    body = (
        string("MQTT")
        + bytes((5, flags))
        + struct.pack("!H", keepalive)
        + b"\x00"
        + string(client_id)
        + string(username)
        + string(password)
    )
    return b"\x10" + length(len(body)) + body


def publish(topic: bytes, packet_id: int | None, traceparent: bytes, payload: bytes) -> bytes:
    """One message: with QoS 1, or with QoS 0 when there is no packet id.

    `topic` is already a `string`, since a device has only one; `traceparent` has 55 bytes.
    """
    if packet_id is None:
        size = len(topic) + len(_TRACE) + 55 + len(payload)
        return b"".join((b"\x30", length(size), topic, _TRACE, traceparent, payload))
    size = len(topic) + 2 + len(_TRACE) + 55 + len(payload)
    return b"".join((b"\x32", length(size), topic, packet_id.to_bytes(2), _TRACE, traceparent, payload))


def accepted(body: bytes) -> Accepted:
    """Reads a CONNACK. Raises `ValueError` for anything else."""
    if len(body) < 2:
        raise ValueError("the broker's CONNACK is too short")
    properties = Properties(PacketTypes.CONNACK)  # type: ignore[no-untyped-call]
    if len(body) > 2:
        properties.unpack(body[2:])  # type: ignore[no-untyped-call]
    return Accepted(
        body[1],
        getattr(properties, "ReceiveMaximum", 65_535),
        getattr(properties, "MaximumPacketSize", None),
        getattr(properties, "ServerKeepAlive", None),
    )


def acknowledged(body: bytes) -> tuple[int, int]:
    """Reads a PUBACK: the packet id and the reason code. Raises `ValueError` for anything else."""
    if len(body) < 2:
        raise ValueError("the broker's PUBACK is too short")
    return body[0] << 8 | body[1], body[2] if len(body) > 2 else 0


def reason(packet_type: int, code: int) -> str:
    """A reason code in MQTT's words."""
    try:
        return str(ReasonCode(packet_type >> 4, identifier=code))
    except (KeyError, ValueError):
        return f"reason code {code}"
