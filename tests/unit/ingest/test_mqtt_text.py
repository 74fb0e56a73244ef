"""Strings in MQTT properties: nothing that a broker forwards may end the gateway's connection."""

from collections.abc import Iterator

import paho.mqtt.properties
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from ingest import mqtt_text


@pytest.fixture
def installed() -> Iterator[None]:
    """paho as the gateway uses it, for one test."""
    own = paho.mqtt.properties.readUTF
    mqtt_text.install()
    yield
    paho.mqtt.properties.readUTF = own


@given(st.text(st.characters(exclude_categories=["Cs"])), st.binary())
def test_a_string_is_read_exactly_and_what_follows_is_left(text: str, rest: bytes) -> None:
    """Every text comes back as it was sent, NUL and U+FEFF included."""
    encoded = text.encode()
    packed = len(encoded).to_bytes(2) + encoded
    assert mqtt_text.read_text(packed + rest, len(packed + rest)) == (text, len(packed))


def test_what_is_no_utf_8_is_replaced() -> None:
    """A broker that does not look at strings cannot stop the gateway with one."""
    assert mqtt_text.read_text(b"\x00\x02a\xff", 4) == ("a\ufffd", 4)


@pytest.mark.parametrize(("buffer", "available"), [(b"", 0), (b"\x00", 1), (b"\x00\x03ab", 4)])
def test_a_string_beyond_its_packet_is_malformed(buffer: bytes, available: int) -> None:
    """The next property's bytes never become part of a string."""
    with pytest.raises(MalformedPacket):
        mqtt_text.read_text(buffer, available)


@pytest.mark.usefixtures("installed")
def test_paho_reads_properties_this_way() -> None:
    """The pinned paho still calls the function that is put in place of its own."""
    sent = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    sent.UserProperty = [("fw", "\ufeff1.0")]
    received = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    received.unpack(sent.pack())  # type: ignore[no-untyped-call]
    assert received.json()["UserProperty"] == [("fw", "\ufeff1.0")]  # type: ignore[no-untyped-call]
