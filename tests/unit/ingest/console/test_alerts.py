"""Commands about alerts, as the form sends them; without a server."""

import json
from typing import Any

import pytest
from fastapi import Request

from ingest.api.callers import Caller
from ingest.api.problems import Faulty
from ingest.console.guard import Visitor
from ingest.console.pages import alerts
from ingest.console.sessions import begin

VISITOR = Visitor(Caller("ada"), begin("token", "ada"), "")
SNOOZE = {"user": "ada", "device": "d", "rule": "hot", "action": "SNOOZE", "note": "on my way"}


class Sent:
    """The commands that the page sends, and its end; a worker refuses the last `refused` commands."""

    def __init__(self, refused: int = 0) -> None:
        self.actions: list[str] = []
        self.shown: dict[str, Any] = {}
        self._refused = refused

    def manage(self, _caller: Caller, _user: str, document: bytes) -> None:
        """Takes a command."""
        self.actions.append(json.loads(document)["action"])
        if len(self.actions) > 2 - self._refused:
            raise Faulty([{"path": "command", "message": "the rule is gone"}])

    def page(self, *_about: object, **shown: Any) -> None:
        """The page of the alert."""
        self.shown = shown


def send(monkeypatch: pytest.MonkeyPatch, minutes: str, refused: int = 0) -> Sent:
    """The outcome of a snooze with a note."""
    sent = Sent(refused)
    monkeypatch.setattr(alerts, "manage", sent.manage)
    monkeypatch.setattr(alerts, "_one", sent.page)
    nothing: Any = None
    alerts.command(Request({"type": "http"}), VISITOR, nothing, {**SNOOZE, "minutes": minutes})
    return sent


@pytest.mark.parametrize("minutes", ["", "soon", "-1", "nan"])
def test_a_snooze_that_is_wrong_acknowledges_nothing(monkeypatch: pytest.MonkeyPatch, minutes: str) -> None:
    """The page says that nothing was changed, and nothing was."""
    sent = send(monkeypatch, minutes)
    assert (sent.actions, sent.shown["done"]) == ([], "")
    assert sent.shown["error"] is not None


def test_what_was_done_before_a_refusal_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker may refuse the snooze after the acknowledgement."""
    assert send(monkeypatch, "60").shown == {}
    sent = send(monkeypatch, "60", refused=1)
    assert sent.actions == ["ACKNOWLEDGE", "SNOOZE"]
    assert sent.shown["done"] == "The alert is acknowledged. The rest was not done."
