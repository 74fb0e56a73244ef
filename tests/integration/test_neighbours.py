"""A tenant who does the worst within its rights delays only itself."""

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg

from compose.local.stack import Stack
from tests.integration import fleet
from tests.integration.announced import announced
from tests.integration.pages import value

RULES, FLIPS, QUIET = 50, 200, 16
ARRIVAL_SECONDS = 15
DEFERRED = "sluice_bridge_deferred_messages_total"


def flip(device: fleet.Device) -> None:
    """Readings of which each changes the alert of every rule, all at once."""
    start = datetime.now(UTC) - timedelta(seconds=FLIPS)
    for number in range(FLIPS):
        moment = (start + timedelta(seconds=number)).isoformat()
        payload = {"sequence_id": number, "time": moment, "heat": 90 * (1 - number % 2)}
        device.publish(json.dumps(payload).encode())


def test_flapping_alerts_of_one_tenant_hold_up_no_other(
    pipeline: Stack, database: psycopg.Connection[tuple[Any, ...]]
) -> None:
    """Another tenant's readings become rows meanwhile, and of the flapping alerts no change is lost.

    Readings of the tenant at the bound are put off; that no other's are, is a test of the budget.
    """
    noisy, quiet = uuid4().hex[:8], uuid4().hex[:8]
    loud, other, calm = fleet.devices(pipeline, [(noisy, "a"), (noisy, "b"), (quiet, "c")])
    rules = [
        {"id": f"r{number}", "key": "heat", "operator": ">", "threshold": 80, "message": "m" * 100}
        for number in range(RULES)
    ]
    with announced(pipeline):
        database.execute(
            "INSERT INTO user_configs (user_id, rules) VALUES (%s, %s::text::jsonb)",
            [noisy, json.dumps(rules)],
        )
    rows = "SELECT count(*) FROM raw_telemetry WHERE user_id = %s"

    def arrives(number: int) -> None:
        moment = datetime.now(UTC).isoformat()
        calm.publish(json.dumps({"sequence_id": number, "time": moment}).encode())
        fleet.wait_until(
            lambda: database.execute(rows, [quiet]).fetchone() == (number + 1,),
            ARRIVAL_SECONDS,
            "the neighbour's reading",
        )

    before = value(pipeline, "bridge", DEFERRED, reason="soon")
    arrives(0)
    # By itself the neighbour is never put off.
    assert value(pipeline, "bridge", DEFERRED, reason="soon") == before
    flip(loud)
    flip(other)
    for number in range(1, QUIET):
        arrives(number)
        time.sleep(0.25)
    assert value(pipeline, "bridge", DEFERRED, reason="soon") > before
    changes = "SELECT count(*) FROM alert_history WHERE user_id = %s"
    fleet.wait_until(
        lambda: database.execute(changes, [noisy]).fetchone() == (2 * FLIPS * RULES,), 180, "the changes"
    )
    fleet.wait_until(lambda: database.execute(rows, [noisy]).fetchone() == (2 * FLIPS,), 60, "the rows")
    fleet.disconnect([loud, other, calm])
