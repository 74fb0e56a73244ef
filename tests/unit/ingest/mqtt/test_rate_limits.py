"""A user's devices may send so much a second, and more at once after a pause; nobody else notices."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.mqtt.rate_limits import LEAST_SWEPT, RateLimit, UserLimits
from tasks.domain.payload import Refused
from tasks.settings import Settings


class Clock:
    """A time that stands until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


@given(
    st.integers(1, 50),
    st.integers(1, 30),
    st.lists(st.tuples(st.floats(0, 20), st.integers(1, 300)), max_size=60),
)
def test_never_more_than_the_burst_and_what_has_flowed_in(
    rate: int, burst: int, sends: list[tuple[float, int]]
) -> None:
    """In any stretch of time at most the burst passes, and the rate times its length."""
    clock = Clock()
    limit = RateLimit(rate, burst, clock)
    passed: list[tuple[float, int]] = []
    for pause, amount in sends:
        clock.now += pause
        if amount <= rate * burst and limit.take("u", amount):
            passed.append((clock.now, amount))
    for begin in range(len(passed)):
        total = 0
        for at, amount in passed[begin:]:
            total += amount
            assert total <= rate * (burst + at - passed[begin][0]) + 0.01


@given(st.integers(1, 50), st.integers(1, 30), st.lists(st.floats(0, 5), max_size=100))
def test_who_keeps_to_the_rate_is_never_refused(rate: int, burst: int, pauses: list[float]) -> None:
    """Nor is a backlog of as many seconds as the burst has, after as long a silence."""
    clock = Clock()
    limit = RateLimit(rate, burst, clock)
    for pause in pauses:
        clock.now += max(pause, 1 / rate)
        assert limit.take("u")
    clock.now += burst
    assert all(limit.take("u") for _ in range(rate * burst))
    assert not limit.take("u")
    assert limit.take("other")


def test_what_is_larger_than_the_burst_passes_alone() -> None:
    """Or it could never be sent."""
    clock = Clock()
    limit = RateLimit(10, 2, clock)
    assert limit.take("u", 100)
    assert not limit.take("u", 1)
    clock.now += 10
    assert limit.take("u", 100)


def test_memory_is_bounded_by_those_who_sent_lately() -> None:
    """A user whose bucket is full again is forgotten, and those who are limited are not."""
    clock = Clock()
    limit = RateLimit(10, 2, clock)
    assert limit.take("busy", 1000)
    for user in range(20 * LEAST_SWEPT):
        clock.now += 0.001
        limit.take(str(user))
    assert len(limit) <= LEAST_SWEPT
    clock.now = 1090.0
    assert not limit.take("busy", 100)


def test_the_reason_names_the_limit_and_the_setting() -> None:
    """The dead letter says what to change."""
    chosen = Settings(user_messages_per_second=10, user_bytes_per_second=1_048_576, user_burst_seconds=3)
    limits = UserLimits(chosen, Clock())
    for _ in range(30):
        limits.admit("u", 10)
    with pytest.raises(
        Refused, match=r"exceeded 10 messages/s \(USER_MESSAGES_PER_SECOND\), after a burst of 3 s' worth"
    ):
        limits.admit("u", 10)
    limits.admit("v", 3 * 1_048_576)
    with pytest.raises(Refused, match=r"1,048,576 bytes/s \(USER_BYTES_PER_SECOND\)") as refused:
        limits.admit("v", 1000)
    assert refused.value.error_type == "RateLimited"


def test_zero_is_no_limit() -> None:
    """As the settings say."""
    limits = UserLimits(Settings(user_messages_per_second=0, user_bytes_per_second=0), Clock())
    for _ in range(10_000):
        limits.admit("u", 10_000_000)
