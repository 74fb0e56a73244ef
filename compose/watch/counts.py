"""Totals of Kafka and Redis while the live view looks, counted from the same moment."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from compose.watch.polling import Meter
from compose.watch.screen import Count
from ingest.admin.servers.flow import Flow

NAMES = ("messages in", "rows stored", "dead letters", "duplicates")


@dataclass
class Counts:
    """Counts from the first moment in which both servers have been read.

    Their totals cannot stand beside each other: Kafka's are those since its topics were made, those in Redis
    begin at zero whenever it starts empty.
    """

    waited: int | None = None
    """Messages that waited in Kafka when that began: their rows are stored, and they did not come in."""
    _meters: dict[str, Meter] = field(default_factory=dict)
    _both: bool = False

    def note(self, flow: Flow | None, counted: Mapping[str, int] | None, now: float) -> None:
        """The totals read last; None from a server that was never read."""
        if not self._both and flow is not None and counted is not None:
            self._both, self.waited = True, flow.lag
            self._meters.clear()
        totals: dict[str, int] = {}
        if flow is not None:
            totals |= {"messages in": flow.records, "dead letters": flow.dead_letters}
        if counted is not None:
            totals |= {"rows stored": counted.get("stored", 0), "duplicates": counted.get("duplicate", 0)}
        for name, total in totals.items():
            self._meters.setdefault(name, Meter()).note(total, now)

    def count(self, name: str) -> Count:
        """One of `NAMES`: how much it has grown, and how fast."""
        meter = self._meters.get(name)
        return Count(None) if meter is None else Count(meter.grown, meter.per_second)

    def grown(self) -> dict[str, int | None]:
        """All of them."""
        return {name: self.count(name).total for name in NAMES}
