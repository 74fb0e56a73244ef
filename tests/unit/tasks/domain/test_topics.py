"""Topics of plain levels are read in a quicker way than others, with the same outcome."""

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.payload import Refused
from tasks.domain.template import Template
from tasks.domain.topics import Located, Topics


class Device(NamedTuple):
    """Whose readings they are."""

    user_id: str
    device_id: str


IDS = st.one_of(
    st.text(st.sampled_from("aZ09_.:-"), min_size=1, max_size=130),
    st.text(max_size=6),
    st.sampled_from(
        ["", " ", "+", "a b", "a\\b", "a\tb", "a\n", "\u0085", "ü", "\udcff", "users", "a" * 128, "a" * 129]
    ),
)


def ways(template: str) -> list[Topics[Device]]:
    """The quick way and the general one."""
    return [Topics((Template(template),), Device._fields, Device, strict=strict) for strict in (True, False)]


def outcome(topics: Topics[Device], topic: str) -> Located[Device] | str:
    """What a topic names, or the type of its refusal."""
    try:
        return topics.locate(topic)
    except Refused as refused:
        return refused.error_type


QUICK, GENERAL = ways("users/{user_id}/devices/{device_id}/telemetry")


@given(IDS, IDS, st.sampled_from(["/telemetry", "/telemetry\n", "/telemetry/x", "", "/status"]))
def test_both_ways_read_a_topic_alike(user_id: str, device_id: str, end: str) -> None:
    """Whatever the ids hold, and however the topic ends."""
    topic = f"users/{user_id}/devices/{device_id}{end}"
    assert outcome(QUICK, topic) == outcome(GENERAL, topic)


@pytest.mark.parametrize(
    ("template", "topic"),
    [("v1.0/{user_id}/{device_id}", "v1x0/u/d"), ("a|b/{user_id}/{device_id}", "b/u/d")],
)
def test_text_of_a_template_means_itself(template: str, topic: str) -> None:
    """Whatever an expression would make of it."""
    for topics in ways(template):
        assert outcome(topics, topic) == "InvalidTopic"
        assert outcome(topics, template.format(user_id="u", device_id="d")) != "InvalidTopic"


@pytest.mark.parametrize("device_id", ["d", "b8:27:eb:00.sensor_1-A", "a b", "a\\b", "ü", "a" * 128])
def test_a_valid_topic_names_its_device(device_id: str) -> None:
    """Its columns as COPY text, with what COPY would take for something else escaped."""
    located = QUICK.locate(f"users/ann/devices/{device_id}/telemetry")
    assert located.source == Device("ann", device_id)
    assert located.text == f"ann\t{device_id.replace(chr(92), chr(92) * 2)}"
