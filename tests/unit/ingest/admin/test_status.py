"""What `sluice status` prints fits on a screen and says of each part how it is."""

from ingest.admin.status import as_text

STATUS = {
    "kafka": {"lag": 12345, "records_per_second": 7.5},
    "pipeline": {"away": "Connection refused"},
    "outbox": {"entries": 0, "oldest_seconds": 0.0},
    "letters": {"oldest_unhandled_days": 3.5, "kept_days": 30},
    "alerts": {},
    "rules": {"users": 2, "in_force": 3, "invalid": 1},
    "breaker": "closed",
    "processes": {"gateway": "", "bridge": "bridge reports: Kafka is away"},
}


def test_each_part_has_its_line() -> None:
    """Figures where there are any, the reason where a server is away, and each process by itself."""
    assert list(as_text(STATUS)) == [
        "kafka      lag 12,345   records per second 7.5",
        "pipeline   does not answer: Connection refused",
        "outbox     entries 0   oldest seconds 0.0",
        "letters    oldest unhandled days 3.5   kept days 30",
        "alerts     none",
        "rules      users 2   in force 3   invalid 1",
        "           which rules are invalid: sluice rules check --stored",
        "breaker    closed",
        "gateway    ready",
        "bridge     bridge reports: Kafka is away",
    ]
