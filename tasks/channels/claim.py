"""One attempt to send one change to one channel: what the senders get. Pure."""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery under a lease. `attempts` counts this one; `failures` are those of the channel in a row.

    `notice` is the change as it is published over MQTT; None if the history has it no longer. `repr` shows
    neither target nor secret.
    """

    delivery: int
    channel: int
    user_id: str
    name: str
    kind: str
    target: str = field(repr=False)
    secret: str = field(repr=False)
    template: str | None
    attempts: int
    failures: int
    notice: dict[str, Any] | None

    @property
    def key(self) -> str:
        """The idempotency key, ASCII without a space: the same whenever this change is sent again."""
        notice = self.notice or {}
        key = f"{notice.get('alert_id')}/{notice.get('status')}"
        # The severity of an alert may rise more than once.
        if notice.get("status") != "ESCALATED":
            return key
        return f"{key}/{quote(str(notice.get('severity')), safe='')}"
