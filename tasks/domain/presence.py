"""A topic whose messages say whether a device is there: its availability, or its last will. Pure."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from tasks.domain.codecs import decode
from tasks.domain.payload import Limits, Refused
from tasks.text.paths import MISSING, steps, walk
from tasks.text.wording import describe


@dataclass(frozen=True)
class Presence:
    """The topic, by a template that names the source, and the words for either state, in any case.

    `path` is where the word is in a payload of JSON; by default the whole payload is the word. Raises
    `TypeError` for a word of both states, and for a state without one.
    """

    topic: str
    path: str = ""
    online: frozenset[str] = frozenset({"online", "connected", "true", "1"})
    offline: frozenset[str] = frozenset({"offline", "disconnected", "lost", "false", "0"})

    def __post_init__(self) -> None:
        for name in ("online", "offline"):
            words = frozenset(word.strip().lower() for word in getattr(self, name))
            if not words:
                raise TypeError(f"the presence of {self.topic} needs a word for {name}")
            object.__setattr__(self, name, words)
        if both := sorted(self.online & self.offline):
            raise TypeError(f"the presence of {self.topic} has the word {both[0]!r} for both states")

    def read(self, payload: bytes, limits: Limits) -> bool | None:
        """Whether the device is there; None for an empty payload, which says nothing. Raises `Refused`."""
        if not payload.strip():
            return None
        value: Any = decode(payload, ("json" if self.path else "text",), limits)
        if self.path:
            value = walk(value, steps(self.path) or (self.path,))
        word = str(value).strip().strip('"').lower()
        if word in self.online:
            return True
        if word in self.offline:
            return False
        where = f"`{self.path}`" if self.path else "the payload"
        words = ", ".join(sorted(self.online | self.offline))
        came = "is missing" if value is MISSING else f"is {describe(value)}"
        raise Refused("InvalidField", f"{where} {came}, but whether the device is there is one of {words}")


class Said(NamedTuple):
    """A message's statement about a device, and when the message arrived (milliseconds since 1970)."""

    user_id: str
    device_id: str
    online: bool
    at_ms: int
