"""What `sluice status` prints fits on a screen, and begins with what is wrong."""

from typing import Any

import pytest

from ingest.admin.servers.flow import Flow
from ingest.admin.servers.status import Measured, as_text, problems

WELL: dict[str, Any] = {
    "kafka": {"lag": 12345, "lag_change": -10, "records_per_second": 7.5},
    "pipeline": {"stored": 7},
    "outbox": {"entries": 0, "oldest_seconds": 0.0},
    "letters": {"oldest_unhandled_days": 3.5, "kept_days": 30},
    "alerts": {},
    "rules": {"users": 2, "in_force": 3},
    "breaker": "closed",
    "processes": {"gateway": "", "flower": "flower does not answer at http://127.0.0.1:5555"},
}


def test_what_is_wrong_comes_first_and_each_part_has_its_line() -> None:
    """Figures where there are any, the reason where a server is away, and each process by itself."""
    status = {
        **WELL,
        "pipeline": {"away": "Connection refused"},
        "processes": {"gateway": "", "bridge": "bridge reports: Kafka is away"},
    }
    assert list(as_text({"problems": problems(status), **status})) == [
        "WRONG      Redis does not answer: Connection refused",
        "WRONG      bridge reports: Kafka is away",
        "kafka      lag 12,345   lag change -10   records per second 7.5",
        "pipeline   does not answer: Connection refused",
        "outbox     entries 0   oldest seconds 0.0",
        "letters    oldest unhandled days 3.5   kept days 30",
        "alerts     none",
        "rules      users 2   in force 3",
        "breaker    closed",
        "gateway    ready",
        "bridge     bridge reports: Kafka is away",
    ]


def test_each_of_several_domains_has_its_line_below_all_of_them() -> None:
    """With the age of what has waited longest, where Kafka has reported it."""
    flows = {"telemetry": Flow(100, 1, 10), "parcels": Flow(50, 0, 0)}
    later = {"telemetry": Flow(120, 1, 4), "parcels": Flow(50, 2, 0)}
    measured = Measured(flows, later, 2.0, {"telemetry": 7.5})
    domains = measured.by_domain()
    assert domains["telemetry"] == {
        "lag": 4,
        "lag_change": -6,
        "records_per_second": 10.0,
        "dead_letters_per_second": 0.0,
        "records": 120,
        "dead_letters": 1,
        "oldest_seconds": 7.5,
    }
    assert measured.growth(later) == {
        "lag": 4,
        "lag_change": -6,
        "records_per_second": 10.0,
        "dead_letters_per_second": 1.0,
        "records": 170,
        "dead_letters": 3,
    }
    lines = list(as_text({"problems": [], **WELL, "domains": domains}))
    assert [line.split("   ")[0] for line in lines[2:4]] == ["  telemetry lag 4", "  parcels  lag 0"]


def test_totals_say_since_when_they_count() -> None:
    """Kafka counts from its beginning, Redis from when it was empty: each line of totals says which."""
    kafka = {"records": 50_000, "dead_letters": 45}
    counted = {"received": 7, "stored": 7, "counted_since": "2026-05-01T10:00:00Z"}

    def lines(pipeline: dict[str, Any]) -> list[str]:
        return list(as_text({"problems": [], **WELL, "kafka": kafka, "pipeline": pipeline}))[1:3]

    assert lines(counted) == [
        "kafka      records 50,000   dead letters 45   (both since the topics were made)",
        "pipeline   received 7   stored 7   counted since 2026-05-01T10:00:00Z",
    ]
    assert lines({"stored_per_second": 0.0})[1].endswith("(Redis has counted no batch yet)")


def test_a_backlog_that_shrinks_and_a_missing_flower_are_not_wrong() -> None:
    """Both are normal: after an outage, and where nobody looks at Celery."""
    assert problems(WELL) == []
    assert next(as_text({"problems": [], **WELL})) == "all well"


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("kafka", {"lag": 12345, "lag_change": 10}, "12,345 records wait"),
        ("letters", {"share_high": 1, "kept_days": 30}, "a large share"),
        ("letters", {"oldest_unhandled_days": 23.0, "kept_days": 30}, "within 7.0 days"),
        ("outbox", {"entries": 1, "oldest_seconds": 121.0}, "for 121.0 s"),
        ("rules", {"users": 1, "in_force": 0, "invalid": 2}, "2 stored rules"),
        ("channels", {"waiting": 2, "untaken_seconds": 121.0}, "the queue `notify` must run"),
        ("breaker", "open", "the breaker is open"),
        ("breaker", "half open", "the breaker is half open"),
        ("alerts", {"away": "no route"}, "the database does not answer: no route"),
    ],
)
def test_each_thing_that_is_wrong_is_said(part: str, value: object, said: str) -> None:
    """One sentence, with the command that shows more where there is one."""
    (problem,) = problems({**WELL, part: value})
    assert said in problem


def test_a_server_that_is_away_is_said_once() -> None:
    """Several parts are read from Redis."""
    away = {"away": "refused"}
    assert problems({**WELL, "pipeline": away, "outbox": away}) == ["Redis does not answer: refused"]
