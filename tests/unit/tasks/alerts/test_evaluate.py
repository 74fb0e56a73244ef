"""The evaluation's loop over a device's readings: quicker than the machine alone, and never different."""

from datetime import UTC, datetime
from typing import Any
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from tasks.alerts.budget import Budget
from tasks.alerts.stepping import Stepping, check_readings, observation
from tasks.batch.messages import REDELIVERED, Message
from tasks.domain.domain import Source
from tasks.domain.payload import Limits
from tasks.rows.validate import Received
from tasks.rules import machine
from tasks.rules.change import Change
from tasks.rules.order import Newest, later
from tasks.rules.parsing import parse_rules
from tasks.rules.state import DeviceState
from tasks.telemetry import DOMAIN
from tests.payloads import written
from tests.stepping import step_all

TOPIC = "users/u/devices/d/telemetry"
SOURCE = Source("u", "d")
AT_MS = 1_777_629_600_000
RULES = parse_rules(
    [
        {"id": "hot", "key": "heat", "operator": ">", "threshold": 2, "clear_threshold": 1, "message": "m"},
        {"id": "slow", "key": "heat", "operator": "<", "threshold": 1, "for_seconds": 20, "message": "m"},
        {"id": "gone", "operator": "absent", "for_seconds": 60, "message": "m"},
    ]
)
VALUES = st.sampled_from([0, 1, 2, 3, 1.5, None, "3", True])


def judged(number: int, second: int, value: Any, gateway: int = 0) -> Received:
    """A reading of the device, which comes in the second of its number, give or take its clock's fault.

    The clock of the gateway is wrong by so many seconds.
    """
    time = datetime.fromtimestamp(AT_MS // 1000 + second, UTC).isoformat()
    payload = written({"sequence_id": number, "time": time, "heat": value})
    arrival = AT_MS + 1000 * (number + 25 + gateway)
    message = Message(0, number, arrival, TOPIC, "", 0, payload)
    return Received(message, DOMAIN.validate(TOPIC, payload, 0, Limits()))


# As many as there are keys remembered: of more, only the last count where clocks are ahead.
READINGS = st.lists(st.tuples(st.integers(0, 59), VALUES), min_size=1, max_size=8)


@given(READINGS, st.lists(st.integers(1, 7)))
def test_what_is_passed_over_would_have_changed_nothing(
    readings: list[tuple[int, Any]], cuts: list[int]
) -> None:
    """State, changes and newest reading are the machine's own, in one part or in several, and again."""
    all_judged = [judged(number, second, value) for number, (second, value) in enumerate(readings)]
    start = DeviceState("u", "d")
    wanted, changes = step_all(start, RULES, [observation(DOMAIN, one, {}) for one in all_judged])
    ends = sorted({*cuts, len(all_judged)})
    for parts in ([all_judged], [all_judged[a:b] for a, b in zip([0, *ends], ends, strict=False)]):
        state = start
        told: list[Change] = []
        newest: dict[Source, Newest] = {}
        for part in filter(None, parts):
            checked = {SOURCE: check_readings(DOMAIN, RULES, part)}
            for _ in range(2):
                quiet: dict[Source, Newest] = {}
                after, more = Stepping(DOMAIN, checked, newest, quiet, Budget(1 << 30)).step(state)
            state, told = after, [*told, *more]
            newest |= quiet
        assert told == changes
        assert state.same_but_newest(wanted)
        assert later(state.newest, newest.get(SOURCE)) == wanted.newest


@given(st.lists(st.tuples(st.integers(0, 59), VALUES, st.booleans()), min_size=1, max_size=4))
def test_a_device_passes_without_a_state_only_where_a_step_would_give_it_none(
    readings: list[tuple[int, Any, bool]],
) -> None:
    """What is noted of its newest reading is the same, too, whatever was noted before."""
    known: dict[Source, Newest] = {}
    nothing = DeviceState("u", "d")
    for number, (second, value, again) in enumerate(readings):
        one = judged(number, second, value)
        if again:
            one = one._replace(message=one.message._replace(replay=REDELIVERED))
        checked = {SOURCE: check_readings(DOMAIN, RULES, [one])}
        passed: dict[Source, Newest] = {}
        stepped: dict[Source, Newest] = {}
        passes = Stepping(DOMAIN, checked, known, passed, Budget(1 << 30)).passes(SOURCE)
        after, changes = Stepping(DOMAIN, checked, known, stepped, Budget(1 << 30)).step(nothing)
        violates = machine.violates(RULES, one.reading.payload, {})
        assert passes is not (again or violates)
        if passes:
            assert after is nothing
            assert changes == ()
            assert passed == stepped
        else:
            assert passed == {}
        known |= stepped


@given(
    st.lists(
        st.tuples(st.sampled_from([0, 1, 1, 1, 2, 45, -45, -700]), st.sampled_from([1, 1, 1, 1, 0, 3])),
        min_size=1,
        max_size=40,
    ),
    st.sets(st.integers(0, 40), max_size=4),
    st.sets(st.integers(0, 40), max_size=2),
)
def test_a_part_with_a_violation_is_exactly_the_machines_however_long_it_is(
    steps: list[tuple[int, int]], redelivered: set[int], repeated: set[int]
) -> None:
    """Readings that violate nothing are passed over between violations, and only where that shows nowhere."""
    second, part = 30, [judged(0, 30, 3)]
    for number, (by, value) in enumerate(steps, 1):
        second = max(0, second + by)
        one = judged(number, second, value)
        if number in redelivered:
            one = one._replace(message=one.message._replace(replay=REDELIVERED))
        part.append(one)
        if number in repeated:
            part.append(part[len(part) // 2])
    start = DeviceState("u", "d")
    wanted, changes = step_all(start, RULES, [observation(DOMAIN, one, {}) for one in part])
    checked = {SOURCE: check_readings(DOMAIN, RULES, part)}
    after, told = Stepping(DOMAIN, checked, {}, {}, Budget(1 << 30)).step(start)
    assert after == wanted
    assert list(told) == changes


def test_the_machine_steps_only_through_what_a_violation_concerns() -> None:
    """Of a hundred readings with one violation the machine judges that one, and the one that ends it."""
    part = [judged(number, number, 3 if number == 50 else 1) for number in range(100)]
    checked = {SOURCE: check_readings(DOMAIN, RULES, part)}
    with mock.patch("tasks.alerts.stepping.machine.step", wraps=machine.step) as step:
        _, told = Stepping(DOMAIN, checked, {}, {}, Budget(1 << 30)).step(DeviceState("u", "d"))
    assert [change.status for change in told] == ["TRIGGERED", "RESOLVED"]
    assert step.call_count == 2


def test_what_a_gateway_with_a_wrong_clock_had_and_the_next_one_gets_again_changes_nothing() -> None:
    """Quiet readings from before that clock was wrong have later arrivals than what came after them."""
    state = DeviceState("u", "d")
    noted: dict[Source, Newest] = {}
    told: list[str] = []
    wrong = [judged(1, 2, 5, -3600), judged(2, 3, 1, -3600)]
    again = [
        one._replace(
            message=one.message._replace(offset=7 + n, timestamp_ms=AT_MS + 9000, replay=REDELIVERED)
        )
        for n, one in enumerate(wrong)
    ]
    for part in ([judged(0, 1, 1.5)], wrong, again):
        # Notes of another time of day are looked for only where messages come again.
        newest = noted if part is again else {}
        quiet: dict[Source, Newest] = {}
        checked = {SOURCE: check_readings(DOMAIN, RULES, part)}
        stepping = Stepping(*(DOMAIN, checked, newest, quiet, Budget(1 << 30)), known_again=newest)
        state, changes = stepping.step(state)
        noted |= quiet
        told += [change.status for change in changes]
    assert told == ["TRIGGERED", "RESOLVED"]
