"""A last will, or an availability, says whether a device is there; it is not a reading."""

import pytest

from tasks.devices.presence import newest
from tasks.domain import Domain, Double, Fingerprint, Form, Presence, Record, Time, TopicLevel
from tasks.domain.payload import Limits, Refused
from tasks.domain.presence import Said

LIMITS = Limits()


class Plug(Record):
    """`tele/cellar/SENSOR`, and `tele/cellar/LWT` with `Online` or `Offline`."""

    device: TopicLevel
    time: Time | None = None
    power: Double | None = None
    reading_id: Fingerprint


def declared(presence: Presence, *, source: str = "{device}") -> Domain[Plug]:
    """A domain with a topic for the presence."""
    return Domain(
        Plug,
        name="plugs",
        topic="tele/{device}/SENSOR",
        owner="home",
        source=source,
        account="plugs",
        table="raw_plugs",
        primary_key=("time", "device", "reading_id"),
        form=Form(ignored=("tele/{_device}/STATE",), presence=(presence,)),
    )


DOMAIN = declared(Presence("tele/{device}/LWT"))


def test_a_presence_is_subscribed_to_and_may_be_published_and_is_not_ignored() -> None:
    """The rights and the subscription follow from its template as from those of readings."""
    assert DOMAIN.filters == ("tele/+/SENSOR", "tele/+/LWT")
    assert DOMAIN.topics_of("home", "plugs") == ["tele/+/SENSOR", "tele/+/LWT"]
    assert not DOMAIN.ignores("tele/cellar/LWT")
    assert DOMAIN.ignores("tele/cellar/STATE")
    assert DOMAIN.parse_topic("tele/cellar/LWT") == ("home", "plugs/cellar")


@pytest.mark.parametrize(
    ("payload", "online"),
    [(b"Online", True), (b"Offline", False), (b'"offline"', False), (b"0", False), (b" ", None)],
)
def test_the_word_of_a_last_will(payload: bytes, online: bool | None) -> None:
    """In any case, with quotes or without; nothing in an empty payload, which clears a retained message."""
    outcome = DOMAIN.read("tele/cellar/LWT", payload, 1, LIMITS)
    assert outcome.is_ignored
    assert outcome.online is online


def test_a_word_within_json() -> None:
    """As bridges send it."""
    domain = declared(Presence("bridge/{device}/availability", path="state"))
    assert domain.read("bridge/a/availability", b'{"state": "online"}', 1, LIMITS).online is True
    with pytest.raises(Refused, match="`state` is missing, but whether the device is there is one of"):
        domain.read("bridge/a/availability", b"{}", 1, LIMITS)


@pytest.mark.parametrize("payload", [b"maybe", b"\xff\xfe", b"[]"])
def test_another_word_is_refused(payload: bytes) -> None:
    """With the words that count."""
    with pytest.raises(Refused):
        DOMAIN.read("tele/cellar/LWT", payload, 1, LIMITS)


def test_a_reading_says_nothing_of_the_presence() -> None:
    """They are distinguished by the topic."""
    outcome = DOMAIN.read("tele/cellar/SENSOR", b'{"power": 1}', 1_700_000_000_000, LIMITS)
    assert len(outcome.readings) == 1
    assert outcome.online is None


def test_a_topic_that_does_not_name_the_source_is_refused_at_the_start() -> None:
    """It would be unknown which device it speaks of."""
    with pytest.raises(TypeError, match="must be those in braces"):
        declared(Presence("tele/all/LWT"))


def test_words_are_declared_in_any_case() -> None:
    """As the device writes them."""
    domain = declared(Presence("tele/{device}/LWT", online=frozenset({"ON"}), offline=frozenset({"Off"})))
    assert domain.read("tele/a/LWT", b"ON", 1, LIMITS).online is True
    assert domain.read("tele/a/LWT", b"off", 1, LIMITS).online is False


@pytest.mark.parametrize(
    ("online", "said"),
    [({"Lost"}, "'lost' for both states"), (set(), "needs a word for online")],
)
def test_words_that_tell_nothing_are_refused_at_the_start(online: set[str], said: str) -> None:
    """One of both states, or none of one."""
    with pytest.raises(TypeError, match=said):
        Presence("tele/{device}/LWT", online=frozenset(online))


def test_the_newest_message_of_a_device_counts() -> None:
    """Whatever order they are read in; of two at one time the later."""
    old, new = Said("u", "d", online=True, at_ms=1), Said("u", "d", online=False, at_ms=2)
    assert newest([new, old]) == newest([old, new]) == [new]
    assert newest([new, new._replace(online=True)])[0].online
