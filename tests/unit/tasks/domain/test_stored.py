"""Stored rows become the payloads that they came from."""

from datetime import UTC, datetime
from decimal import Decimal

from tasks.domain.stored import payload_of
from tasks.telemetry import DOMAIN


def test_a_row_is_the_payload_that_it_came_from() -> None:
    """What the topic said and what was not sent is not in it; a number is a number."""
    row = {
        "time": datetime(2026, 5, 1, tzinfo=UTC),
        "user_id": "u",
        "device_id": "d",
        "sequence_id": 7,
        "temperature": Decimal("20.5"),
        "battery": None,
        "extra_data": {"leak": True, "battery_v": 3.1},
    }
    assert payload_of(DOMAIN, row) == {"sequence_id": 7, "temperature": 20.5, "leak": True, "battery_v": 3.1}


def test_a_value_that_moved_to_the_extras_has_its_old_name() -> None:
    """A rehearsal of rules finds the battery in its column and, if it has a fraction, in the extras."""
    row = {"time": datetime(2026, 5, 1, tzinfo=UTC), "user_id": "u", "device_id": "d", "sequence_id": 7}
    moved = {**row, "temperature": None, "battery": None, "extra_data": {"battery": 85.5}}
    kept = {**row, "temperature": None, "battery": 85, "extra_data": None}
    assert payload_of(DOMAIN, moved) == {"sequence_id": 7, "battery": 85.5}
    assert payload_of(DOMAIN, kept) == {"sequence_id": 7, "battery": 85}
