"""What is wrong with a channel is said before the database is asked, and without what it must not show."""

from typing import Any

import pytest

from ingest.admin.channel_faults import fault

TARGET = "https://example.com/token-of-mine"


def _fault(**given: Any) -> str:
    channel: dict[str, Any] = {"user_id": "ada", "name": "hook", "kind": "webhook", "target": TARGET}
    channel |= {"severities": None, "statuses": None, "template": None, **given}
    return fault(**channel)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"user_id": ""}, "user's id"),
        ({"user_id": "a" * 129}, "user's id"),
        ({"name": "../x"}, "name has"),
        ({"name": "a\n"}, "name has"),
        ({"name": "a" * 65}, "name has"),
        ({"kind": "pager"}, "no kind"),
        ({"severities": ["s"] * 17}, "severities"),
        ({"statuses": ["OVER"]}, "statuses are"),
        ({"secret": "token-of-mine"}, "secret has"),
        ({"secret": "token-of-mine-\x00-and-more"}, "secret has"),
        ({"template": "$secret"}, "template"),
        ({"target": f"{TARGET}\a"}, "control characters"),
        ({"target": f"{TARGET} more"}, "does not fit"),
        ({"target": TARGET + "x" * 2000}, "target has"),
        ({"target": "token-of-mine"}, "no URL"),
    ],
)
def test_what_is_wrong_is_said_and_no_target_is_shown(given: dict[str, Any], said: str) -> None:
    """The constraint of the table would say it too, and the server's log would have the row."""
    assert said in _fault(**given)
    assert "token-of-mine" not in _fault(**given)


def test_what_the_table_takes_is_no_fault() -> None:
    """At both ends of what is allowed."""
    assert not _fault()
    assert not _fault(user_id="a" * 128, name="A" + "._-9" * 15, severities=["s"] * 16, secret="s" * 16)
    assert not _fault(statuses=["TRIGGERED", "ACKNOWLEDGED"], target="https://e" + "x" * 1991)
