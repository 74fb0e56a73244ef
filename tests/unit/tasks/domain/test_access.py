"""The owner of a topic that does not name one is the user of the one account whose access list holds it."""

import re
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.batch.messages import Message, Part, hinted, pack_part, unpack_part
from tasks.domain import Owner, Record, Text, Time, TopicLevel
from tasks.domain.access import AccessList, NoOwner, Right
from tasks.domain.payload import Limits, Refused
from tasks.domain.template import filter_covers
from tests.unit.tasks.domain.unowned import DOMAIN, TOPIC, State, declared


def access(*rights: tuple[str, str, str]) -> AccessList:
    """The lists of accounts by their `user/device`, permission and filter."""
    return AccessList(
        [Right(name, name.partition("/")[0], allowed, to) for name, allowed, to in rights], DOMAIN.filters
    )


@pytest.mark.parametrize(
    "rights",
    [
        [("ada/cellar", "allow", TOPIC)],
        [("ada/cellar", "allow", "tele/+/SENSOR"), ("bob/attic", "allow", "tele/attic/SENSOR")],
        [("ada/bridge", "allow", "#"), ("ada/bridge", "allow", TOPIC)],
        [
            ("ada/bridge", "allow", "tele/cellar/#"),
            ("bob/cellar", "allow", "users/bob/devices/cellar/telemetry"),
        ],
        [("ada/cellar", "allow", "tele/cellar/SENSOR/#"), ("bob/x", "allow", "+/+/STATE")],
        [("ada/cellar", "allow", TOPIC), ("bob/all", "allow", "tele/#"), ("bob/all", "deny", TOPIC)],
    ],
)
def test_the_one_account_that_holds_the_topic_has_the_owner(rights: list[tuple[str, str, str]]) -> None:
    """By the topic itself or by a filter; what is denied an account does not hold."""
    assert access(*rights).owner_of(TOPIC) == "ada"


@pytest.mark.parametrize(
    ("rights", "reason"),
    [
        ([], "no account's access list holds the topic"),
        ([("ada/attic", "allow", "tele/attic/SENSOR")], "no account's access list holds the topic"),
        ([("ada/cellar", "allow", "tele/#"), ("ada/cellar", "deny", TOPIC)], "no account's access list"),
        (
            [("bob/cellar", "allow", TOPIC), ("ada/cellar", "allow", TOPIC)],
            "2 accounts .*ada/cellar, bob/cellar",
        ),
        ([(f"u{n}/d", "allow", "tele/#") for n in range(9)], "9 accounts .*u0/d, u1/d, u2/d, …"),
    ],
)
def test_none_or_several_is_a_reason_that_says_which(rights: list[tuple[str, str, str]], reason: str) -> None:
    """Neither is a guess."""
    found = access(*rights).owner_of(TOPIC)
    assert isinstance(found, NoOwner)
    assert re.search(reason, found.reason)


LEVELS = st.sampled_from(["tele", "a", "b", "SENSOR", "+"])


@given(
    filters=st.lists(
        st.builds(
            lambda levels, rest: "/".join([*levels, *rest]),
            st.lists(LEVELS, min_size=1, max_size=4),
            st.sampled_from([[], ["#"]]),
        ),
        max_size=6,
        unique=True,
    ),
    device=st.sampled_from(["a", "b", "c", "SENSOR"]),
)
def test_an_account_holds_what_its_filters_cover(filters: list[str], device: str) -> None:
    """Each account has one filter: those that cover the topic, by the plain comparison, hold it."""
    topic = f"tele/{device}/SENSOR"
    holding = [one for one in filters if filter_covers(one, topic)]
    owner = access(*((f"u{filters.index(one)}/d", "allow", one) for one in filters)).owner_of(topic)
    if len(holding) == 1:
        assert owner == f"u{filters.index(holding[0])}"
    else:
        assert isinstance(owner, NoOwner)
        assert owner.holders == len(holding)


def test_rights_that_concern_other_topics_are_not_kept() -> None:
    """The list is as large as what it decides about, however many other devices there are."""
    others = [(f"ada/d{n}", "allow", f"users/ada/devices/d{n}/telemetry") for n in range(1000)]
    assert len(access(*others, ("ada/cellar", "allow", TOPIC), ("bob/all", "allow", "#")).rights) == 2


def test_a_reading_is_its_owners() -> None:
    """The column, the source and the fingerprint have the owner; the payload cannot claim another."""

    def read(owner: str) -> tuple[object, dict[str, object], bytes]:
        arrival = int(datetime(2026, 5, 1, tzinfo=UTC).timestamp() * 1000)
        payload = b'{"temperature": 21.5, "time": "2026-05-01T00:00:00Z", "user": "eve"}'
        ((_, reading),) = DOMAIN.read(TOPIC, payload, arrival, Limits(), owner=owner).readings
        whole = DOMAIN.whole(TOPIC, reading)
        return reading.source, vars(whole), reading.copy_line

    source, fields, line = read("ada")
    assert source == ("ada", "states/cellar")
    assert (fields["user"], fields["device"], fields["temperature"]) == ("ada", "cellar", 21.5)
    assert line.split(b"\t")[1:3] == [b"ada", b"cellar"]
    assert read("bob")[1]["reading_id"] != fields["reading_id"]
    assert DOMAIN.columns[:3] == ("time", "user", "device")


@pytest.mark.parametrize("owner", ["", " ", "a/b", "x" * 200])
def test_a_record_without_a_valid_owner_is_refused(owner: str) -> None:
    """No matter who made it: no reading is given to nobody."""
    with pytest.raises(Refused, match="owner") as caught:
        DOMAIN.read(TOPIC, b"{}", 0, Limits(), owner=owner)
    assert caught.value.error_type == "UnknownOwner"


def test_accounts_get_the_topics_by_the_template() -> None:
    """Each user's device of that name; the owner is not part of the topic."""
    assert DOMAIN.topics_of("ada", "cellar") == [TOPIC]
    assert DOMAIN.account_of(TOPIC, DOMAIN.parse_topic(TOPIC, "ada")) == "cellar"


class Two(State):
    """Has two."""

    other: Owner


class Strict(Record):
    """Has no fingerprint."""

    user: Owner
    device: TopicLevel
    time: Time | None = None
    reading_id: Text


@pytest.mark.parametrize(
    ("declare", "reason"),
    [
        (lambda: declared("home"), "must be {user}"),
        (lambda: declared("{device}"), "must be {user}"),
        (lambda: declared(record=Two), "one Owner"),
        (lambda: declared(record=Strict, form=False), "needs a form"),
    ],
)
def test_a_declaration_that_cannot_be_is_refused(declare: Callable[[], object], reason: str) -> None:
    """At the start, by a sentence."""
    with pytest.raises(TypeError, match=reason):
        declare()


def test_the_owner_travels_with_the_message() -> None:
    """Into the worker, and not with the messages of others, whose workers may be older."""
    plain = Message(0, 1, 0, TOPIC, "", 0, b"{}")
    owned = hinted(plain, "", None, "ada")
    hints = hinted(plain, "text/plain", (1, 2))
    _, _, unpacked, _ = unpack_part(pack_part(Part("states", {0: 1}, [plain, owned, hints])))
    assert [getattr(one, "owner", None) for one in unpacked] == [None, "ada", ""]
    assert getattr(unpacked[2], "origin", None) == (1, 2)
