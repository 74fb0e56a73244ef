"""Several entries of the outbox as one write."""

from tasks.outbox.stream import Entry
from tasks.outbox.tables import _collapse


def entry(
    device: str, *changes: str, written: dict[str, int] | None = None, gone: str = "", at: str = "1-0"
) -> Entry:
    """An entry with its changes, the counts of its rows by their rules, and the rules that are gone."""
    document = {
        "user_id": "u",
        "device_id": device,
        "changes": [{"record": {"alert_id": change}} for change in changes],
        "written": [{"rule_id": rule_id, "count": count} for rule_id, count in (written or {}).items()],
        "gone": list(gone),
    }
    return Entry(at, document)


def test_every_change_is_kept_and_of_each_row_the_last_word() -> None:
    """A row that came and went goes; one that went and came again is there."""
    history, present, gone = _collapse(
        [
            entry("d", "1", "2", written={"a": 1, "b": 1}),
            entry("d", "3", written={"a": 2}, gone="b", at="2-3"),
            entry("e", gone="a"),
            entry("e", "1", written={"a": 7}),
            entry("f"),
        ]
    )
    assert [change["alert_id"] for change in history] == ["1", "2", "3", "1"]
    assert history[2]["outbox_position"] == 2 * 2**20 + 3
    assert present == [{"rule_id": "a", "count": 2}, {"rule_id": "a", "count": 7}]
    assert gone == [("u", "d", "b")]
