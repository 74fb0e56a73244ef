"""The effect of one reading after another on an alert."""

import json
from datetime import timedelta
from typing import Any

import pytest

from tasks.rules.state import EPOCH, DeviceState
from tests.unit.tasks.rules.device import START, Device, rule


def test_a_violation_is_told_once_and_its_end_once() -> None:
    """However long a violation lasts, it gives one TRIGGERED and one RESOLVED of the same alert."""
    device = Device(rule())
    told = [device.send(31 if 100 <= second < 700 else 20, second) for second in range(800)]
    assert [status for statuses in told for status in statuses] == ["TRIGGERED", "RESOLVED"]
    assert device.changes[0].alert_id == device.changes[1].alert_id
    assert device.last.count == 600


def test_every_flap_is_told_in_order_as_an_alert_of_its_own() -> None:
    """Twenty violations in a row are twenty alerts."""
    device = Device(rule())
    for second in range(40):
        device.send(31 if second % 2 == 0 else 20, second)
    assert [change.status for change in device.changes] == ["TRIGGERED", "RESOLVED"] * 20
    assert len({change.alert_id for change in device.changes}) == 20


def test_a_change_says_everything() -> None:
    """The notification has the fields of the interface, and a reason only where there is one."""
    device = Device(rule(severity="critical"))
    device.send(31, 0.5)
    device.send(32.5, 10)
    device.send(20, 20)
    assert json.loads(device.last.to_json()) == {
        "alert_id": device.changes[0].alert_id,
        "status": "RESOLVED",
        "user_id": "u",
        "device_id": "d",
        "rule_id": "t",
        "message": "too hot",
        "severity": "critical",
        "key": "t",
        "operator": ">",
        "threshold": 30,
        "value": 20,
        "time": "2026-05-01T10:00:20Z",
        "sequence_id": 103,
        "first_seen": "2026-05-01T10:00:00.500000Z",
        "last_seen": "2026-05-01T10:00:10Z",
        "count": 2,
    }


def test_the_record_for_the_history_has_number_and_position_too() -> None:
    """The history can name a change for ever, and the Kafka record that made it."""
    device = Device(rule())
    device.send(20, 0)
    device.send(31, 1)
    record = device.last.to_record()
    assert (record["number"], record["kafka_partition"], record["kafka_offset"]) == (1, 0, 2)
    assert (record["reason"], record["by"]) == (None, None)
    json.dumps(record)


@pytest.mark.parametrize("payload", [{}, {"t": None}, {"t": True}, {"t": "99"}, {"t": {}}, {"t": [99]}])
def test_what_is_no_number_neither_violates_nor_resolves(payload: dict[str, Any]) -> None:
    """A value that is missing or no number says nothing about its rule."""
    device = Device(rule())
    assert device.send(payload, 0) == []
    device.send(31, 1)
    assert device.send(payload, 2) == []
    assert (device.status, device.entry.violations) == ("ACTIVE", 1)


def test_readings_that_come_again_change_nothing() -> None:
    """Any slice of what was judged can be judged again, at any time, without a word."""
    device = Device(rule())
    for second, value in enumerate([20, 31, 32, 20, 20, 33, 33]):
        device.send(value, second)
    state = device.state
    for first in range(7):
        for end in range(first, 8):
            assert device.judge(*device.sent[first:end]) == []
    assert device.state == state


def test_the_same_run_gives_the_same_ids() -> None:
    """An alert's id comes from what triggered it, so a lost state announces no second alert."""
    first, second = Device(rule()), Device(rule())
    for device in (first, second):
        device.send(31, 0)
        device.send(20, 1)
    assert first.changes == second.changes


def test_ids_differ_by_rule_and_by_position() -> None:
    """Two rules of one reading, or one rule at two readings, are different alerts."""
    device = Device(rule(), rule(id="hotter", threshold=40))
    device.send(50, 0)
    device.send(20, 1)
    device.send(50, 2)
    assert len({change.alert_id for change in device.changes}) == 4


def test_a_rule_with_a_time_waits_for_it_by_the_readings_times() -> None:
    """It triggers once it is violated for `for_seconds`, and counts every reading of that time."""
    device = Device(rule(for_seconds=60))
    assert device.send(31, at=500, time=0) == []
    assert device.status == "PENDING"
    assert device.send(32, at=501, time=59.9) == []
    assert device.send(33, at=502, time=60) == ["TRIGGERED"]
    assert (device.last.count, device.last.value) == (3, 33)
    assert device.last.first_seen == device.sent[0].time


def test_a_violation_that_ends_in_time_is_never_told() -> None:
    """A value in order starts the waiting again."""
    device = Device(rule(for_seconds=60))
    assert [device.send(value, at) for value, at in [(31, 0), (20, 59), (31, 60), (31, 119)]] == [[]] * 4
    assert device.send(31, 120) == ["TRIGGERED"]


def test_a_violation_that_ended_in_time_is_not_waited_for_again() -> None:
    """Its first reading, coming again, begins nothing, though nobody was notified of it."""
    device = Device(rule(for_seconds=60))
    device.send(31, 0)
    device.send(20, 1)
    device.state = DeviceState.unpack("u", "d", device.state.pack())
    device.judge(device.sent[0])
    assert device.status == "OK"


def test_a_missing_value_does_not_interrupt_the_waiting() -> None:
    """Neither violating nor resolving holds while a rule waits, too."""
    device = Device(rule(for_seconds=60))
    device.send(31, 0)
    device.send({}, 30)
    assert device.send(31, 60) == ["TRIGGERED"]


@pytest.mark.parametrize(
    ("operator", "trigger", "between", "beyond"),
    [(">", 31, 26, 25), (">=", 30, 25, 24.9), ("<", 9, 14, 15), ("<=", 10, 15, 15.1)],
)
def test_hysteresis(operator: str, trigger: float, between: float, beyond: float) -> None:
    """An alert ends once the value would not violate its rule with clear_threshold for a threshold."""
    threshold, clear = (30, 25) if ">" in operator else (10, 15)
    device = Device(rule(operator, threshold, clear_threshold=clear))
    assert device.send(trigger, 0) == ["TRIGGERED"]
    assert device.send(between, 1) == []
    assert device.send(beyond, 2) == ["RESOLVED"]
    assert device.send(between, 3) == []


def test_hysteresis_counts_only_violations() -> None:
    """Between the thresholds an alert goes on, but nothing violates the rule."""
    device = Device(rule(clear_threshold=25))
    for second, value in enumerate([31, 28, 32, 28, 24]):
        device.send(value, second)
    assert device.last.count == 2
    assert device.last.last_seen == device.sent[2].time


def test_a_late_reading_is_judged_by_no_rule() -> None:
    """A reading older than the latest judged neither ends an alert, nor counts, nor triggers one."""
    device = Device(rule())
    device.send(31, 100)
    assert device.send(20, at=101, time=90) == []
    device.send(32, at=102, time=95)
    assert device.entry.violations == 1
    assert device.send(20, 103) == ["RESOLVED"]
    assert device.send(31, at=104, time=102) == []
    assert device.send(31, at=105, time=103) == ["TRIGGERED"]


def test_a_clock_set_back_does_not_silence_a_device() -> None:
    """Once the last reading with the old clock is ten minutes old, what the new clock says counts."""
    device = Device(rule())
    device.send(31, 0)
    assert device.send(20, at=590, time=-1e9) == []
    assert device.send(20, at=610, time=-1e9) == ["RESOLVED"]
    assert device.send(31, at=611, time=-1e9 + 1) == ["TRIGGERED"]


def test_a_clock_that_is_wrong_all_along_is_in_order_by_itself() -> None:
    """Late is what is older than another reading, in whatever year the device lives."""
    device = Device(rule())
    device.send(31, at=0, time=-1e9)
    assert device.send(20, at=1, time=-1e9 - 7200) == []
    assert device.send(20, at=2, time=-1e9 + 2) == ["RESOLVED"]


def test_an_older_reading_does_not_speak_for_a_quiet_device() -> None:
    """Also where nothing of the newer one was worth remembering."""
    device = Device(rule())
    assert device.send(20, 0) == []
    assert device.send(31, at=1, time=-60) == []
    assert device.send(31, 2) == ["TRIGGERED"]


def test_equal_times_are_judged_in_the_order_in_which_they_came() -> None:
    """A clock of whole seconds makes no reading late."""
    device = Device(rule())
    device.send(20, at=1, time=0)
    assert device.send(31, at=1.1, time=0) == ["TRIGGERED"]
    assert device.send(20, at=1.2, time=0) == ["RESOLVED"]


@pytest.mark.parametrize("time", [0, 600])
def test_a_reading_with_the_key_of_another_is_not_judged(time: float) -> None:
    """It gets no row of its own, so it raises no alert either; nor if its clock is ahead."""
    device = Device(rule())
    device.send(20, at=1, time=time, key=7)
    assert device.send(31, at=2, time=time, key=7) == []
    assert device.send(31, at=3, time=time, key=8) == ["TRIGGERED"]


def test_a_backlog_of_months_is_judged() -> None:
    """Readings in their order count however old they are."""
    device = Device(rule(for_seconds=60))
    months = 90 * 86_400
    told = [device.send(31 if 10 <= n < 20 else 20, at=n / 1000, time=60 * n - months) for n in range(40)]
    assert [(n, *what) for n, what in enumerate(told) if what] == [(11, "TRIGGERED"), (20, "RESOLVED")]
    device.send(31, at=1, time=0)
    assert device.send(20, at=2, time=-months) == []


def test_a_violation_does_not_last_since_1970() -> None:
    """When the clock is set, the waiting starts again."""
    device = Device(rule(for_seconds=60))
    device.send(31, at=0, time=3 - START)
    assert device.send(31, 1) == []
    assert device.send(31, 59) == []
    assert device.send(31, 61) == ["TRIGGERED"]


def test_a_clock_that_is_set_between_two_violations_starts_the_waiting_again() -> None:
    """Though the reading that shows it says nothing about the rule."""
    device = Device(rule(for_seconds=60))
    device.send(31, at=0, time=3 - START)
    device.send({}, 1)
    assert device.send(31, 2) == []


def test_a_time_ahead_counts_as_the_arrival() -> None:
    """A clock that was set back by a minute resolves the alert with the next reading."""
    device = Device(rule())
    assert device.send(31, at=0, time=60) == ["TRIGGERED"]
    assert device.last.first_seen == EPOCH + timedelta(seconds=START)
    assert device.send(20, 9) == ["RESOLVED"]


def test_what_a_gateways_wrong_clock_stamps_silences_nobody() -> None:
    """A record stamped a year ahead makes none of the next ones late, wherever their time comes from."""
    for own in (-1, 0):
        device = Device(rule())
        device.send(31, at=3e7)
        assert device.send(20, at=1, time=1 + own) == ["RESOLVED"]


@pytest.mark.parametrize("behind", [0, 10, 3600])
@pytest.mark.parametrize("outage", [1, 5000])
def test_what_a_gateway_did_not_acknowledge_is_judged_once(behind: int, outage: int) -> None:
    """However far its clock was behind, and however long it takes until another gets it again."""
    device = Device(rule())
    values = [31 if number % 20 < 10 else 20 for number in range(100)]
    for number, value in enumerate(values):
        own = 6000 + number / 5
        # The gateway before it had the right clock.
        device.send(value, at=own if number < 30 else own - behind, time=own, key=number)
    told = len(device.changes)
    for number, value in enumerate([*values, 31]):
        own = 6000 + number / 5
        again = device.reading({"t": value}, 6020 + outage, own, key=number, redelivered=number < 100)
        device.judge(again)
    assert [change.status for change in device.changes[told:]] == ["TRIGGERED"]


def test_what_is_redelivered_and_was_never_judged_is_judged() -> None:
    """A gateway may end before Kafka has what it took."""
    device = Device(rule())
    device.send(20, at=-10, time=0)
    for number in range(1, 4):
        device.judge(device.reading({"t": 31 * (number % 2)}, at=20, time=number, redelivered=True))
    assert [change.status for change in device.changes] == ["TRIGGERED", "RESOLVED", "TRIGGERED"]


def test_a_time_in_the_far_future_does_not_silence_what_is_redelivered() -> None:
    """More than a day ahead is the device's own fault, and not a gateway's clock."""
    device = Device(rule())
    device.send(20, at=0, time=2.3e9)
    assert device.judge(device.reading({"t": 31}, at=20, time=1, redelivered=True)) == ["TRIGGERED"]


def test_a_clock_set_back_leaves_last_seen_where_it_was() -> None:
    """An alert is never seen last before it was seen first."""
    device = Device(rule())
    device.send(31, 0)
    device.send(31, at=700, time=-1e9)
    assert (device.entry.last_seen, device.entry.violations) == (device.entry.first_seen, 2)


def test_one_time_in_the_far_future_does_not_silence_a_device() -> None:
    """A reading from the year 2099 makes none of the next ones late."""
    device = Device(rule())
    device.send(31, at=0, time=2.3e9)
    assert device.send(20, 1) == ["RESOLVED"]


def test_a_clock_set_back_starts_the_waiting_anew() -> None:
    """A rule never waits since a time that is yet to come."""
    device = Device(rule(for_seconds=60))
    device.send(31, 5000)
    device.send(31, at=6000, time=0)
    assert device.send(31, at=6060, time=60) == ["TRIGGERED"]


def test_a_reading_from_another_partition_has_a_position_of_its_own() -> None:
    """After the number of partitions changed, offsets start small again, and both sides are remembered."""
    device = Device(rule())
    device.offset = 1000
    device.send(31, 0)
    device.offset = 0
    moved = device.reading({"t": 20}, at=1, partition=7)
    assert device.judge(moved) == ["RESOLVED"]
    assert device.judge(device.sent[0], moved) == []


def test_a_device_that_is_in_order_costs_nothing() -> None:
    """Nothing is kept of a device whose rules were never violated."""
    device = Device(rule())
    device.send(20, 0)
    assert device.state.pack() == b""


def test_a_huge_integer_is_told_as_it_came() -> None:
    """JSON knows integers of any size."""
    device = Device(rule())
    device.send(10**30, 0)
    assert json.loads(device.last.to_json())["value"] == 10**30


def test_readings_in_a_row_go_on_where_a_clock_was_set_back() -> None:
    """Time is not counted across such a change, also one of the gateway, but readings are."""
    device = Device(rule(for_readings=3))
    device.send(31, 5000)
    device.send(31, 5001)
    assert device.send(31, at=1402, time=5002) == ["TRIGGERED"]
