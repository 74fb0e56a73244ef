"""Limits what one user's devices may send in the long run, and how much of it at once."""

import time
from collections.abc import Callable

from tasks.domain.payload import Refused
from tasks.settings import Settings

# Users are forgotten, where that changes nothing, when there are twice as many as after the last time.
LEAST_SWEPT = 1024
# Seconds; sums of fractions are not exact.
TOLERANCE = 1e-6

Clock = Callable[[], float]


class RateLimit:
    """A token bucket for each key: a rate, and a number of seconds' worth of it at once.

    Memory is bounded by the keys whose buckets are not full: a full bucket is not kept.
    """

    def __init__(self, per_second: float, burst_seconds: float, clock: Clock = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = burst_seconds
        self._clock = clock
        # When each bucket will be full again.
        self._full_at: dict[str, float] = {}
        self._sweep_at = LEAST_SWEPT

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: str, amount: float = 1.0) -> bool:
        """Takes from the key's bucket; False, and nothing is taken, when there is not enough in it.

        A full bucket gives any amount.
        """
        now = self._clock()
        if not self._has(key, amount, now):
            return False
        self._full_at[key] = max(self._full_at.get(key, now), now) + amount / self._per_second
        if len(self._full_at) >= self._sweep_at:
            self._full_at = {one: at for one, at in self._full_at.items() if at > now}
            self._sweep_at = max(LEAST_SWEPT, 2 * len(self._full_at))
        return True

    def has(self, key: str, amount: float = 1.0) -> bool:
        """Whether the key's bucket has this much in it; takes nothing."""
        return self._has(key, amount, self._clock())

    def _has(self, key: str, amount: float, now: float) -> bool:
        full_at = self._full_at.get(key, now)
        return full_at <= now or full_at + amount / self._per_second - now <= self._burst + TOLERANCE


class UserLimits:
    """Messages and bytes of each user, as the settings allow them."""

    def __init__(self, chosen: Settings, clock: Clock = time.monotonic) -> None:
        burst = chosen.user_burst_seconds
        rates = chosen.user_messages_per_second, chosen.user_bytes_per_second
        self._messages, self._bytes = (RateLimit(rate, burst, clock) if rate else None for rate in rates)
        self._burst = burst
        self._rates = rates

    def admit(self, user_id: str, size: int) -> None:
        """Counts a message of `size` bytes. Raises `Refused` (`RateLimited`) for one beyond a limit."""
        if self._messages is not None and not self._messages.take(user_id):
            raise self._refused(f"{self._rates[0]:,.12g} messages/s (USER_MESSAGES_PER_SECOND)")
        if self._bytes is not None and not self._bytes.take(user_id, size):
            raise self._refused(f"{self._rates[1]:,.12g} bytes/s (USER_BYTES_PER_SECOND)")

    def _refused(self, limit: str) -> Refused:
        reason = f"the user's devices exceeded {limit}, after a burst of {self._burst:,.0f} s' worth of it"
        return Refused("RateLimited", reason)
