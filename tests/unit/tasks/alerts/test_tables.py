"""What several entries of the outbox come to, as one write."""

from typing import Any

from tasks.alerts.tables import _collapse


def entry(
    device: str, *changes: str, written: dict[str, int] | None = None, gone: str = ""
) -> dict[str, Any]:
    """An entry with its changes, the counts of its rows by their rules, and the rules that are gone."""
    return {
        "user_id": "u",
        "device_id": device,
        "changes": [{"record": change} for change in changes],
        "written": [{"rule_id": rule_id, "count": count} for rule_id, count in (written or {}).items()],
        "gone": list(gone),
    }


def test_every_change_is_kept_and_of_each_row_the_last_word() -> None:
    """A row that came and went goes; one that went and came again is there."""
    history, present, gone = _collapse(
        [
            entry("d", "1", "2", written={"a": 1, "b": 1}),
            entry("d", "3", written={"a": 2}, gone="b"),
            entry("e", gone="a"),
            entry("e", "1", written={"a": 7}),
            entry("f"),
        ]
    )
    assert history == ["1", "2", "3", "1"]
    assert present == [{"rule_id": "a", "count": 2}, {"rule_id": "a", "count": 7}]
    assert gone == [("u", "d", "b")]
