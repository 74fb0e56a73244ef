"""A field is added to a domain while it is in use: nothing is lost, in whatever order the parts change."""

import json
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from compose.local.preparation import migrate
from compose.local.stack import Stack
from tests.conftest import DeadLetters
from tests.integration import fleet
from tests.integration.deployment import change, serving, sluice
from tests.integration.lag import wait_for_no_lag

Database = psycopg.Connection[tuple[Any, ...]]

BEFORE, AFTER = "tests.integration.crates_before", "tests.integration.crates_after"
TOPIC, LETTERS = "iot-stream-crates", "iot-stream-dlq-crates"


@pytest.fixture
def old(stack: Stack, database: Database) -> Iterator[Stack]:
    """Workers and table of before."""
    with serving(stack, BEFORE) as running:
        yield running
    database.execute("DROP TABLE raw_crates")


class Crate:
    """A crate that sends its number, and its stored rows."""

    def __init__(self, stack: Stack, database: Database) -> None:
        self.user = uuid4().hex[:8]
        self._stack, self._database = stack, database
        (self._device,) = fleet.devices(stack, [(self.user, "c")])

    def send(self, *numbers: int, **fields: object) -> None:
        """Messages with these numbers, in the broker when this returns."""
        for number in numbers:
            payload = {"time": f"2026-05-01T10:00:{number:02}Z", "number": number, "state": "FULL"} | fields
            self._device.publish(json.dumps(payload).encode(), f"users/{self.user}/crates/c")
        self._device.await_acknowledged()

    def stored(self, columns: str = "number") -> list[tuple[Any, ...]]:
        """The rows, by number."""
        query = f"SELECT {columns} FROM raw_crates WHERE user_id = %s ORDER BY number"
        return self._database.execute(query, [self.user]).fetchall()

    def await_stored(self, *numbers: int) -> None:
        """Returns when exactly these are stored, and the bridge is done with them."""
        expected = [(number,) for number in numbers]
        fleet.wait_until(lambda: self.stored() == expected, 60, f"the rows {numbers}")
        wait_for_no_lag(self._stack, TOPIC)

    def close(self) -> None:
        """Ends the connection."""
        fleet.disconnect([self._device])


def test_an_optional_field_is_added_without_downtime(old: Stack, database: Database) -> None:
    """Old workers write to the new table; new workers wait for it; what died in between is replayed."""
    crate = Crate(old, database)
    letters = DeadLetters(old.env["KAFKA_BOOTSTRAP_SERVERS"], LETTERS)
    crate.send(1)
    crate.await_stored(1)

    # The table first: the old workers leave the column null, and keep the value among the rest.
    migrate({**old.env, "DOMAINS": AFTER})
    crate.send(2, weight=2.5)
    crate.send(3, state="LOST")
    crate.await_stored(1, 2)
    assert crate.stored("weight, extra_data") == [(None, {}), (None, {"weight": 2.5})]
    fleet.wait_until(lambda: len(letters.read()) == 1, 30, "the dead letter of what was not known yet")

    # The workers first: what they cannot write yet waits, and is not a dead letter.
    database.execute("ALTER TABLE raw_crates DROP COLUMN weight")
    change(old, AFTER)
    before = old.log("worker").count("TableOutdated")
    crate.send(4, weight=4.5)
    fleet.wait_until(
        lambda: old.log("worker").count("TableOutdated") > before, 60, "the workers to find the old table"
    )
    time.sleep(2)
    assert crate.stored() == [(1,), (2,)]
    assert len(letters.read()) == 1
    migrate(old.env)
    crate.await_stored(1, 2, 4)
    assert crate.stored("weight") == [(None,), (None,), (4.5,)]

    # The dead letters of the time between are known now.
    replayed = sluice(old, "dlq", "replay", "--domain", "crates", "--json")
    assert replayed.returncode == 0, replayed.stderr
    assert json.loads(replayed.stdout)["outcomes"]["stored"] == 1
    crate.await_stored(1, 2, 3, 4)
    verified = sluice(old, "verify", "--domain", "crates", "--json")
    assert (verified.returncode, json.loads(verified.stdout)["missing"]) == (0, 0), verified.stderr
    letters.close()
    crate.close()
