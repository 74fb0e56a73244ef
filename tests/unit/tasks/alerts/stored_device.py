"""A device whose memory is where a worker has it: its state in bytes, and the newest reading in hashes."""

import json
from datetime import UTC
from typing import Any
from unittest import mock

from tasks.alerts import newest
from tasks.alerts.budget import Budget
from tasks.alerts.stepping import Stepping, check_readings
from tasks.batch.messages import REDELIVERED, Message
from tasks.domain.domain import Source
from tasks.domain.payload import Limits
from tasks.domain.placement import about, for_device
from tasks.rows.validate import Received
from tasks.rules.machine import Changes, Observation
from tasks.rules.order import Newest
from tasks.rules.rule import NO_RULES
from tasks.rules.state import DeviceState
from tasks.telemetry import DOMAIN
from tests.unit.tasks.rules.device import Device

SOURCE = Source("u", "d")


class Hashes:
    """What `newest` needs of Redis."""

    def __init__(self) -> None:
        self.fields: dict[tuple[str, str], bytes] = {}

    def hmget(self, key: str, fields: list[str]) -> list[bytes | None]:
        """As Redis."""
        return [self.fields.get((key, field)) for field in fields]

    def hset(self, key: str, mapping: dict[str, bytes]) -> None:
        """As Redis."""
        self.fields |= {(key, field): value for field, value in mapping.items()}

    def expire(self, key: str, seconds: int) -> None:
        """Nothing is forgotten."""


def received(reading: Observation, user: str = "u") -> Received:
    """A reading as `validate` hands it on; its key is that of the first that had it."""
    topic = f"users/{user}/devices/d/telemetry"
    time = reading.time.astimezone(UTC).isoformat()
    payload = json.dumps({"sequence_id": reading.key, "time": time, **reading.payload}).encode()
    replay = REDELIVERED if reading.redelivered else ""
    message = Message(reading.partition, reading.offset, reading.timestamp_ms, topic, "", 0, payload, replay)
    return Received(message, DOMAIN.validate(topic, payload, reading.timestamp_ms, Limits()))


class StoredDevice(Device):
    """A device that a worker judges: between its parts there is nothing but what Redis has."""

    def __init__(self, *rules: dict[str, Any]) -> None:
        self.hashes = Hashes()
        self.packed = b""
        super().__init__(*rules)

    @property
    def state(self) -> DeviceState:
        """The stored state."""
        return DeviceState.unpack("u", "d", self.packed)

    @state.setter
    def state(self, state: DeviceState) -> None:
        self.packed = state.pack()

    def judge(self, *readings: Observation) -> list[str]:
        """As `evaluate` does with a part."""
        rules = about(DOMAIN, self.rules)
        if not readings or rules == NO_RULES:
            return []
        records = [received(reading) for reading in readings]
        checked = {SOURCE: check_readings(DOMAIN, for_device(DOMAIN, rules, "d"), records)}
        quiet: dict[Source, Newest] = {}
        at_ms = {SOURCE: readings[0].timestamp_ms}
        with mock.patch.object(newest, "client", return_value=self.hashes):
            known: dict[Source, Newest] = {}
            known_again: dict[Source, Newest] = {}
            if rules.judges_readings:
                if any(one.redelivered for one in readings):
                    known_again = newest.recall_any(DOMAIN, at_ms)
                known = known_again | newest.recall(DOMAIN, at_ms)
            stepping = Stepping(DOMAIN, checked, known, quiet, Budget(10**9), known_again=known_again)
            changes: Changes = ()
            if self.packed or not stepping.passes(SOURCE):
                before = self.state
                after, changes = stepping.step(before)
                if after is not before:
                    self.state = after
            newest.note(self.hashes, DOMAIN, quiet, {SOURCE: readings[-1].timestamp_ms})  # type: ignore[arg-type]
        return self._tell(changes)
