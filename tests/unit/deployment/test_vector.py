"""Vector's program and the gateway make the same Kafka records; the program is run as Vector would run it."""

import base64
import json
import re
import tomllib
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest
import pyvrl
from hypothesis import given
from hypothesis import strategies as st

from compose.local.layout import PROJECT
from examples import (
    chirpstack,
    esphome,
    logistics,
    number,
    owntracks,
    shelly,
    sparkplug,
    tasmota,
    things_stack,
    thingsboard,
    victron,
    zigbee2mqtt,
)
from ingest.admin.domains.domain_vector import written
from ingest.mqtt.record import record_of
from tasks import telemetry
from tasks.domain.domain import AnyDomain
from tasks.domain.payload import Refused
from tasks.domain.routing import domain_of
from tasks.registry import Domains, domains
from tasks.settings import Settings

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OWN = "users/ada/devices/fridge/telemetry"
NOW = datetime(2026, 5, 1, 10, 0, 0, tzinfo=UTC)
# The bytes of a field, which the way back into Python would replace where they are no UTF-8.
WHOLE = '\n.whole = encode_base64(to_string(.message) ?? "")\n.'
LETTER = "\n.whole = encode_base64(.message)\n."
EXAMPLES: tuple[AnyDomain, ...] = (
    *(chirpstack.DOMAIN, esphome.DOMAIN, logistics.DOMAIN, number.DOMAIN, owntracks.DOMAIN, shelly.DOMAIN),
    *(sparkplug.DOMAIN, tasmota.DOMAIN, things_stack.DOMAIN, thingsboard.DOMAIN, victron.DOMAIN),
    zigbee2mqtt.DOMAIN,
)
MIXED: Domains = (telemetry.DOMAIN, *(one for one in EXAMPLES if not one.access_owner))


class Sent(NamedTuple):
    """The records that reach Kafka."""

    topic: str
    key: bytes
    value: bytes
    headers: dict[str, bytes]


class Program:
    """A `vector.toml`: its transforms, run as Vector runs them, with the ways to the two sinks."""

    def __init__(self, text: str) -> None:
        self.file = tomllib.loads(text)
        transforms = self.file["transforms"]
        self.record = pyvrl.Transform(transforms["record"]["source"] + WHOLE)
        self.dead_letter = pyvrl.Transform(transforms["dead_letter"]["source"] + LETTER)

    def send(self, topic: str, payload: bytes) -> Sent | None:
        """The record of a message that reaches Kafka; None if it is dropped."""
        event: dict[str, Any] = {"message": payload, "mqtt_topic": topic, "source_type": "mqtt"}
        sinks = {sink["inputs"][0]: sink for sink in self.file["sinks"].values()}
        try:
            event, sink = self.record.remap(event), sinks["record"]
        except ValueError as error:
            reason = str(error).removeprefix("remap failure: ")
            event["metadata"] = {"dropped": {"reason": "abort", "message": reason}}
            try:
                event, sink = self.dead_letter.remap(event), sinks["dead_letter"]
            except ValueError as dropped:
                assert "abort" in str(dropped)  # noqa: PT017 - a message that is dropped raises as well
                return None
        headers = event.get(sink.get("headers_key"), {})
        return Sent(
            sink["topic"].replace("{{ kafka_topic }}", event["kafka_topic"]),
            event[sink["key_field"]].encode(),
            base64.b64decode(event["whole"]),
            {name: value.encode() for name, value in headers.items()},
        )


SHIPPED = Program((PROJECT / "vector.toml").read_text())
VECTOR = SHIPPED.file
FOR_ALL = Program(written((PROJECT / "vector.toml").read_text(), MIXED, Settings()))


def by_vector(topic: str, payload: bytes) -> Sent:
    """The record by the file of the project."""
    sent = SHIPPED.send(topic, payload)
    assert sent is not None
    return sent


def by_gateway(topic: str, payload: bytes, traceparent: str = "", among: "Domains | None" = None) -> Sent:
    """The record that the gateway makes."""
    record = record_of(among or domains(), topic, payload, traceparent, NOW, Settings())
    headers = {name: value for name, value in record.headers if isinstance(value, bytes)}
    return Sent(record.topic, record.key, record.value, headers)


def same(vector: Sent, gateway: Sent) -> None:
    """Fails unless both are one record, but for the moment at which each was made."""
    assert vector.topic == gateway.topic
    assert vector.key == gateway.key
    if vector.topic.startswith("iot-stream-dlq"):
        assert envelope(vector) == envelope(gateway)
        assert vector.headers == gateway.headers == {}
        return
    assert vector.value == gateway.value
    stamped = [re.sub(rb"[0-9]", b"9", sent.headers.pop("received_at")) for sent in (vector, gateway)]
    assert stamped[0] == stamped[1]
    made = vector.headers.pop("traceparent")
    assert re.fullmatch(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", made)
    assert gateway.headers.pop("traceparent", made) == made
    assert vector.headers == gateway.headers


def envelope(sent: Sent) -> dict[str, Any]:
    """A dead letter without what may differ: when it was refused, and how long a foreign topic is quoted."""
    letter: dict[str, Any] = json.loads(sent.value)
    assert datetime.fromisoformat(letter.pop("timestamp")).tzinfo is not None
    letter["error"] = letter["error"].partition(", got ")[0]
    return letter


@pytest.mark.parametrize(
    "payload",
    [
        b'{"sequence_id": 1, "temperature": 21.5}',
        b'{"temperature": 21.',
        b"",
        b"\x00\xff\xfe\x80",
        b"[1, 2]",
        b'"just text"',
        b'{"traceparent": 17}',
        b'{"traceparent": "00-x"}',
        b'{"traceparent": {"a": [1]}}',
        b'{"message": "a", "kafka_key": "b/c", "mqtt_topic": "users/x/devices/y/telemetry"}',
        '{"name": "Kühlraum 冷蔵庫", "x": "${HOME} {{ .a }} \\u0000"}'.encode(),
        b"[" * 5000 + b"]" * 5000,
        b"9" * 100_000,
    ],
)
def test_a_payload_passes_both_ways_untouched(payload: bytes) -> None:
    """Good, malformed, empty, binary and hostile payloads arrive byte for byte, under the same key."""
    same(by_vector(OWN, payload), by_gateway(OWN, payload))


@pytest.mark.parametrize(
    "topic",
    [
        "users/ada/devices/fridge/status",
        "users/ada/devices/telemetry",
        "users//devices/fridge/telemetry",
        "users/ada/devices/ /telemetry",
        "users/ada/devices/a\x1bb/telemetry",
        "users/ada/devices/a\x85b/telemetry",
        "users/ada/devices/a\nb/telemetry",
        "users/ada/devices/\x1f/telemetry",
        "users/\u3000/devices/d/telemetry",
        "users/" + "é" * 129 + "/devices/fridge/telemetry",
        "/users/ada/devices/fridge/telemetry",
        "users/ada/devices/fridge/telemetry/",
        "",
    ],
)
def test_what_names_no_device_is_the_same_dead_letter(topic: str) -> None:
    """A foreign topic ends in the dead letters both ways, with the same key, reason and payload."""
    payload = b'\x00\xff{"sequence_id": 1}'
    vector = by_vector(topic, payload)
    same(vector, by_gateway(topic, payload))
    assert base64.b64decode(json.loads(vector.value)["payload_base64"]) == payload


@pytest.mark.parametrize(
    "topic", ["users/a%b/devices/aa:bb/telemetry", "users/ü/devices/" + "é" * 128 + "/telemetry"]
)
def test_every_id_that_the_gateway_takes_is_taken_by_vector(topic: str) -> None:
    """Ids with colons, percent signs and any letters, up to 128 characters, keep their key."""
    same(by_vector(topic, b"{}"), by_gateway(topic, b"{}"))


def test_a_trace_goes_on_by_vector_from_the_payload_and_by_the_gateway_from_the_user_property() -> None:
    """MQTT 3.1.1 has no user properties, so with Vector a device sends `traceparent` in its payload."""
    payload = json.dumps({"sequence_id": 1, "traceparent": TRACEPARENT}).encode()
    vector, gateway = by_vector(OWN, payload), by_gateway(OWN, payload, TRACEPARENT)
    assert vector.headers["traceparent"] == gateway.headers["traceparent"] == TRACEPARENT.encode()
    same(vector, gateway)


@given(
    levels=st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6),
        min_size=2,
        max_size=2,
    ),
    payload=st.binary(max_size=200),
)
def test_both_ways_agree_whatever_comes(levels: list[str], payload: bytes) -> None:
    """For any ids and any bytes the two bridges make one record, or refuse for one reason."""
    topic = f"users/{levels[0]}/devices/{levels[1]}/telemetry"
    same(by_vector(topic, payload), by_gateway(topic, payload))


def topics_of_all() -> st.SearchStrategy[str]:
    """Topics of the templates of all examples, near ones, and neighbours that hold no readings."""
    words = [level for one in MIXED for template in one.ranked for level in template.example.split("/")]
    near = st.lists(st.sampled_from(sorted(set(words))) | st.text(max_size=3), min_size=1, max_size=8)
    return st.sampled_from([template.example for one in MIXED for template in one.ranked]) | near.map(
        "/".join
    )


@given(topic=topics_of_all().filter(lambda topic: "\0" not in topic), payload=st.binary(max_size=20))
def test_a_file_made_for_many_domains_makes_the_gateways_records(topic: str, payload: bytes) -> None:
    """Each domain's Kafka topic, key and reason of refusal; what holds no readings is dropped."""
    sent = FOR_ALL.send(topic, payload)
    ignored = next((one for one in MIXED if one.ignores(topic) and domain_of_or_none(topic) is one), None)
    if ignored is not None:
        assert sent is None
    else:
        assert sent is not None
        same(sent, by_gateway(topic, payload, among=MIXED))


def domain_of_or_none(topic: str) -> AnyDomain | None:
    """The domain of a topic, if it has one."""
    try:
        return domain_of(topic, MIXED)
    except Refused:
        return None


def test_the_kafka_topic_follows_from_the_domain_where_there_are_several() -> None:
    """And each template of each example is one of them."""
    for domain in MIXED:
        for template in domain.templates:
            sent = FOR_ALL.send(template.example, b"1")
            assert sent is not None
            assert sent.topic == domain.qualified("iot-stream")


@pytest.mark.parametrize("program", [SHIPPED, FOR_ALL], ids=["shipped", "for all examples"])
def test_vectors_own_unit_tests_pass(program: Program) -> None:
    """The `[[tests]]` of the file, which `vector test` runs, hold; none is without a condition."""
    transforms = {"record": program.record, "dead_letter": program.dead_letter}
    for test in program.file["tests"]:
        (given_input,) = test["inputs"]
        transform = transforms[given_input["insert_at"]]
        if given_input["type"] == "vrl":
            event = pyvrl.Transform(given_input["source"] + "\n.").remap({})
        else:
            event = dict(given_input["log_fields"])
        if "no_outputs_from" in test:
            assert test["no_outputs_from"] == [given_input["insert_at"]]
            with pytest.raises(ValueError, match="the topic must be"):
                transform.remap(event)
            continue
        result = transform.remap(event)
        del result["timestamp"]  # pyvrl gives times back but takes none
        for output in test["outputs"]:
            assert output["extract_from"] == given_input["insert_at"]
            for condition in output["conditions"]:
                pyvrl.Transform(condition["source"]).remap(result)


def test_a_failing_condition_of_vectors_tests_would_be_seen() -> None:
    """The way in which the conditions are run here does fail for a wrong record."""
    with pytest.raises(ValueError, match="assert"):
        pyvrl.Transform('assert_eq!(.kafka_key, "ada/fridge")').remap({"kafka_key": "ada/oven"})


def test_vector_waits_for_kafka_and_drops_nothing_by_configuration() -> None:
    """Payloads go raw, records never expire, a full disk buffer blocks, the session is found again."""
    source = VECTOR["sources"]["emqx"]
    assert source["client_id"]
    assert source["max_packet_size"] > 1024 * 1024
    kafka = [sink for sink in VECTOR["sinks"].values() if sink["type"] == "kafka"]
    assert {sink["topic"] for sink in kafka} == {"iot-stream", "iot-stream-dlq"}
    for sink in kafka:
        assert sink["message_timeout_ms"] == 0
        assert sink["encoding"] == {"codec": "raw_message"}
        assert sink["buffer"]["type"] == "disk"
        assert sink["buffer"]["max_size"] >= 268_435_488
        assert sink["buffer"]["when_full"] == "block"
        assert all(isinstance(value, str) for value in sink["librdkafka_options"].values())
