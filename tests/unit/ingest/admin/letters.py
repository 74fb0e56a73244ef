"""Dead letters for tests."""

from datetime import UTC, datetime, timedelta
from typing import Any

from tasks.dead_letters.letter import Letter, LetterId

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


def letter(number: int, payload: bytes = b"[]", **others: Any) -> Letter:
    """A letter of one second after the one before."""
    one = Letter(
        LetterId(f"telemetry/0/{number}", 0), "users/ada/devices/d/telemetry", "NotAnObject", "it is a list",
        NOW + timedelta(seconds=number), payload, False, 1, "", 0, number, 0, 0, number,
    )  # fmt: skip
    return one._replace(**others)
