"""The topics of requests and of their answers."""

import re
from typing import NamedTuple

from paho.mqtt.client import topic_matches_sub

from ingest.mqtt import packets
from tasks import registry
from tasks.rules.answers import Kind
from tasks.text.wording import id_fault


class _Levels(NamedTuple):
    """The part after `users/{user}/` in the topic of a request, and in that of its answer."""

    asked: str
    answered: str


TOPICS: dict[Kind, _Levels] = {
    "config": _Levels("config", "config/status"),
    "manage": _Levels("alerts/manage", "alerts/manage/status"),
    "rules": _Levels("rules/get", "rules"),
    "alerts": _Levels("alerts/get", "alerts/open"),
}
QUERIES: frozenset[Kind] = frozenset({"rules", "alerts"})
FILTERS: list[str] = [f"users/+/{levels.asked}" for levels in TOPICS.values()]

# Below `users/{user}/`, and not for answers to queries: requests, what else Sluice says, and all of devices.
_TAKEN = {"alerts", *(one for kind in ("config", "manage") for one in TOPICS[kind])}
_TAKEN |= {TOPICS[kind].asked for kind in QUERIES}
_TAKEN_BELOW = ("devices/", "alerts/state/")
_NOT_IN_TOPIC = re.compile(r"[\x00-\x1f\x7f-\x9f+#\ud800-\udfff]")
MOST_CHARACTERS = 1024


class ReplyTo(NamedTuple):
    """Where the sender of a query wants the answer: empty for the usual topic; and by which data."""

    topic: str = ""
    correlation: bytes = b""

    def __len__(self) -> int:
        return len(self.topic) + len(self.correlation)


NOWHERE_ELSE = ReplyTo()


def parse_topic(topic: str) -> tuple[Kind, str] | None:
    """The kind of request and the user; None if the topic is not a request's."""
    levels = topic.split("/")
    if len(levels) < 3 or levels[0] != "users" or id_fault(levels[1]):
        return None
    asked = "/".join(levels[2:])
    kind = next((kind for kind, one in TOPICS.items() if one.asked == asked), None)
    return None if kind is None else (kind, levels[1])


def status_topic(kind: Kind, user_id: str) -> str:
    """Where the answer goes, unless a query says otherwise."""
    return f"users/{user_id}/{TOPICS[kind].answered}"


def reply_to(kind: Kind, user_id: str, properties: bytes) -> ReplyTo:
    """The reply that the sender of a query wants; a topic that is not allowed is passed over."""
    if kind not in QUERIES:
        return NOWHERE_ELSE
    topic = packets.response_topic(properties)
    wanted = topic if may_answer(user_id, topic) else ""
    return ReplyTo(wanted, packets.correlation_data(properties))


def may_answer(user_id: str, topic: str) -> bool:
    """Whether answers may go to a topic that the sender names.

    It is the user's own, and nobody takes what comes there for something else: for a request, which would
    answer itself, for an alert, or for a reading.
    """
    own = f"users/{user_id}/"
    if not topic.startswith(own) or len(topic) > MOST_CHARACTERS or _NOT_IN_TOPIC.search(topic):
        return False
    rest = topic.removeprefix(own)
    if not rest or rest in _TAKEN or rest.startswith(_TAKEN_BELOW):
        return False
    return not any(topic_matches_sub(one, topic) for domain in registry.domains() for one in domain.filters)
