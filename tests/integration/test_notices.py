"""An MQTT broker that refuses the notices of one user: others are told, and nothing is lost silently."""

import base64
import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from compose.local.stack import Stack
from tasks import publish_changes
from tasks.outbox import notices, publisher, stream
from tasks.servers import backoff
from tasks.servers.redis_client import OUTBOX_NOTICES, client
from tests.conftest import DeadLetters
from tests.integration.changes import Database, empty_outbox, flap, judge, tell_users, write_tables
from tests.integration.fleet import wait_until
from tests.integration.refusals import refused
from tests.integration.subscriber import subscriber


@pytest.fixture(autouse=True)
def own_outbox(in_process: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:  # noqa: ARG001 - it comes first
    """An outbox of the test's own, and no pauses between the attempts."""
    monkeypatch.setattr(notices, "MOST_PAUSE_SECONDS", 0.0)
    with empty_outbox():
        yield


def letters_of(dead_letters: DeadLetters, user: str) -> list[dict[str, Any]]:
    """The dead letters about the user's alerts, in the order of the changes."""
    found = [
        letter for _, letter in dead_letters.read() if letter["original_topic"] == f"users/{user}/alerts"
    ]
    for letter in found:
        letter["notice"] = json.loads(base64.b64decode(letter["payload_base64"]))
    return sorted(found, key=lambda letter: str(letter["notice"]["time"]))


def test_a_user_whose_notices_are_refused_delays_nobody_and_they_end_as_dead_letters(
    stack: Stack, database: Database, dead_letters: DeadLetters
) -> None:
    """After as many attempts as are due, each whole; others hear everything once, and at once."""
    bad, good = uuid4().hex[:8], uuid4().hex[:8]
    with refused(stack, database, f"users/{bad}/alerts"), subscriber(stack, good) as listening:
        judge(bad, "d", (1, 90.0))
        wanted = flap(good, "d", 3)
        judge(bad, "d", (2, 20.0))
        wanted += flap(good, "d", 1, start=3)
        write_tables()
        tell_users()
        assert listening.told(8) == wanted
        assert stream.backlog() == 2
        assert letters_of(dead_letters, bad) == []

        def over() -> bool:
            tell_users()
            return stream.backlog() == 0

        wait_until(over, 60, "the end of the attempts")
        assert len(listening.notices) == 8
    letters = letters_of(dead_letters, bad)
    assert [letter["error_type"] for letter in letters] == ["NoticeRefused"] * 2
    assert [letter["notice"]["status"] for letter in letters] == ["TRIGGERED", "RESOLVED"]
    assert "ot authorized" in letters[0]["error"]


def test_notices_that_are_refused_for_a_while_are_told_in_their_order(
    stack: Stack, database: Database, dead_letters: DeadLetters
) -> None:
    """Each once, though the user's later ones were tried with the first."""
    user = uuid4().hex[:8]
    with refused(stack, database, f"users/{user}/alerts"):
        wanted = flap(user, "d", 2)
        for _ in range(2):
            tell_users()
    with subscriber(stack, user) as listening:
        tell_users()
        wanted += flap(user, "d", 1, start=2)
        tell_users()
        assert listening.told(6) == wanted
    assert client().hgetall(OUTBOX_NOTICES) == {}
    assert letters_of(dead_letters, user) == []


def test_a_broker_that_refuses_everything_is_waited_out(
    stack: Stack, database: Database, dead_letters: DeadLetters
) -> None:
    """However long: as a broker that is away, and no notice is given up."""
    user = uuid4().hex[:8]
    with refused(stack, database, "users/+/alerts", f"users/{user}/alerts"):
        wanted = flap(user, "d", 2)
        for _ in range(notices.ATTEMPTS + 1):
            backoff.succeeded("notify:mqtt")
            publish_changes.deliver_mqtt()
            assert backoff.rests("notify:mqtt")
        assert client().hgetall(OUTBOX_NOTICES) == {}
    backoff.succeeded("notify:mqtt")
    with subscriber(stack, user) as listening:
        tell_users()
        assert listening.told(4) == wanted
    assert letters_of(dead_letters, user) == []


def test_what_is_too_large_for_the_broker_is_refused_by_itself() -> None:
    """The broker would end the connection for it, each time."""
    topic = f"users/{uuid4().hex[:8]}/alerts"
    found = publisher.publish([(topic, b""), (topic, bytes(2_000_000)), (topic, b"")])
    assert found.keys() == {1}
    assert "are more than the broker's limit" in found[1]
