"""Commands of an operator: what is said when they were refused, and when nobody knows; the trail has each."""

from contextlib import nullcontext
from typing import Any

import pytest

from ingest.admin.alerting import alert_commands
from ingest.admin.alerting.alert_commands import CommandRefused, CommandUnknown, command
from tasks.observe.internal_error import internal_error
from tasks.rules.answers import Answer, given_up, refusal

ENABLE = {"device_id": "d", "rule_id": "r", "action": "ENABLE"}


@pytest.fixture
def trail(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The actions noted so far."""
    noted: list[str] = []
    monkeypatch.setattr(alert_commands, "session", lambda: nullcontext(None))
    monkeypatch.setattr(alert_commands, "note", lambda _, action, *__: noted.append(action))
    return noted


def answered(monkeypatch: pytest.MonkeyPatch, trail: list[str], answer: Any) -> None:
    """A worker's answer; the command is in the trail before it is sent."""

    def ask(*_: Any) -> Answer:
        assert trail == ["ENABLE"]
        if isinstance(answer, BaseException):
            raise answer
        given: Answer = answer
        return given

    monkeypatch.setattr(alert_commands, "_ask", ask)


@pytest.mark.parametrize(
    "answer", [given_up("manage", 60), internal_error("manage", "u", "r1")], ids=["given up", "a bug"]
)
def test_what_may_have_been_done_is_not_called_unchanged(
    answer: Answer, trail: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer came from nobody who knows: it says where to look."""
    answered(monkeypatch, trail, answer)
    with pytest.raises(CommandUnknown, match="not known") as caught:
        command("u", ENABLE, "ada")
    assert "nothing is changed" not in str(caught.value)
    assert "`sluice alerts list`" in str(caught.value)
    assert trail == ["ENABLE"]


def test_a_refusal_changed_nothing(trail: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence and the trail say so."""
    answered(monkeypatch, trail, refusal([{"path": "rule_id", "message": "there is no such rule"}]))
    with pytest.raises(CommandRefused, match="nothing is changed"):
        command("u", ENABLE, "ada")
    assert trail == ["ENABLE", "ENABLE refused"]


def test_a_command_that_is_interrupted_is_in_the_trail(
    trail: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker may do it all the same."""
    answered(monkeypatch, trail, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        command("u", ENABLE, "ada")
    assert trail == ["ENABLE"]
