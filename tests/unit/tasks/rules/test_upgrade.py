"""Alert state from before rules had conditions: it is read as it was meant, and written back the same."""

import json
from datetime import datetime

from tasks.rules.active_alerts import ActiveAlert, rebuild, rows
from tasks.rules.change import notice
from tasks.rules.state import DeviceState, Status
from tests.unit.tasks.rules.device import Device, rule

RULES = (
    rule(for_seconds=5, clear_threshold=25),
    rule(id="slow", key="x", for_seconds=60),
    rule(id="off", key="y"),
)
ALERT = "c4dd2ef0-5e06-5809-9cf0-7bbe1c6d1a21"
# The state of a device with these rules: an open alert, a violation that waits, a disabled rule.
STATE = bytes.fromhex(
    "02940393cf000650bea535358000910291920002939ca36f66660495a7746f6f20686f74a77761726e696e67a179a13e1ec0d92436"
    "616438383530382d623233362d356334642d613934612d343631363932623763363662c0c000c0c0cf0000019de2fb3458a263319c"
    "a4736c6f770195a7746f6f20686f74a77761726e696e67a178a13e1ecb403f800000000000c0cf000650bea4d9a800cf000650bea5"
    "3535800266c0c0c09ca1740295a7746f6f20686f74a77761726e696e67a174a13e1e20d92463346464326566302d356530362d3538"
    "30392d396366302d376262653163366431613231cf000650bea4d9a800cf000650bea53535800266c0c0c0"
)
ROW = {
    "user_id": "u",
    "device_id": "d",
    "rule_id": "t",
    "alert_id": ALERT,
    "status": "TRIGGERED",
    "message": "too hot",
    "severity": "warning",
    "key": "t",
    "operator": ">",
    "threshold": 30,
    "value": 32,
    "sequence_id": 102,
    "first_seen": "2026-05-01T10:00:00Z",
    "last_seen": "2026-05-01T10:00:06Z",
    "count": 2,
    "snoozed_until": None,
    "command_at": None,
    "command_id": None,
    "kafka_partition": 0,
    "kafka_offset": 2,
    "judged": "2026-05-01T10:00:06Z",
    "skew": 0,
    "number": 3,
}
RECORD = {
    "alert_id": ALERT,
    "status": "TRIGGERED",
    "user_id": "u",
    "device_id": "d",
    "rule_id": "t",
    "message": "too hot",
    "severity": "warning",
    "key": "t",
    "operator": ">",
    "threshold": 30,
    "value": 32,
    "time": "2026-05-01T10:00:06Z",
    "sequence_id": 102,
    "first_seen": "2026-05-01T10:00:00Z",
    "last_seen": "2026-05-01T10:00:06Z",
    "count": 2,
    "reason": None,
    "by": None,
    "number": 2,
    "kafka_partition": 0,
    "kafka_offset": 2,
}
NEW_COLUMNS = (
    *("digest", "values", "acknowledged_at", "acknowledged_by", "note", "changed_at", "violated"),
    "judged_keys",
)


def upgraded() -> Device:
    """The device, as the new version finds it in Redis."""
    device = Device(*RULES)
    device.state = DeviceState.unpack("u", "d", STATE)
    device.offset = 2
    return device


def test_a_state_from_before_goes_on_where_it_was() -> None:
    """The open alert ends under its id, the violation goes on, and the disabled rule stays so."""
    device = upgraded()
    assert {name: entry.status for name, entry in device.state.entries.items()} == {
        "t": Status.ACTIVE,
        "slow": Status.PENDING,
        "off": Status.DISABLED,
    }
    assert device.send({"t": 28, "x": 31, "y": 99}, 10) == []
    assert device.send({"t": 20}, 20) == ["RESOLVED"]
    assert (device.last.alert_id, device.last.number) == (ALERT, 4)
    assert device.send({"x": 31, "y": 99}, 60) == ["TRIGGERED"]
    assert (device.last.rule_id, device.last.count) == ("slow", 4)


def test_rules_of_before_leave_the_same_bytes_and_notices_as_before() -> None:
    """So that workers of both versions work on one device."""
    assert upgraded().state.pack() == STATE
    device = Device(*RULES)
    device.send({"t": 31, "x": 31.5, "y": 31}, 0)
    device.send({"t": 32, "x": 31.5, "y": 31}, 6)
    device.command("DISABLE", 7, rule_id="off")
    assert device.state.pack() == STATE
    hidden = {"reason", "by", "number", "kafka_partition", "kafka_offset"}
    assert json.loads(notice(RECORD)) == {name: one for name, one in RECORD.items() if name not in hidden}
    assert device.changes[1].to_json() == notice(RECORD)


def test_a_violation_of_before_lasts_by_the_clock() -> None:
    """The state has all that this takes."""
    assert upgraded().tick(59) == []
    assert upgraded().tick(60) == ["TRIGGERED"]


def test_rows_of_before_rebuild_the_state() -> None:
    """The new columns are null in them."""
    times = {name: value for name, value in ROW.items() if name in {"first_seen", "last_seen", "judged"}}
    row = ROW | dict.fromkeys(NEW_COLUMNS) | {n: datetime.fromisoformat(str(v)) for n, v in times.items()}
    known = upgraded().state
    assert rebuild("u", "d", [ActiveAlert(**row)]).entries == {"t": known.entries["t"]}  # type: ignore[arg-type]
    written = next(one.to_record() for one in rows(known) if one.rule_id == "t")
    assert known.newest
    assert written == ROW | dict.fromkeys(NEW_COLUMNS) | {"judged_keys": list(known.newest.keys)}
