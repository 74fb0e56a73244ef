"""A state's bytes, its rows in `active_alerts`, and its rebuilding from them."""

import json

import msgpack
import pytest

from tasks.rules.active_alerts import rebuild, row_changes, rows
from tasks.rules.order import Newest
from tasks.rules.state import DeviceState, Position, UnknownState, advanced
from tests.unit.tasks.rules.device import Device, rule

SILENT = {"id": "silent", "operator": "absent", "for_seconds": 60, "message": "silent"}


def busy_device() -> Device:
    """A device with a rule in every status but OK, and huge and fractional values."""
    device = Device(
        rule(id="active", key="a"),
        rule(id="pending", key="p", for_seconds=60),
        rule(id="snoozed", key="s", clear_threshold=20.5),
        rule(id="calm", key="c"),
        rule(id="disabled", key="x"),
        SILENT,
    )
    device.tick(60, seen=0)
    device.send({"a": 10**30, "p": 31, "s": 31.5, "c": 31}, 50)
    for name in ("snoozed", "calm"):
        device.command("SNOOZE", 70, minutes=30, rule_id=name)
    device.command("DISABLE", 71, rule_id="disabled")
    device.send({"a": 32, "p": 32, "c": 20}, 72)
    return device


def test_a_state_comes_back_from_its_bytes() -> None:
    """Nothing of it is lost."""
    state = busy_device().state
    assert {entry.status.value for entry in state.entries.values()} == {
        "ACTIVE",
        "PENDING",
        "SNOOZED",
        "DISABLED",
    }
    assert DeviceState.unpack("u", "d", state.pack()) == state


def test_the_same_state_has_the_same_bytes() -> None:
    """Whatever the order in which its rules were violated, so that bytes can be compared."""
    one, other = Device(rule(), rule(key="x")), Device(rule(key="x"), rule())
    for device in (one, other):
        device.send({"t": 31, "x": 31}, 0)
    assert one.state.pack() == other.state.pack()


def test_a_state_without_bytes_is_that_of_a_new_device() -> None:
    """Missing in Redis means in order."""
    assert DeviceState.unpack("u", "d", None) == DeviceState.unpack("u", "d", b"") == DeviceState("u", "d")


def test_an_alert_that_is_over_leaves_a_trace_of_a_few_bytes() -> None:
    """The position and the newest reading stay, so that the same readings publish nothing again."""
    device = Device(rule())
    device.send(31, 0)
    device.send(20, 1)
    assert not device.state.is_open
    assert len(device.state.pack()) < 32
    assert DeviceState.unpack("u", "d", device.state.pack()) == device.state


def test_a_change_always_changes_the_bytes() -> None:
    """An alert that came and went does not look as if nothing had been."""
    device = Device(rule())
    seen = {device.state.pack()}
    for second, value in enumerate([31, 20, 31, 20]):
        device.send(value, second)
        seen.add(device.state.pack())
    assert len(seen) == 5


@pytest.mark.parametrize(
    "packed",
    [b"\x00", b"\x02\x90", b"\x01", b"\x01\xc1", b"\x01\x90", b"\x01\x94\x01\x01\x01\x01", b"\x01\x05"],
)
def test_foreign_bytes_are_an_unknown_state(packed: bytes) -> None:
    """The state of another version, or of no version, is never taken for something else."""
    with pytest.raises(UnknownState):
        DeviceState.unpack("u", "d", packed)


def test_every_cut_of_the_bytes_is_an_unknown_state() -> None:
    """Half a state is none."""
    packed = busy_device().state.pack()
    for length in range(1, len(packed)):
        with pytest.raises(UnknownState):
            DeviceState.unpack("u", "d", packed[:length])


def test_a_position_only_moves_forward() -> None:
    """One for each partition that the device was in."""
    positions: tuple[Position, ...] = ()
    for position in [(0, 6), (0, 4), (3, 1), (0, 5), (3, 0)]:
        positions = advanced(positions, Position(*position))
    assert positions == (Position(0, 6), Position(3, 1))


def test_the_state_is_rebuilt_from_its_rows() -> None:
    """Every rule that is not in order has a row, and the rows hold everything."""
    state = busy_device().state
    written = rows(state)
    assert {row.rule_id: row.status for row in written} == {
        "active": "TRIGGERED",
        "calm": "SNOOZED",
        "disabled": "DISABLED",
        "pending": "PENDING",
        "snoozed": "SNOOZED",
    }
    assert rebuild("u", "d", reversed(written)) == state


def test_a_row_can_be_sent_as_json() -> None:
    """Times as RFC 3339, by the names of the columns."""
    record = rows(busy_device().state)[0].to_record()
    json.dumps(record)
    assert (record["first_seen"], record["count"]) == ("2026-05-01T10:00:50Z", 2)


def test_only_what_changed_is_written() -> None:
    """One row for a rule however many readings lie between, none for a rule that saw nothing."""
    device = Device(rule(), rule(key="x"))
    device.send({"t": 31, "x": 31}, 0)
    before = device.state
    device.send({"t": 32}, 1)
    device.send({"t": 33}, 2)
    changes = row_changes(before, device.state)
    assert [(row.rule_id, row.value, row.count) for row in changes.written] == [("t", 33, 3)]
    assert changes.gone == ()


def test_the_row_of_an_alert_that_is_over_goes() -> None:
    """Also if it ended by its rule being removed; one that came and went in between was never there."""
    device = Device(rule())
    device.send(31, 0)
    before = device.state
    device.send(20, 1)
    assert row_changes(before, device.state) == ((), ("t",))
    before = device.state
    device.send(31, 2)
    device.send(20, 3)
    assert row_changes(before, device.state) == ((), ())


def test_the_history_keeps_a_rebuilt_state_from_telling_twice() -> None:
    """With the device's latest positions, readings that come again change nothing, though no row is left."""
    device = Device(rule())
    device.send(31, 0)
    device.send(20, 1)
    last = device.last
    assert last.position is not None
    device.state = rebuild("u", "d", [], changed=[(last.position, last.time)], number=last.number)
    assert device.judge(*device.sent) == []
    assert device.send(31, 2) == ["TRIGGERED"]
    assert device.last.number == 3


def test_without_the_history_what_comes_again_is_told_under_the_same_ids() -> None:
    """The user's program recognises it."""
    device = Device(rule())
    device.send(31, 0)
    device.send(20, 1)
    told = list(device.changes)
    device.state = rebuild("u", "d", [])
    device.judge(*device.sent)
    assert device.changes == told * 2


def test_a_state_of_the_version_before_is_read() -> None:
    """It has the time of the newest reading alone, which then counts as its arrival."""
    packed = bytes([1]) + msgpack.packb([3, 1_777_629_600_000_000, [[0, 5]], []])
    state = DeviceState.unpack("u", "d", packed)
    assert (state.number, state.positions) == (3, ((0, 5),))
    assert state.newest == Newest(1_777_629_600_000_000, 0)


def test_a_rebuilt_state_counts_no_reading_twice() -> None:
    """A reading that comes again, as another record, is known by its key also after a loss of Redis."""
    device = Device(rule(for_readings=2))
    device.send(31, 0)
    device.state = rebuild("u", "d", rows(device.state))
    assert device.send(31, 1, time=0, key=device.sent[-1].key) == []
    assert device.send(31, 2) == ["TRIGGERED"]


def test_a_rebuilt_state_knows_a_clock_that_is_far_ahead() -> None:
    """The history has the device's own time and no arrival: a row that is as far says more."""
    device = Device(rule(), rule(key="x", for_readings=2))
    device.send({"t": 31, "x": 31}, at=0, time=1e6)
    changed = [(device.last.position, device.last.time)]
    device.state = rebuild("u", "d", rows(device.state), changed=changed)  # type: ignore[arg-type]
    assert device.send({"x": 31}, at=1, time=1e6 + 1) == ["TRIGGERED"]
