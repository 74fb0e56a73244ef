"""The broker's packets: read whole however they come, exactly, and never beyond a packet's end."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from ingest.loadtest.fleet import packets
from ingest.mqtt.packets import (
    Packet,
    Publish,
    Stream,
    content_type,
    correlation_data,
    pubacks,
    publish,
    response_topic,
    user_properties,
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
PAIRS = st.lists(st.tuples(TEXTS, TEXTS), max_size=5)
USER_PROPERTY = b"\x26\x00\x01a\x00\x01b"


def whole(packet: bytes) -> Packet:
    """The one packet that these bytes are."""
    (found,) = Stream().packets(packet)
    return found


def packed(pairs: list[tuple[str, str]], **others: object) -> bytes:
    """MQTT properties of a message by paho, with their length in front."""
    made = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    if pairs:
        made.UserProperty = pairs
    for name, value in others.items():
        setattr(made, name, value)
    return bytes(made.pack())  # type: ignore[no-untyped-call]


@given(PAIRS, TEXTS, st.binary(max_size=300))
def test_where_an_answer_is_wanted_is_read(
    pairs: list[tuple[str, str]], topic: str, correlation: bytes
) -> None:
    """Response topic and correlation data, whatever other properties there are; without them nothing."""
    others = {"CorrelationData": correlation, "ContentType": "text", "MessageExpiryInterval": 5}
    # paho refuses to send a topic with wildcards.
    if not {"+", "#"} & set(topic):
        others["ResponseTopic"] = topic
    message = publish(Packet(0x30, b"\0\1t" + packed(pairs, **others)))
    assert response_topic(message.properties) == others.get("ResponseTopic", "")
    assert correlation_data(message.properties) == correlation
    bare = publish(Packet(0x30, b"\0\1t" + packed(pairs)))
    assert (response_topic(bare.properties), correlation_data(bare.properties)) == ("", b"")


@given(st.lists(st.binary(max_size=300), max_size=20), st.randoms(use_true_random=False))
def test_packets_survive_any_cut(bodies: list[bytes], rng: random.Random) -> None:
    """Packets are read whole, once and in order, however TCP cuts them."""
    data = b"".join(b"\x40" + packets.length(len(body)) + body for body in bodies)
    stream, found = Stream(), []
    while data:
        size = rng.randint(1, len(data))
        found += list(stream.packets(data[:size]))
        data = data[size:]
    assert found == [Packet(0x40, body) for body in bodies]


def test_a_large_packet_may_come_in_small_pieces() -> None:
    """A packet whose length takes three bytes, one byte at a time."""
    data = b"\x30" + packets.length(20_000) + bytes(20_000)
    stream = Stream()
    assert [one for at in range(len(data)) for one in stream.packets(data[at : at + 1])] == [
        Packet(0x30, bytes(20_000))
    ]


def test_a_length_that_mqtt_does_not_have_is_malformed() -> None:
    """More than four bytes; it is not waited for what will never be a packet."""
    with pytest.raises(MalformedPacket):
        list(Stream().packets(b"\x30\xff\xff\xff\xff\x01"))


@given(
    topic=TEXTS,
    payload=st.binary(),
    qos=st.integers(0, 1),
    mid=st.integers(1, 65_535),
    dup=st.booleans(),
    retain=st.booleans(),
    pairs=PAIRS,
)
def test_a_message_is_read_as_it_was_sent(
    *, topic: str, payload: bytes, qos: int, mid: int, dup: bool, retain: bool, pairs: list[tuple[str, str]]
) -> None:
    """Topic, payload, flags and every user property, NUL and U+FEFF included."""
    properties = packed(pairs, MessageExpiryInterval=7, ContentType="json", CorrelationData=b"\x26")
    body = packets.string(topic) + (mid.to_bytes(2) if qos else b"") + properties + payload
    first = 0x30 | dup << 3 | qos << 1 | retain
    found = publish(whole(bytes((first,)) + packets.length(len(body)) + body))
    assert found == Publish(topic, payload, qos, mid if qos else 0, dup, retain, found.properties)
    assert list(user_properties(found.properties)) == pairs


def test_a_topic_that_is_no_utf_8_keeps_its_bytes() -> None:
    """They can be distinguished from every valid topic, and restored."""
    topic = publish(Packet(0x30, b"\x00\x03a/\xff\x00")).topic
    assert topic.encode(errors="surrogateescape") == b"a/\xff"


@given(st.binary())
def test_no_message_reads_beyond_its_packet(body: bytes) -> None:
    """Whatever its lengths say: it is malformed, or all that is taken is its own."""
    try:
        found = publish(Packet(0x32, body))
    except MalformedPacket:
        return
    assert body.endswith(found.properties + found.payload)
    assert len(found.topic.encode(errors="surrogateescape")) <= len(body)
    for name, value in user_properties(found.properties):
        assert len(name) + len(value) <= len(found.properties)


@pytest.mark.parametrize(
    "before",
    [
        *(b"\x01\x01", b"\x02\x00\x00\x00\x09", b"\x23\x00\x05", b"\x08\x00\x01r", b"\x09\x00\x02\x26\x26"),
        *(b"\x0b\x80\x01", b"\x03\x00\x00", b"\x26\x00\x00\x00\x00"),
    ],
)
def test_user_properties_are_found_among_others(before: bytes) -> None:
    """Each other property of a message is passed over, with all of its bytes."""
    assert list(user_properties(before + USER_PROPERTY))[-1:] == [("a", "b")]


def test_what_is_no_utf_8_in_a_property_is_replaced() -> None:
    """A broker that does not look at strings cannot stop the gateway with one."""
    assert list(user_properties(b"\x26\x00\x01\xff\x00\x01b")) == [("\ufffd", "b")]


def test_a_message_of_a_qos_that_there_is_not_is_malformed() -> None:
    """QoS 3 does not exist; QoS 2 is reported as it is."""
    assert publish(Packet(0x34, b"\x00\x01a\x00\x07\x00")).qos == 2
    with pytest.raises(MalformedPacket):
        publish(Packet(0x36, b"\x00\x01a\x00\x07\x00"))


@given(st.binary(max_size=30))
def test_no_properties_stop_the_reading_of_a_message(properties: bytes) -> None:
    """Whatever they hold, a subscription identifier of too many bytes included."""
    for raw in (properties, b"\x0b\xff\xff\xff\xff" + properties):
        list(user_properties(raw))


def test_an_unknown_property_ends_the_reading() -> None:
    """How long it is nobody knows; the message itself is not refused for it."""
    assert list(user_properties(b"\x7f" + USER_PROPERTY)) == []


def test_acknowledgements_are_one_packet_each() -> None:
    """As a broker reads them, in order."""
    assert list(Stream().packets(pubacks([1, 65_535]))) == [
        Packet(0x40, b"\x00\x01"),
        Packet(0x40, b"\xff\xff"),
    ]


@pytest.mark.parametrize(
    ("properties", "found"),
    [
        (b"", ""),
        (USER_PROPERTY, ""),
        (USER_PROPERTY + b"\x03\x00\x02a/" + USER_PROPERTY, "a/"),
        (b"\x03\x00\x01\xff", "\ufffd"),
    ],
)
def test_the_content_type_is_found_among_others(properties: bytes, found: str) -> None:
    """Empty without one."""
    assert content_type(properties) == found


@given(st.binary(max_size=30))
def test_no_properties_stop_the_search_for_a_content_type(properties: bytes) -> None:
    """Whatever they hold."""
    assert len(content_type(b"\x0b\xff" + properties)) <= 32
