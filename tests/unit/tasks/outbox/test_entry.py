"""Entries of the outbox: bounded in bytes, nothing lost or reordered by splitting."""

import json
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from tasks.outbox import entry as outbox_entry
from tasks.outbox.entry import ENTRY_BYTES, Entry, entries, parse
from tasks.rules.change import Change, notice

NOW = datetime(2026, 5, 1, 10, tzinfo=UTC)


def change(number: int, message: str) -> Change:
    """A change of an alert."""
    return Change(
        alert_id=f"a{number}",
        status="TRIGGERED",
        user_id="u",
        device_id="d",
        rule_id="r",
        message=message,
        severity="warning",
        key="temperature",
        operator=">",
        threshold=80,
        value=90.5,
        values=None,
        time=NOW,
        sequence_id=number,
        first_seen=NOW,
        last_seen=NOW,
        count=1,
        reason=None,
        by=None,
        note=None,
        number=number,
        position=None,
    )


LENGTHS = st.lists(st.integers(0, 3 * ENTRY_BYTES // 2), max_size=12)


@given(LENGTHS, LENGTHS, st.lists(st.text(min_size=1, max_size=9), max_size=5))
def test_splitting_keeps_everything_in_order_and_rows_last(
    messages: list[int], rows: list[int], gone: list[str]
) -> None:
    """Each entry has one item, or is not larger than an entry may be; a row never comes before a change."""
    changes = [change(number, "x" * length) for number, length in enumerate(messages)]
    written = [{"rule_id": str(number), "message": "y" * length} for number, length in enumerate(rows)]
    split = [
        parse(f"1-{number}", content)
        for number, content in enumerate(entries("u", "d", changes, written, gone))
    ]
    items = [item for entry in split for item in entry.items()]
    assert [one for kind, one in items if kind == "changes"] == [
        {"record": one.to_record(), "open": one.is_open} for one in changes
    ]
    assert [one for kind, one in items if kind == "written"] == written
    assert [one for kind, one in items if kind == "gone"] == gone
    assert items == [item for kind in outbox_entry.KINDS for item in items if item[0] == kind]
    assert all(len(entry.items()) == 1 or entry.size <= ENTRY_BYTES + 200 for entry in split)
    assert all(entry.user == "u" for entry in split)


@given(LENGTHS)
def test_an_entry_of_an_older_version_is_cut_into_pieces_of_the_same_id(messages: list[int]) -> None:
    """However large it is; it had each change twice, and its rows beside them."""
    changes = [change(number, "x" * length) for number, length in enumerate(messages)]
    document = {
        "user_id": "u",
        "device_id": "d",
        "changes": [{"record": one.to_record(), "notice": one.to_json().decode()} for one in changes],
        "written": [{"rule_id": "r"}],
        "gone": ["s"],
    }
    whole = parse("5-1", json.dumps(document).encode())
    pieces = list(whole.pieces())
    assert [item for piece in pieces for item in piece.items()] == whole.items()
    assert {piece.id for piece in pieces} == {"5-1"}
    assert all(len(piece.items()) == 1 or piece.size <= ENTRY_BYTES for piece in pieces) or len(pieces) == 1


def test_the_notice_is_made_from_the_record() -> None:
    """It is what the change itself says, also after the record was JSON."""
    one = change(1, "hot")
    assert notice(json.loads(json.dumps(one.to_record()))) == one.to_json()


def test_a_digest_names_what_an_entry_says() -> None:
    """Another item, or the same one of another entry, has another."""
    entry = Entry("1-0", {"user_id": "u", "device_id": "d", "changes": [], "written": [], "gone": ["a", "b"]})
    first, second = [entry.of([item]) for item in entry.items()]
    assert first.digest() == entry.of(entry.items()[:1]).digest()
    assert len({first.digest(), second.digest(), first._replace(id="1-1").digest()}) == 3
