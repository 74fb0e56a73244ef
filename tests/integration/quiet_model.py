"""The messages that a channel gets in nights with windows, written a second time and plainly."""

from dataclasses import dataclass


@dataclass
class Row:
    """A delivery as the plain model has it; `tried` if the channel may have heard of it."""

    device: str
    alert: str
    status: str
    tried: bool = False
    waits: bool = True


class Plain:
    """The messages that a channel gets: at a window's end only those that are still news."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def told(self) -> list[tuple[str, str, str]]:
        """Device, alert and status of all that was told."""
        return [(row.device, row.alert, row.status) for row in self.rows if row.tried]

    def waiting(self) -> list[Row]:
        """The unconfirmed messages, in order."""
        return [row for row in self.rows if row.waits]

    def window_ends(self) -> None:
        """Each device's news: the end of an alert that is known as open, or an open one's newest change."""
        for device in {row.device for row in self.rows}:
            heard = [row for row in self.rows if row.device == device and row.tried]
            known = heard[-1].alert if heard and heard[-1].status != "RESOLVED" else None
            waiting = [row for row in self.waiting() if row.device == device]
            for row in waiting:
                if row.status == "RESOLVED":
                    row.waits = row.tried or row.alert == known
                else:
                    row.waits = row is waiting[-1]

    def deliver(self) -> None:
        """All that waits is told."""
        for row in self.waiting():
            row.tried, row.waits = True, False

    def die(self) -> None:
        """The first is told, which nobody notes."""
        for row in self.waiting()[:1]:
            row.tried = True
