"""How an attempt to send to a channel ended. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sent:
    """The other side has confirmed it."""


@dataclass(frozen=True, slots=True)
class Later:
    """*Not now*: the other side is away, slow or busy. `rest_s` is for how long it asked to be left alone."""

    why: str
    rest_s: float | None = None


@dataclass(frozen=True, slots=True)
class Never:
    """*Never*: this message, or this channel as it is set, cannot succeed."""

    why: str


Outcome = Sent | Later | Never
