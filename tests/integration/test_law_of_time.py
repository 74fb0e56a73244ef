"""The readings that are judged when they come in parts, and little is remembered between the parts."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tasks.alerts.evaluate import evaluate
from tasks.batch.messages import REDELIVERED, Message
from tasks.domain.payload import Limits
from tasks.rows.validate import Received
from tasks.servers.rules_version import announce_change
from tasks.telemetry import DOMAIN
from tests.integration.rule_tables import write
from tests.payloads import written

pytestmark = pytest.mark.usefixtures("in_process")

NOW = datetime.now(UTC).replace(microsecond=0)
WARM = {"key": "temperature", "operator": ">", "threshold": 8, "message": "warm"}


class Sender:
    """A device of a user with one rule; each call is a part of its own."""

    def __init__(self, database: psycopg.Connection[tuple[Any, ...]], rule: dict[str, Any]) -> None:
        self.user = uuid4().hex[:8]
        self.offset = 0
        write(database, self.user, [rule])
        announce_change()

    def part(self, *readings: tuple[int, float, float], at: float = 0, replay: str = "") -> list[str]:
        """Judges readings of sequence_id, seconds from now, and temperature, which come `at` seconds."""
        return self.judge([self.reading(*one, at, replay) for one in readings])

    def reading(
        self, number: int, second: float, temperature: float, at: float, replay: str = ""
    ) -> Received:
        """The next record."""
        self.offset += 1
        topic = f"users/{self.user}/devices/d/telemetry"
        time = (NOW + timedelta(seconds=second)).isoformat()
        payload = written({"sequence_id": number, "time": time, "temperature": temperature})
        arrival = round((NOW.timestamp() + at) * 1000)
        message = Message(0, self.offset, arrival, topic, "", 0, payload, replay)
        return Received(message, DOMAIN.validate(topic, payload, arrival, Limits()))

    def judge(self, readings: list[Received]) -> list[str]:
        """The changes that the user gets."""
        return [change.status for change in evaluate(DOMAIN, readings).changes]


@pytest.fixture
def sender(database: psycopg.Connection[tuple[Any, ...]]) -> Sender:
    """A device that is too warm above 8 degrees."""
    return Sender(database, WARM)


def test_an_older_reading_does_not_speak_for_a_quiet_device(sender: Sender) -> None:
    """Whether it comes in the same part as the newer one or in a later one, or after an alert."""
    assert sender.part((2, 0, 4), (1, -60, 9.5), at=1) == []
    assert sender.part((0, -120, 9.5), at=2) == []
    assert sender.part((3, 3, 9.5), at=3) == ["TRIGGERED"]
    assert sender.part((4, 4, 4), at=4) == ["RESOLVED"]
    assert sender.part((6, 6, 4), at=6) == []
    assert sender.part((5, 5, 9.5), at=7) == []


def test_a_reading_with_the_key_of_a_quiet_one_raises_no_alert(sender: Sender) -> None:
    """The row of the first stays, so the values of the second are nobody's."""
    assert sender.part((1, 0, 4), at=1) == []
    assert sender.part((1, 0, 19), at=2) == []
    assert sender.part((2, 0, 19), at=3) == ["TRIGGERED"]


@pytest.mark.parametrize("behind", [10, 3600])
def test_what_the_broker_delivers_again_is_judged_once(sender: Sender, behind: int) -> None:
    """After a gateway whose clock was suddenly behind, in parts of any length, and of a quiet device."""
    readings = [(number, number / 5, 9.5 if number in {12, 25} else 4) for number in range(40)]
    # The broker had kept those of the time that the gateway needed to start.
    arrivals = [second if number <= 5 else number / 1000 - behind for number, second, _ in readings]
    told = [status for one, at in zip(readings, arrivals, strict=True) for status in sender.part(one, at=at)]
    assert told == ["TRIGGERED", "RESOLVED"] * 2
    for first in range(0, 40, 7):
        assert sender.part(*readings[first : first + 7], at=20, replay=REDELIVERED) == []
    assert sender.part((40, 8, 9.5), at=21, replay=REDELIVERED) == ["TRIGGERED"]


def test_what_the_broker_delivers_again_needs_no_rules(sender: Sender) -> None:
    """Nothing is remembered of the devices of a user without rules, and nothing is looked up."""
    sender.user = uuid4().hex[:8]
    assert sender.part((1, 0, 9.5), at=1) == sender.part((1, 0, 9.5), at=2, replay=REDELIVERED) == []


def test_a_part_that_is_judged_again_is_judged_the_same(sender: Sender) -> None:
    """A part whose worker died after the judging is not late for its own readings, which are remembered."""
    readings = [sender.reading(1, 0, 4, 1), sender.reading(2, 1, 9.5, 2), sender.reading(3, 2, 4, 3)]
    assert sender.judge(readings[:1]) == sender.judge(readings[:1]) == []
    assert sender.judge(readings[1:]) == ["TRIGGERED", "RESOLVED"]
    assert sender.judge(readings) == []


def test_a_clock_set_back_resolves_at_once(sender: Sender) -> None:
    """A minute ahead of its arrival counts as the arrival."""
    assert sender.part((0, 60, 9.5)) == ["TRIGGERED"]
    assert sender.part((1, 9, 4), at=9) == ["RESOLVED"]


def test_a_violation_does_not_last_since_1970(database: psycopg.Connection[tuple[Any, ...]]) -> None:
    """The clock of the device was set: what lasts a minute begins with the first right time."""
    sender = Sender(database, {**WARM, "for_seconds": 60})
    assert sender.part((1, 3 - NOW.timestamp(), 9.5)) == []
    assert sender.part((2, 1, 9.6), at=1) == []
    assert sender.part((3, 60, 9.6), at=60) == []
    assert sender.part((4, 61, 9.6), at=61) == ["TRIGGERED"]


def test_a_backlog_of_months_is_judged_over_many_parts(sender: Sender) -> None:
    """Old readings in their order are not late."""
    months = 90 * 86_400
    told = [sender.part((n, 60 * n - months, 9.5 if 5 <= n < 8 else 4), at=n) for n in range(10)]
    assert [(n, *what) for n, what in enumerate(told) if what] == [(5, "TRIGGERED"), (8, "RESOLVED")]
