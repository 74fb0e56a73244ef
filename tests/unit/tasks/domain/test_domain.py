"""A domain's names, sources and checks, and which domains can be together."""

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tasks import registry
from tasks.domain.columns import Bigint, Time, TopicLevel
from tasks.domain.domain import Alert, Domain, Source
from tasks.domain.payload import Limits, Refused
from tasks.domain.record import Record
from tasks.domain.routing import domain_of
from tasks.registry import InvalidDomains, load
from tasks.telemetry import DOMAIN as TELEMETRY

ALL = "tasks.telemetry, examples.logistics,examples.finance"


class Box(Record):
    """A small record."""

    user_id: TopicLevel
    site: TopicLevel
    box_id: TopicLevel
    time: Time | None = None
    weight: Bigint


def boxes(**changes: Any) -> Domain[Box]:
    """A domain of boxes."""
    values: dict[str, Any] = {
        "name": "boxes",
        "topic": "users/{user_id}/{site}/boxes/{box_id}",
        "owner": "{user_id}",
        "source": "{box_id}",
        "table": "raw_boxes",
        "primary_key": ("time", "user_id", "box_id"),
    }
    return Domain(Box, **(values | changes))


def test_the_default_domain_keeps_its_names() -> None:
    """Topics, keys and device ids of the telemetry are those that are documented."""
    assert TELEMETRY.qualified("iot-stream") == "iot-stream"
    assert TELEMETRY.parse_topic("users/ann/devices/d1/telemetry") == Source("ann", "d1")
    assert TELEMETRY.topic_of("ann", "d1") == "users/ann/devices/d1/telemetry"
    assert TELEMETRY.filter == "users/+/devices/+/telemetry"


def test_the_account_of_a_topic_is_the_one_that_publishes_there() -> None:
    """The source's own, a level of the topic, or a fixed name, whoever the message is about."""
    topic = "users/ann/north/boxes/b1"
    for given, account in (({}, "b1"), ({"account": "{site}"}, "north"), ({"account": "hub"}, "hub")):
        domain = boxes(**given)
        assert domain.account_of(topic, domain.parse_topic(topic)) == account
        assert topic in [
            one.replace("/+/", "/north/").removesuffix("+") + "b1" * one.endswith("+")
            for one in domain.topics_of("ann", account)
        ]


def test_another_domains_names_have_its_own_in_them() -> None:
    """So that two domains with sources of the same name have no topic, key or alert in common."""
    domain = boxes()
    assert domain.qualified("iot-stream") == "iot-stream-boxes"
    assert domain.parse_topic("users/ann/north/boxes/b1") == Source("ann", "boxes/b1")
    assert domain.filter == "users/+/+/boxes/+"
    assert (domain.owns("boxes/b1"), domain.owns("b1"), TELEMETRY.owns("boxes/b1")) == (True, False, False)
    assert domain.source_id("boxes/b1") == "b1"


def test_a_source_may_publish_on_its_own_topics() -> None:
    """Levels besides its own are free; a domain of one owner's has no topics of other users."""
    assert boxes().topic_of("ann", "b1") == "users/ann/+/boxes/b1"
    desk = boxes(owner="desk")
    assert desk.topic_of("desk", "b1") == "users/+/+/boxes/b1"
    assert desk.topic_of("ann", "b1") is None
    assert desk.parse_topic("users/ann/north/boxes/b1") == Source("desk", "boxes/b1")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"name": "Boxes"}, "name"),
        ({"table": "raw boxes"}, "table"),
        ({"source": "box"}, "source"),
        ({"source": "{weight}"}, "weight"),
        ({"owner": "a/b"}, "owner"),
        ({"primary_key": ("user_id", "box_id")}, "time"),
        ({"topic": "users/{user_id}/boxes/{box_id}"}, "topic"),
        ({"checks": {"": print}}, "check"),
    ],
)
def test_a_domain_that_cannot_work_is_refused(changes: dict[str, Any], fault: str) -> None:
    """Where it is declared, with what is wrong."""
    with pytest.raises(TypeError, match=fault):
        boxes(**changes)


def test_a_check_sees_the_whole_record() -> None:
    """Fields of the payload, levels of the topic, and the time, also where the message has none."""
    seen: list[Box] = []

    def heavy(box: Box) -> Alert | None:
        seen.append(box)
        return Alert(f"{box.box_id} in {box.site}", value=box.weight) if box.weight > 5 else None

    domain = boxes(checks={"Heavy": heavy})
    topic = "users/ann/north/boxes/b1"
    reading = domain.validate(topic, b'{"weight": 9}', 1000, Limits())
    assert domain.check_results(topic, reading, fail) == {"Heavy": Alert("b1 in north", value=9)}
    assert seen == [
        Box.model_construct(
            user_id="ann", site="north", box_id="b1", time=datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), weight=9
        )
    ]
    light = domain.validate(topic, b'{"weight": 5}', 1000, Limits())
    assert domain.check_results(topic, light, fail) == {"Heavy": None}


def test_a_check_that_fails_says_nothing_and_is_told() -> None:
    """Neither an alert nor its end, and the other checks are asked all the same."""
    told: list[tuple[str, str]] = []

    def broken(box: Box) -> Alert | None:
        raise KeyError(box.box_id)

    domain = boxes(checks={"Broken": broken, "Fine": lambda _: None})
    topic = "users/ann/north/boxes/b1"
    reading = domain.validate(topic, b'{"weight": 9}', 0, Limits())
    assert domain.check_results(topic, reading, lambda name, error: told.append((name, repr(error)))) == {
        "Fine": None
    }
    assert told == [("Broken", "KeyError('b1')")]


def fail(rule_id: str, error: Exception) -> None:
    """No check may fail."""
    raise AssertionError(rule_id) from error


def test_domains_are_told_apart_by_topic_and_by_device() -> None:
    """Each topic and each device of an alert is of one domain; what is nobody's is refused."""
    domains = load(ALL)
    assert [domain.name for domain in domains] == ["telemetry", "packages", "ticks"]
    for domain, topic in zip(
        domains, ("users/a/devices/b/telemetry", "users/a/packages/b/status", "markets/b/ticks"), strict=True
    ):
        assert domain_of(topic, domains) is domain
    with pytest.raises(Refused, match="InvalidTopic"):
        domain_of("users/a/packages/b/telemetry", domains)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], str]]:
    """Writes a module of the working directory, and returns its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    names: list[str] = []

    def write(name: str, text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text)
        names.append(name)
        return name

    yield write
    for name in names:
        sys.modules.pop(name, None)


LIKE_TELEMETRY = """
from tasks.domain import Domain
from tasks.telemetry import Telemetry

DOMAIN = Domain(
    Telemetry, name={name!r}, topic={topic!r}, owner="{{user_id}}", source="{{device_id}}", table={table!r},
    primary_key=("time", "user_id", "device_id", "sequence_id"), namespace={namespace!r},
)
"""


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"name": "telemetry"}, "the same name"),
        ({"namespace": ""}, "the same namespace"),
        ({"table": "raw_telemetry"}, "the same table"),
        ({"topic": "users/{user_id}/devices/{device_id}/telemetry"}, "could belong to"),
        ({"topic": "{user_id}/x/devices/y/{device_id}"}, "could belong to"),
    ],
)
def test_domains_that_would_mix_are_refused(
    module: Callable[[str, str], str], change: dict[str, str], fault: str
) -> None:
    """Two of one name, namespace or table, or whose topics cannot be distinguished."""
    values = {
        "name": "other",
        "topic": "{user_id}/other/{device_id}",
        "table": "other",
        "namespace": "other",
    }
    name = module(f"mixing_{abs(hash(fault + str(change)))}", LIKE_TELEMETRY.format(**(values | change)))
    with pytest.raises(InvalidDomains, match=fault):
        load(f"tasks.telemetry,{name}")


def test_modules_that_are_no_domains_are_named(module: Callable[[str, str], str]) -> None:
    """With what is missing."""
    empty = module("empty_domain", "")
    faulty = module("faulty_domain", LIKE_TELEMETRY.format(name="A B", topic="", table="t", namespace="n"))
    for names, fault in (
        ("no.such.module", "no.such.module, which cannot be imported"),
        (empty, "no Domain by the name DOMAIN"),
        (faulty, "faulty_domain is not declared correctly"),
        (" , ", "names no domain"),
    ):
        with pytest.raises(InvalidDomains, match=fault):
            load(names)


def test_an_unknown_domain_is_not_now() -> None:
    """A worker that was started with fewer domains hands the batch back; nothing becomes a dead letter."""
    assert registry.by_name("telemetry") is TELEMETRY
    with pytest.raises(registry.UnknownDomain):
        registry.by_name("packages")
    assert registry.of_device("packages/p1") is None
    assert registry.of_device("d1") is TELEMETRY
