"""A channel's fault is reported before the database is asked, and without what it must not show."""

import pytest

from ingest.admin.alerting.channel_faults import fault

TARGET = "https://example.com/token-of-mine"


@pytest.mark.parametrize(
    ("kind", "target", "template", "said"),
    [
        ("pager", TARGET, None, "no kind"),
        ("webhook", TARGET, "$secret", "template"),
        ("webhook", "token-of-mine", None, "no URL"),
        ("webhook", "gopher://example.com/token-of-mine", None, "is refused"),
        ("apprise", "slack://token-of-mine", None, "is refused"),
    ],
)
def test_what_is_wrong_is_said_and_no_target_is_shown(
    kind: str, target: str, template: str | None, said: str
) -> None:
    """Faults that the table sees it refuses itself, without the row."""
    found = fault(kind, target, template)
    assert said in found
    assert "token-of-mine" not in found


def test_a_target_that_can_be_reached_is_no_fault() -> None:
    """The rest is the table's."""
    assert not fault("webhook", TARGET, "$message")
