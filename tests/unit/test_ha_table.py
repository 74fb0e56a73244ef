"""The tables of `make ha` have the lines of their own run, each kind once."""

from typing import Any

from tests.ha.__main__ import table


def figures(*faults: str, problems: tuple[str, ...] = ()) -> dict[str, Any]:
    """A document of troubles, as a run writes it."""
    line = {"test": "test_troubles", "problems": problems, "judged": True, "seconds": 20.0}
    line |= {
        "pause_seconds": 3.0,
        "recovery_seconds": 1.0,
        "notices_repeated": 0,
        "rows": 0,
        "dead_letters": 0,
    }
    line |= {"messages": 100, "alert_changes": 10, "lost": 0, "doubled": 0}
    faulted = [{**line, "fault": fault} for fault in faults]
    return {"cores": 2, "load_average": [1.0, 2.0, 3.0], "seed": 7, "faults": faulted}


def test_a_servers_table_has_its_own_lines_and_numbers_no_kind() -> None:
    """pytest numbers what comes twice; the whole load is told below."""
    document = figures("redis-clock +5 s0", "redis-clock +5 s1", "kafka-disk full", "redis-all of them")
    text = table("redis-troubles", document)
    assert "| clock +5 s | 2 | 20.0 (20.0) | 3.0 (3.0) | 1.0 (1.0) | 200 | 20 | 0 | 0 | kept |" in text
    assert "The whole load once more: 100 messages" in text
    assert "disk full" not in text
    assert "disk full" in table("kafka-troubles", document)


def test_a_promise_that_was_not_kept_shows() -> None:
    """Beside the kept ones."""
    assert "**kept in 0**" in table("redis-troubles", figures("redis-disk full", problems=("1 rows lost",)))
