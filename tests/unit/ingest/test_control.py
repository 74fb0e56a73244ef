"""What the control process can say without a server: whose topic it is, and what is too large."""

import pytest

from ingest.control import parse_topic, status_topic, too_large
from ingest.requests import MAX_WAIT_SECONDS, Request
from tasks.alerts.manage import MAX_COMMAND_BYTES
from tasks.rules import MAX_DOCUMENT_BYTES


@pytest.mark.parametrize("kind", ["config", "alerts/manage"])
def test_a_topic_names_what_is_asked_for_and_the_user(kind: str) -> None:
    """The answer goes to the same user, on the status topic beside the one that was asked on."""
    parsed = parse_topic(f"users/Åsa 7/{kind}")
    assert parsed is not None
    assert status_topic(*parsed) == f"users/Åsa 7/{kind}/status"


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "users",
        "users//config",
        "users/a",
        "users/a/b",
        "user/a/config",
        "users/a/config/x",
        "users/ /config",
    ],
)
def test_any_other_topic_names_nothing(topic: str) -> None:
    """What does not parse is told apart, and never an error."""
    assert parse_topic(topic) is None


def test_only_what_is_too_large_is_refused_before_a_worker_sees_it() -> None:
    """The limits are those of the documents themselves; the answer says limit and size."""
    assert too_large("config", b"x" * MAX_DOCUMENT_BYTES) is None
    assert too_large("manage", b"x" * MAX_COMMAND_BYTES) is None
    for kind, limit in (("config", MAX_DOCUMENT_BYTES), ("manage", MAX_COMMAND_BYTES)):
        answer = too_large(kind, b"x" * (limit + 1))  # type: ignore[arg-type]
        assert answer is not None
        assert not answer["ok"]
        assert str(limit + 1) in answer["errors"][0]["message"]


def test_the_wait_for_an_answer_grows_and_is_bounded() -> None:
    """Each attempt waits longer than the one before, up to the longest wait, however many there were."""
    waits = [
        Request("config", "u", b"", 1, again=False, retained=False, attempt=attempt).wait_seconds()
        for attempt in (1, 2, 3, 10, 10_000)
    ]
    assert waits == [5.0, 10.0, 20.0, MAX_WAIT_SECONDS, MAX_WAIT_SECONDS]
