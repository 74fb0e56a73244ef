"""Templates of topics: what they name, which filters they need, and which of two decides."""

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tasks.domain.template import MOST_LEVELS_INSIDE, Template, filter_covers

LEVELS = st.text(st.characters(exclude_characters="/+#\0", exclude_categories=["Cs"]), max_size=8)
WORDS = st.sampled_from(
    [
        "zigbee2mqtt",
        "v3",
        "devices",
        "up",
        "N",
        "state",
        "status",
        "a@b",
        "switch:1",
        "sensor",
        "home",
        "tele",
        "SENSOR",
    ]
)
TEMPLATES = [
    "zigbee2mqtt/{device...}",
    "zigbee2mqtt/{device...}/availability",
    "v3/{app}@{tenant}/devices/{device}/up",
    "N/{device*3}/{path...}",
    "{device...}/{kind:sensor|switch}/{name}/state",
    "{device}/status/switch:{output}",
    "home/{place...}/{device}/{quantity}",
    "tele/{device}/SENSOR",
]


def matches(topic_filter: str, topic: str) -> bool:
    """Whether MQTT sends the topic to a subscriber of the filter."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index >= len(levels) or level not in {"+", levels[index]}:
            return False
    return len(wanted) == len(levels)


@pytest.mark.parametrize(
    ("template", "topic", "names"),
    [
        ("zigbee2mqtt/{device...}", "zigbee2mqtt/floor 1/kitchen", {"device": "floor 1/kitchen"}),
        ("zigbee2mqtt/{device...}", "zigbee2mqtt", None),
        (
            "v3/{app}@{tenant}/devices/{device}/up",
            "v3/farm@ttn/devices/b/up",
            {"app": "farm", "tenant": "ttn", "device": "b"},
        ),
        ("v3/{app}@{tenant}/devices/{device}/up", "v3/farm/devices/b/up", None),
        ("N/{device*3}/{path...}", "N/a/b/0/Yield/Power", {"device": "a/b/0", "path": "Yield/Power"}),
        ("N/{device*3}/{path...}", "N/a/b/0", None),
        ("home/{place...}/{device}/{q}", "home/a/b/c/d", {"place": "a/b", "device": "c", "q": "d"}),
        ("home/{place...}/{device}/{q}", "home/a/b/c/d/e/f/g", None),
        ("{d}/status/switch:{n}", "plug/status/switch:0", {"d": "plug", "n": "0"}),
        ("{d}/{kind:sensor|switch}/state", "x/light/state", None),
        ("a.b/{d}", "axb/1", None),
    ],
)
def test_what_a_topic_names(template: str, topic: str, names: dict[str, str] | None) -> None:
    """The names and their levels; None for another form of topic."""
    assert Template(template).match(topic) == names


@given(template=st.sampled_from(TEMPLATES), levels=st.lists(LEVELS | WORDS, min_size=1, max_size=9))
def test_one_expression_finds_the_same_names(template: str, levels: list[str]) -> None:
    """Programs that know expressions alone read a topic as the template does."""
    topic = "/".join(levels)
    found = re.fullmatch(Template(template).pattern, topic, re.DOTALL)
    assert (found and found.groupdict()) == Template(template).match(topic)


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_example_of_a_template_is_a_topic_of_it(template: str) -> None:
    """With its names for levels."""
    assert Template(template).match(Template(template).example) is not None


def test_an_expression_holds_neither_quotes_nor_control_characters() -> None:
    """They would end the text that it stands in."""
    pattern = Template("it's\t/a.b c/{device}").pattern
    assert "'" not in pattern
    assert "\t" not in pattern
    assert re.fullmatch(pattern, "it's\t/a.b c/x")
    assert not re.fullmatch(pattern, "it's\t/axb c/x")


@given(template=st.sampled_from(TEMPLATES), levels=st.lists(LEVELS, min_size=1, max_size=9))
def test_each_topic_of_a_template_matches_one_filter_of_it(template: str, levels: list[str]) -> None:
    """The subscription brings every message that the domain takes, once."""
    found, topic = Template(template), "/".join(levels)
    for literal in (*template.split("/"), "up", "devices", "a@b", "sensor", "switch:1"):
        for index in range(len(levels)):
            tried = "/".join([*levels[:index], literal, *levels[index + 1 :]])
            if found.match(tried) is not None:
                assert sum(matches(one, tried) for one in found.filters) == 1
    if found.match(topic) is not None:
        assert sum(matches(one, topic) for one in found.filters) == 1


@given(template=st.sampled_from(TEMPLATES), data=st.data())
def test_the_rights_of_an_account_are_its_topics(template: str, data: st.DataObject) -> None:
    """With every name filled in, each filter matches exactly the topics that name the device."""
    found = Template(template)
    several = set(found.several)
    names = {
        name: "/".join(data.draw(st.lists(LEVELS.filter(bool), min_size=3, max_size=3)))
        if name in several
        else data.draw(LEVELS.filter(bool))
        for name in found.names
    }
    assume("@" not in "".join(names.values()))
    if "kind" in names:
        names["kind"] = "sensor"
    (topic,) = found.fill(names)
    assert found.match(topic) == names
    device = {"device": names["device"]}
    assert sum(matches(one, topic) for one in found.fill(device)) == 1
    assert all(any(filter_covers(wide, one) for wide in found.filters) for one in found.fill(device))


def test_filters() -> None:
    """As narrow as MQTT has them."""
    assert Template("zigbee2mqtt/{device...}").filters == ("zigbee2mqtt/+/#",)
    assert Template("{d...}/status/{c}").filters == tuple(
        f"{'+/' * count}status/+" for count in range(1, MOST_LEVELS_INSIDE + 1)
    )


def test_text_comes_before_a_name() -> None:
    """The template that is text where the other has a name decides about a topic that both match."""
    first = ["zigbee2mqtt/{d...}/availability", "zigbee2mqtt/{d...}", "zigbee2mqtt/{d}/x", "{d}/status/{c}"]
    assert min((Template(text) for text in first), key=lambda one: one.rank).text.startswith("z")
    assert Template(first[0]).rank < Template(first[1]).rank < Template(first[3]).rank
    assert Template("tele/{d}/{k:SENSOR|STATE}").rank < Template("tele/{d}/{k}").rank


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("zigbee2mqtt/{d...}", "{d}/status/{c}", True),
        ("home/{p...}/{d}/{q}", "{d}/status/{c}", False),
        ("a/{x}", "b/{x}", False),
        ("a/{x}", "{x}/b", True),
        ("{d...}/x", "{d...}/y", False),
        ("{d...}/x/{z}", "{d...}/{z}/y", True),
        ("{d}/{k:a|b}/s", "{d}/c/s", False),
    ],
)
def test_topics_of_two_templates(one: str, other: str, overlap: bool) -> None:
    """Whether one topic can match both, asked either way."""
    assert Template(one).overlaps(Template(other)) is overlap
    assert Template(other).overlaps(Template(one)) is overlap


@given(
    one=st.sampled_from(TEMPLATES),
    other=st.sampled_from(TEMPLATES),
    levels=st.lists(st.sampled_from(["a", "sensor", "state", "N", "home", "status", "tele"]), max_size=7),
)
def test_a_topic_of_both_shows_that_they_overlap(one: str, other: str, levels: list[str]) -> None:
    """No overlap is overlooked."""
    topic = "/".join(levels)
    both = Template(one).match(topic) is not None and Template(other).match(topic) is not None
    assert not both or Template(one).overlaps(Template(other))


@pytest.mark.parametrize(
    "text", ["a/{x...}/{y...}", "a/{x}/{x}", "a/b+", "a/{X}", "a/{x...}b", "a/#", "a/{x", "a/{x*1}", "a/{x:}"]
)
def test_templates_that_cannot_be_read(text: str) -> None:
    """With a sentence, when the domain is declared."""
    with pytest.raises(TypeError, match="topic"):
        Template(text)


def test_a_long_level_costs_little() -> None:
    """However many ways there are to split it."""
    assert Template("v3/{a}@{b}/x").match(f"v3/{'@' * 60_000}/y") is None
