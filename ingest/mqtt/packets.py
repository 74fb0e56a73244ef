"""The part of MQTT 5 that decides how many messages one process takes: packets in a stream, and PUBLISH.

paho asks the socket for each packet in three pieces and makes an object of all the properties that there
could be; that was most of what a message cost the gateway. Everything else of MQTT is paho's.
https://docs.oasis-open.org/mqtt/mqtt/v5.0/os/mqtt-v5.0-os.html, 2.1 to 2.2 and 3.3
"""

from collections.abc import Iterator
from typing import NamedTuple

from paho.mqtt.exception import MalformedPacket

PUBLISH = 0x30
PUBACK = 0x40

_USER_PROPERTY = 0x26
_SUBSCRIPTION_IDENTIFIER = 0x0B
_FIXED_BYTES = {0x01: 1, 0x02: 4, 0x23: 2}
_CONTENT_TYPE = 0x03
_RESPONSE_TOPIC = 0x08
_CORRELATION_DATA = 0x09
_STRINGS = {_CONTENT_TYPE, _RESPONSE_TOPIC, _CORRELATION_DATA}

# The first byte, and a length of at most four.
_MOST_HEADER_BYTES = 5


class Publish(NamedTuple):
    """A message; `mid` is 0 where QoS is 0, `properties` are as they were sent."""

    topic: str
    payload: bytes
    qos: int
    mid: int
    dup: bool
    retain: bool
    properties: bytes = b""


class Packet(NamedTuple):
    """A packet's first byte, and what follows its length."""

    first: int
    body: bytes


class Stream:
    """Cuts what a connection brings into packets, in whichever pieces it comes."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._needed = 0

    def packets(self, data: bytes) -> Iterator[Packet]:
        """The packets that are complete now. Raises `MalformedPacket` at a length that MQTT does not have."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return
            data = bytes(self._rest)
        at, end = 0, len(data)
        self._needed = 0
        while at < end:
            length, begin = _length(data, at + 1)
            if length is None:
                break
            if begin + length > end:
                self._needed = begin + length - at
                break
            yield Packet(data[at], data[begin : begin + length])
            at = begin + length
        self._rest = bytearray(data[at:])


def publish(packet: Packet) -> Publish:
    """Parses a PUBLISH; bytes of the topic that are not UTF-8 become lone surrogates, as in file names.

    Raises `MalformedPacket` when its parts do not fit into it, and for QoS 3.
    """
    first, body = packet
    qos = first >> 1 & 3
    if qos == 3:
        raise MalformedPacket("a message has QoS 3")
    at = 2 + int.from_bytes(body[:2])
    topic = body[2:at].decode(errors="surrogateescape")
    mid = 0
    if qos:
        mid = int.from_bytes(body[at : at + 2])
        at += 2
    length, begin = _length(body, at)
    if length is None or begin + length > len(body):
        raise MalformedPacket("a message's properties end beyond their packet")
    end = begin + length
    return Publish(topic, body[end:], qos, mid, bool(first & 8), bool(first & 1), body[begin:end])


def user_properties(properties: bytes) -> Iterator[tuple[str, str]]:
    """The user properties of a message, in order; bytes that are not UTF-8 are replaced.

    Other properties are passed over; reading ends at the first property that is not for a message.
    """
    for kind, at in _properties(properties):
        if kind == _USER_PROPERTY:
            name, after = _text(properties, at)
            yield name, _text(properties, after)[0]


def content_type(properties: bytes) -> str:
    """The content type of a message; empty without one."""
    return next(
        (_text(properties, at)[0] for kind, at in _properties(properties) if kind == _CONTENT_TYPE), ""
    )


def response_topic(properties: bytes) -> str:
    """The topic that the sender wants the answer on, or empty; bytes other than UTF-8 become surrogates."""
    return _bytes_of(properties, _RESPONSE_TOPIC).decode(errors="surrogateescape")


def correlation_data(properties: bytes) -> bytes:
    """The data by which the sender recognises the answer; empty without any."""
    return _bytes_of(properties, _CORRELATION_DATA)


def _bytes_of(properties: bytes, wanted: int) -> bytes:
    for kind, at in _properties(properties):
        if kind == wanted:
            return properties[at + 2 : at + 2 + int.from_bytes(properties[at : at + 2])]
    return b""


def _properties(properties: bytes) -> Iterator[tuple[int, int]]:
    """The kind of each property, and where its value begins."""
    at = 0
    while at < len(properties):
        kind = properties[at]
        at += 1
        yield kind, at
        if kind == _USER_PROPERTY:
            at = _text(properties, _text(properties, at)[1])[1]
        elif kind in _STRINGS:
            at += 2 + int.from_bytes(properties[at : at + 2])
        elif kind in _FIXED_BYTES:
            at += _FIXED_BYTES[kind]
        elif kind == _SUBSCRIPTION_IDENTIFIER:
            while at < len(properties) and properties[at] >= 0x80:
                at += 1
            at += 1
        else:
            return


def pubacks(mids: list[int]) -> bytes:
    """PUBACKs that say that all went well, in order."""
    return b"".join(b"\x40\x02" + mid.to_bytes(2) for mid in mids)


def _text(data: bytes, at: int) -> tuple[str, int]:
    end = at + 2 + int.from_bytes(data[at : at + 2])
    return data[at + 2 : end].decode(errors="replace"), end


def _length(data: bytes, at: int) -> tuple[int | None, int]:
    """A number of seven bits a byte, and where it ends; None where it is not complete."""
    number = shift = 0
    for position in range(at, min(at + _MOST_HEADER_BYTES - 1, len(data))):
        byte = data[position]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position + 1
        shift += 7
    if at + _MOST_HEADER_BYTES - 1 <= len(data):
        raise MalformedPacket("a length has more than four bytes")
    return None, len(data)
