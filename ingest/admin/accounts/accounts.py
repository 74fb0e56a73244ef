"""Accounts of the MQTT broker: who may have one, its username, and the topics that are its own."""

import unicodedata
from typing import Literal, NamedTuple

from ingest.admin.errors import OperatorError
from tasks import registry
from tasks.text.topics import rejected_topic

MAX_ID_CHARACTERS = 128

Kind = Literal["device", "user", "service"]
Action = Literal["publish", "subscribe"]


class InvalidId(OperatorError):
    """An id that cannot be part of a topic or of a username."""


class Account(NamedTuple):
    """The owner of a credential."""

    kind: Kind
    username: str
    user_id: str | None
    device_id: str | None


def check_id(value: str, what: str) -> str:
    """The id, when it can stand in a topic and in a username. Raises `InvalidId`."""
    if not 1 <= len(value) <= MAX_ID_CHARACTERS:
        raise InvalidId(f"The {what} must have 1 to {MAX_ID_CHARACTERS} characters; it has {len(value)}.")
    if value != value.strip():
        raise InvalidId(f"The {what} must not begin or end with white space.")
    for character in value:
        if character in "/+#":
            raise InvalidId(f"The {what} must not contain {character!r}, which has a meaning in MQTT topics.")
        # Cn covers the noncharacters, which MQTT brokers refuse as well
        if unicodedata.category(character) in {"Cc", "Cs", "Cn"}:
            raise InvalidId(f"The {what} must not contain the character U+{ord(character):04X}.")
    if "${" in value:
        raise InvalidId(f"The {what} must not contain '${{', which EMQX would fill in.")
    return value


def device(user_id: str, device_id: str) -> Account:
    """The account of a device. Raises `InvalidId`."""
    check_id(user_id, "user id")
    check_id(device_id, "device id")
    return Account("device", f"{_escape(user_id)}/{_escape(device_id)}", user_id, device_id)


def user(user_id: str) -> Account:
    """The account of a user's own programs. Raises `InvalidId`."""
    return Account("user", _escape(check_id(user_id, "user id")), user_id, None)


def service(name: str) -> Account:
    """The account of a process of Sluice. Raises `InvalidId`."""
    return Account("service", _escape(check_id(name, "service name")), None, None)


def _escape(value: str) -> str:
    """Without a colon, which ends the name in Mosquitto's password file (MAC addresses have them)."""
    return value.replace("%", "%25").replace(":", "%3A")


def acl(account: Account) -> list[tuple[Action, str]]:
    """All rights of an account in the domains of the settings; everything else is denied."""
    if account.kind == "device":
        assert account.user_id is not None
        assert account.device_id is not None
        topics = [
            topic
            for domain in registry.domains()
            for topic in domain.topics_of(account.user_id, account.device_id)
        ]
        hears: list[tuple[Action, str]] = [
            ("subscribe", rejected_topic(account.user_id, account.device_id)),
        ]
        return [*(("publish", topic) for topic in topics), *hears]
    owner = account.user_id if account.kind == "user" else "+"
    to_service: Action = "publish" if account.kind == "user" else "subscribe"
    to_user: Action = "subscribe" if account.kind == "user" else "publish"
    rights: list[tuple[Action, str]] = [
        (to_service, f"users/{owner}/config"),
        (to_service, f"users/{owner}/alerts/manage"),
        (to_user, f"users/{owner}/config/status"),
        (to_user, f"users/{owner}/alerts"),
        # The retained states of open alerts: device and rule.
        (to_user, f"users/{owner}/alerts/state/#"),
        (to_user, f"users/{owner}/alerts/manage/status"),
        (to_user, f"users/{owner}/devices/+/rejected"),
        (to_service, f"users/{owner}/rules/get"),
        (to_service, f"users/{owner}/alerts/get"),
        (to_user, f"users/{owner}/rules"),
        (to_user, f"users/{owner}/alerts/open"),
        # For MQTT 5's response topics.
        (to_user, f"users/{owner}/responses/#"),
    ]
    if account.kind == "service":
        rights += [("subscribe", one) for domain in registry.domains() for one in domain.filters]
    return rights
