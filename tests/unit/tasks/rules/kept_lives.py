"""Lives of a device whose newest reading is kept beside its state, and is known for at least ten minutes."""

from typing import Any

from tests.unit.tasks.rules.as_sent import quoted
from tests.unit.tasks.rules.device import START, Device
from tests.unit.tasks.rules.lives import Life
from tests.unit.tasks.rules.plain_model import PlainModel
from tests.unit.tasks.rules.plain_order import TEN_MINUTES

# A user's readings are judged, and are the newest, only while a rule judges readings.
JUDGES = {"id": "judges", "key": "c", "operator": ">", "threshold": 1, "message": "m"}


class KeptLife(Life):
    """Redelivered readings come within what docs/explanation.md promises to know: soon, by a right clock."""

    def __init__(self, rules: list[dict[str, Any]], device: Device) -> None:
        super().__init__([*rules, JUDGES])
        self.device = device
        self.device.change_rules(*map(quoted, rules), JUDGES)
        self.set_back = 0  # offsets up to here came before the clock was set back

    @property
    def judged(self) -> PlainModel:
        """The model."""
        assert self.model
        return self.model

    def rules(self, rules: list[dict[str, Any]], noticed: bool) -> None:
        """Other rules, of which one judges readings."""
        super().rules([*rules, JUDGES], noticed)

    def repeated(self, seconds: int, back: int, payload: dict[str, Any]) -> None:
        """A new record with the time and key of one that came lately."""
        if back < len(self.device.sent) and self._is_known(len(self.device.sent) - back, self.now + seconds):
            super().repeated(seconds, back, payload)

    def redelivered(self, seconds: int, back: int) -> None:
        """The last records once more, as far as they came lately and were not ahead."""
        sent = len(self.device.sent)
        back = min(back, sent)
        while not all(self._is_known(sent - n, self.now + seconds, ahead=False) for n in range(back)):
            back -= 1
        if back:
            super().redelivered(seconds, back)

    def _is_known(self, number: int, now: int, *, ahead: bool = True) -> bool:
        if number <= self.set_back:
            return False
        record = self.device.sent[number - 1]
        came = record.timestamp_ms / 1000 - START
        return now - came < TEN_MINUTES and (ahead or record.moment.skew <= 0)

    def _send(
        self, time: int, payload: dict[str, Any], key: int | None, *, redelivered: bool = False
    ) -> None:
        before = self.judged.newest
        super()._send(time, payload, key, redelivered=redelivered)
        after = self.judged.newest
        if before and after and after[0] < before[0]:
            self.set_back = len(self.device.sent) - 1
            self.forget(everything=True)
