"""No storm of ours: what could not be heard, was lost or is away makes nobody absent."""

import time
from typing import Any

import psycopg
import pytest
from confluent_kafka import KafkaError, KafkaException

from compose.local.stack import Stack
from tasks import clock
from tasks.alerts import silence
from tasks.alerts.silence import Heard
from tasks.batch import marks
from tasks.domain.domain import AnyDomain
from tasks.servers import backoff
from tasks.servers.redis_client import CLOCK, LAST_SEEN, LAST_SEEN_READY, client
from tests.integration.clock_user import SILENT, Ear, User, ear, fresh_clock, user
from tests.integration.fleet import wait_until

__all__ = ["ear", "fresh_clock", "user"]

pytestmark = pytest.mark.usefixtures("in_process", "fresh_clock")


def test_after_an_outage_of_ours_there_is_no_storm(user: User, ear: Ear) -> None:
    """Nobody is missed for what could not arrive, or was not judged yet; who stays silent is, later."""
    user.rule(SILENT)
    for number in range(50):
        user.send(f"d{number}", -300)
    ear.since_s = None
    clock.tick()
    ear.since_s = -30
    clock.tick()
    ear.since_s, ear.until_s = -86_400, -290
    clock.tick()
    assert user.told() == []
    ear.since_s, ear.until_s = -86_400, 0
    for number in range(1, 50):
        user.send(f"d{number}", -5)
    clock.tick()
    assert user.told() == [("d0", "TRIGGERED")]


@pytest.mark.usefixtures("ear")
def test_lost_times_make_no_false_absence_and_end_none(user: User) -> None:
    """Stored devices count from now on; the published absence of a device that is still silent stays."""
    user.rule(SILENT)
    user.send("gone", -100)
    clock.tick()
    assert user.told() == [("gone", "TRIGGERED")]
    for device, age in [("d1", 500), ("d1", 400), ("d2", 100), ("gone", 100)]:
        user.database.execute(
            "INSERT INTO raw_telemetry (time, user_id, device_id, sequence_id)"
            " VALUES (now() - make_interval(secs => %s), %s, %s, 1)",
            [age, user.id, device],
        )
    client().delete(LAST_SEEN, LAST_SEEN_READY, CLOCK)
    clock.tick()
    clock.tick()
    assert user.told() == [("gone", "TRIGGERED")]
    seen: Any = client().zmscore(LAST_SEEN, [f"{user.id}/d1", f"{user.id}/d2"])
    assert min(seen) >= (time.time() - 60) * 1000
    user.send("gone", 0)
    assert user.told() == [("gone", "TRIGGERED"), ("gone", "RESOLVED")]


@pytest.mark.usefixtures("ear")
def test_without_the_database_silence_is_still_told(stack: Stack, user: User) -> None:
    """The rules that the worker knows are enough; snoozes wait."""
    user.rule(SILENT)
    user.send("d", -50)
    clock.tick()
    stack.stop("postgres")
    try:
        client().zadd(LAST_SEEN, {f"{user.id}/d": (time.time() - 100) * 1000})
        client().hset(CLOCK, "full_ms", 0)
        clock.tick()
        assert marks.database_fails()
        assert not backoff.rests("clock:absences")
    finally:
        stack.start("postgres")
    user.database = psycopg.connect(stack.env["DATABASE_DIRECT_URL"], autocommit=True)
    assert user.told() == [("d", "TRIGGERED")]


def test_a_kafka_that_is_away_makes_the_clock_wait(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is not known what came, and nobody is missed; the snoozes are not held up."""

    def away(_now_ms: int, _domain: AnyDomain) -> Heard | None:
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    monkeypatch.setattr(silence, "heard", away)
    user.rule(SILENT)
    user.send("d", -100)
    clock.tick()
    assert backoff.rests("clock:absences")
    assert not backoff.rests("clock:snoozes")
    assert user.told() == []


@pytest.mark.usefixtures("ear")
def test_a_record_stamped_in_the_future_counts_as_heard_now(user: User) -> None:
    """A device whose last record a wrong clock stamped a year ahead is missed like any other."""
    user.rule({**SILENT, "for_seconds": 2})
    user.send("d", 365 * 86_400)
    clock.tick()
    assert user.told() == []
    wait_until(lambda: clock.tick() or user.told() == [("d", "TRIGGERED")], 30, "the absence")


def test_what_is_gone_for_good_is_forgotten_without_any_rule(user: User) -> None:
    """A device that was heard more than a month ago is none whose silence anybody waits for."""
    user.send("old", -32 * 86_400)
    user.send("new", 0)
    clock.tick()
    assert client().zscore(LAST_SEEN, f"{user.id}/old") is None
    assert client().zscore(LAST_SEEN, f"{user.id}/new") is not None
