"""The commands of the documentation do what the pages say."""

from datetime import UTC, datetime
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from compose.local.stack import Stack
from tests.conftest import DeadLetters
from tests.integration.commands import run_page
from tests.integration.fleet import wait_until
from tests.integration.stream import Written, cold_only, reading, sequence_ids
from tests.integration.web_process import Web

Database = psycopg.Connection[tuple[object, ...]]


@pytest.mark.parametrize("page", ["docs/operate.md", "docs/secure.md", "docs/channels.md", "docs/data.md"])
def test_the_commands_of_a_page_succeed(pipeline: Stack, page: str) -> None:
    """Each of the page's commands ends well."""
    run_page(pipeline, page)


def test_the_first_five_minutes_end_with_a_row(pipeline: Stack, database: Database) -> None:
    """The README's commands give the row, the list of dead letters and the proof."""
    database.execute("DELETE FROM raw_telemetry WHERE user_id = 'ada'")
    began = datetime.now(UTC)
    written = Written(pipeline, f"u{uuid4().hex[:8]}")
    written.write([b'{"sequence_id": "one"}'])
    ((partition, offset),) = written.places
    values = {"3/1742": f"{partition}/{offset}", "sluice verify": f"sluice verify --since {began:%FT%TZ}"}
    said = run_page(pipeline, "README.md", values)
    assert '`sequence_id` must be a 64-bit integer, got the string "one"' in said
    query = "SELECT extra_data ->> 'door' FROM raw_telemetry WHERE user_id = 'ada' AND temperature = 4.5"
    wait_until(lambda: database.execute(query).fetchall() == [("open",)], 30, "the row")


@pytest.mark.usefixtures("beat")
def test_the_tutorial_leads_from_a_reading_to_an_acknowledged_alert_and_a_dead_letter(
    pipeline: Stack, database: Database, dead_letters: DeadLetters
) -> None:
    """The tutorial's commands show the device, its series, the rule as a sentence, and the alert."""
    for table in ("raw_telemetry", "active_alerts", "devices"):
        database.execute(sql.SQL("DELETE FROM {} WHERE user_id = 'ada'").format(sql.Identifier(table)))
    pipeline.up(["web"], prepare=False)
    try:
        web = Web(0, int(pipeline.env["WEB_METRICS_PORT"]))
        wait_until(web.ready, 60, "the web process to be ready")
        said = run_page(pipeline, "docs/tutorial.md")
    finally:
        pipeline.stop("web")
    for part in ("ada/fridge", '"value":4.5', "temperature > 8: warning, “too warm”", "would have fired"):
        assert part in said, part
    alert = "SELECT acknowledged_by, note FROM active_alerts WHERE user_id = 'ada' AND device_id = 'fridge'"
    (acknowledged,) = database.execute(alert).fetchall()
    assert acknowledged[1] == "the door was open, I closed it"
    query = "SELECT extra_data ->> 'door' FROM raw_telemetry WHERE user_id = 'ada' AND temperature = 9.5"
    wait_until(lambda: database.execute(query).fetchall() == [("open",)], 30, "the row")
    reason = '`sequence_id` must be a 64-bit integer, got the string "one"'
    wait_until(
        lambda: reason in [letter["error"] for _, letter in dead_letters.read()], 30, "the dead letter"
    )


def test_the_page_about_replay_brings_refused_messages_back(pipeline: Stack, database: Database) -> None:
    """A refused message becomes a row once its column was altered and the page's commands have run."""
    began, user = datetime.now(UTC), f"u{uuid4().hex[:8]}"
    written = Written(pipeline, user)
    with cold_only(database, user):
        written.write([reading(number, temperature=200) for number in range(3)])
    (partition, offset), *_ = written.places
    since = f"{began:%FT%TZ}"
    values = {
        "3/1742": f"{partition}/{offset}",
        # A partition that nobody has written to has no offsets.
        "replay offsets 0 0": f"replay offsets {partition} 0",
        "replay range 0 0": f"replay range {partition} 0",
        "2d": since,
        "1d": since,
        "sluice verify  ": f"sluice verify --since {since}  ",
    }
    said = run_page(pipeline, "docs/replay.md", values)
    assert sequence_ids(database, user) == [0, 1, 2]
    assert user in said
