"""Where the gateway finds a message's trace without reading its payload."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from ingest.mqtt.trace import follow, traceparent_of

GOOD, OTHER = f"00-{1:032x}-{2:016x}-01", f"00-{3:032x}-{4:016x}-00"

VALUES = st.recursive(
    st.none() | st.integers() | st.text() | st.just(f'"traceparent": "{OTHER}"'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("traceparent"), inner),
    max_leaves=10,
)


def properties(*pairs: tuple[str, str]) -> bytes:
    """MQTT properties with these user properties, without the length in front of them."""
    made = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    made.UserProperty = list(pairs)
    packed = bytes(made.pack())  # type: ignore[no-untyped-call]
    return packed[1 if packed[0] < 0x80 else 2 :]


def test_the_user_property_comes_first() -> None:
    """The property counts, then the payload, then nothing; an invalid traceparent counts as missing."""
    payload = json.dumps({"traceparent": OTHER}).encode()
    assert traceparent_of(properties(("other", "x"), ("traceparent", GOOD)), payload) == GOOD
    assert traceparent_of(properties(("traceparent", "nonsense")), payload) == OTHER
    assert traceparent_of(b"", payload) == OTHER
    assert traceparent_of(b"", b"{}") == ""


@given(st.dictionaries(st.text(), VALUES), st.none() | st.just(OTHER))
def test_only_the_payloads_own_member_counts(members: dict[str, Any], own: str | None) -> None:
    """Neither a member of an object inside, nor a text that looks like one."""
    members.pop("traceparent", None)
    members.update({"inside": {"traceparent": GOOD, "list": [{"traceparent": GOOD}]}})
    members.update({"text": f'"traceparent": "{GOOD}"'})
    if own:
        members["traceparent"] = own
    payload = json.dumps(members, ensure_ascii=False).encode(errors="surrogatepass")
    if len(payload) < 8000:
        assert traceparent_of(b"", payload) == (own or "")


@given(st.binary())
def test_no_payload_is_too_strange(payload: bytes) -> None:
    """Any other bytes are neither a trace nor an error."""
    assert traceparent_of(b"", payload) == ""
    assert traceparent_of(b"", b'{"traceparent":' + payload) == ""


def test_with_tracing_off_the_trace_is_passed_on_as_it_came() -> None:
    """Nothing is begun; what a sender began is not lost."""
    assert follow(GOOD, "users/u/devices/d/telemetry", b"{}") == (GOOD, None)
    assert follow("", "users/u/devices/d/telemetry", b"{}") == ("", None)
