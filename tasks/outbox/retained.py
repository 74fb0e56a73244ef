"""The present state of each alert, as the MQTT broker keeps it for later subscribers. Pure.

It is the notice of the latest change, on a topic of the device and the rule; an empty message clears it.
Publishing a user's changes again, in their order, leaves the right states behind.
"""

from typing import Any, Literal
from urllib.parse import quote

Choice = Literal["off", "on", "clear"]

# Entries of older versions do not say whether the alert is open after them; these statuses do.
_OPEN = {"TRIGGERED": True, "ESCALATED": True, "ACKNOWLEDGED": True, "RESOLVED": False, "DISABLED": False}


def message(change: dict[str, Any], said: bytes, choice: Choice) -> tuple[str, bytes, Literal[True]] | None:
    """The message after a change of the outbox with this notice, if there is one.

    Raises `KeyError` or `TypeError` for a malformed change.
    """
    record = change.get("record")
    if choice == "off" or record is None:
        return None
    is_open = change.get("open", _OPEN.get(record["status"]))
    if is_open is None:
        return None
    return (
        topic(record["user_id"], record["device_id"], record["rule_id"]),
        said * (is_open and choice == "on"),
        True,
    )


def topic(user_id: str, device_id: str, rule_id: str) -> str:
    """Where the state of an alert is; the names of the device and the rule are percent-encoded."""
    return f"users/{user_id}/alerts/state/{quote(device_id, safe='')}/{quote(rule_id, safe='')}"
