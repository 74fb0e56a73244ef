"""Accounts: the ids that may be provisioned, and the rights."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.admin.accounts import accounts
from ingest.admin.accounts.accounts import InvalidId
from tasks.settings import settings

FORBIDDEN = "/+#\x00\x1f\x7f\x85\ufffe\U0001ffff"

ids = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Cn"), exclude_characters="/+#"), min_size=1, max_size=128
).filter(lambda value: value == value.strip() and "${" not in value)


@given(ids)
def test_every_id_of_a_topic_can_be_provisioned(value: str) -> None:
    """An id of 1 to 128 ordinary characters is taken as it is."""
    assert accounts.check_id(value, "user id") == value


@given(before=ids, bad=st.sampled_from(FORBIDDEN), after=ids)
def test_ids_that_break_a_topic_are_refused(before: str, bad: str, after: str) -> None:
    """A separator, a wildcard, a control character or a noncharacter anywhere in an id is refused."""
    value = (before[:63] + bad + after[:63]).strip(" ")
    with pytest.raises(InvalidId):
        accounts.check_id(value, "device id")


@pytest.mark.parametrize(
    "value", ["", "a" * 129, " a", "a ", "\u3000a", "a\n", "\ud800", "${clientid}", "x${username}y"]
)
def test_ids_out_of_bounds_are_refused(value: str) -> None:
    """Empty, too long, with white space at an end, a lone surrogate, a placeholder of EMQX: refused."""
    with pytest.raises(InvalidId, match="user id"):
        accounts.user(value)


@given(st.lists(st.tuples(ids, ids), unique=True, max_size=20))
def test_no_two_devices_share_a_username(devices: list[tuple[str, str]]) -> None:
    """Different devices have different usernames, none with a colon, none like a user's."""
    usernames = [accounts.device(user, device).username for user, device in devices]
    assert len(set(usernames)) == len(devices)
    assert not any(":" in username for username in usernames)
    assert not {accounts.user(user).username for user, _ in devices} & set(usernames)


def test_an_address_with_colons_is_escaped_in_the_username_only() -> None:
    """A MAC address is a fine device id: its topic keeps the colons, its username has none."""
    account = accounts.device("alice", "aa:bb%cc")
    assert account.username == "alice/aa%3Abb%25cc"
    assert accounts.acl(account) == [
        ("publish", "users/alice/devices/aa:bb%cc/telemetry"),
        ("subscribe", "users/alice/devices/aa:bb%25cc/rejected"),
    ]


def test_a_device_may_publish_its_own_telemetry_and_hear_its_own_refusals() -> None:
    """One right of each kind, and no wildcard in them."""
    assert accounts.acl(accounts.device("alice", "d1")) == [
        ("publish", "users/alice/devices/d1/telemetry"),
        ("subscribe", "users/alice/devices/d1/rejected"),
    ]


@given(ids, ids)
def test_no_device_hears_another_ones_refusals(one: str, other: str) -> None:
    """Each has one topic for them, which is that of no other device."""
    (first,), (second,) = (
        [topic for action, topic in accounts.acl(accounts.device("u", name)) if action == "subscribe"]
        for name in (one, other)
    )
    assert (first == second) == (one == other)
    assert first.count("/") == 4
    assert not set("+#") & set(first)


def test_a_bridge_may_publish_for_all_its_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """The account that a domain names has all of its topics, and no other account has any."""
    monkeypatch.setenv("DOMAINS", "examples.zigbee2mqtt,examples.tasmota,examples.owntracks,examples.victron")
    settings.cache_clear()
    assert accounts.acl(accounts.device("home", "zigbee2mqtt")) == [
        ("publish", "zigbee2mqtt/+/#"),
        ("publish", "owntracks/home/zigbee2mqtt"),
        ("subscribe", "users/home/devices/zigbee2mqtt/rejected"),
    ]
    assert ("publish", "N/+/+/+/+/#") in accounts.acl(accounts.device("home", "venus"))
    assert ("publish", "zigbee2mqtt/+/#") not in accounts.acl(accounts.device("ann", "zigbee2mqtt"))
    service = accounts.acl(accounts.service("sluice"))
    assert {("subscribe", "zigbee2mqtt/+/#"), ("subscribe", "+/tele/+")} <= set(service)
    monkeypatch.undo()
    settings.cache_clear()


def test_a_user_gets_the_own_alerts_and_sends_the_own_rules() -> None:
    """A user hears what Sluice publishes to this user and asks what this user may ask."""
    assert set(accounts.acl(accounts.user("alice"))) == {
        ("publish", "users/alice/config"),
        ("publish", "users/alice/alerts/manage"),
        ("subscribe", "users/alice/config/status"),
        ("subscribe", "users/alice/alerts"),
        ("subscribe", "users/alice/alerts/state/#"),
        ("subscribe", "users/alice/alerts/manage/status"),
        ("subscribe", "users/alice/devices/+/rejected"),
        ("publish", "users/alice/rules/get"),
        ("publish", "users/alice/alerts/get"),
        ("subscribe", "users/alice/rules"),
        ("subscribe", "users/alice/alerts/open"),
        ("subscribe", "users/alice/responses/#"),
    }


def test_a_service_is_the_other_end_of_every_users_topics() -> None:
    """The service hears what users publish, and the reverse; it also hears the telemetry."""
    assert set(accounts.acl(accounts.service("sluice"))) == {
        ("subscribe", "users/+/devices/+/telemetry"),
        ("subscribe", "users/+/config"),
        ("subscribe", "users/+/alerts/manage"),
        ("publish", "users/+/config/status"),
        ("publish", "users/+/alerts"),
        ("publish", "users/+/alerts/state/#"),
        ("publish", "users/+/alerts/manage/status"),
        ("publish", "users/+/devices/+/rejected"),
        ("subscribe", "users/+/rules/get"),
        ("subscribe", "users/+/alerts/get"),
        ("publish", "users/+/rules"),
        ("publish", "users/+/alerts/open"),
        ("publish", "users/+/responses/#"),
    }
