"""Changes of alerts for the outbox, made without a pipeline, and what the tables say of them."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from compose.local.preparation import process_environment
from compose.local.stack import Stack
from tasks import publish_changes
from tasks.alerts import state_store
from tasks.batch import marks
from tasks.outbox import publisher
from tasks.rules.machine import Changes, Observation
from tasks.rules.parsing import parse_rules
from tasks.rules.rule import RuleSet
from tasks.rules.state import DeviceState
from tasks.servers.redis_client import client
from tests.conftest import PROJECT
from tests.integration import forked
from tests.integration.fleet import wait_until
from tests.stepping import step_all

HOT = parse_rules({"rules": [{"key": "temperature", "operator": ">", "threshold": 80, "message": "hot"}]})
START = datetime(2026, 5, 1, 10, tzinfo=UTC)

Database = psycopg.Connection[tuple[Any, ...]]
Wanted = list[tuple[str, str]]


@contextmanager
def empty_outbox() -> Iterator[None]:
    """No entries of other tests, and no pause after their failures. Needs `in_process`."""
    _forget()
    yield
    publisher.close()
    _forget()


def _forget() -> None:
    """Leaves nothing undelivered."""
    for pattern in (
        "sluice:outbox*",
        "sluice:turn:*",
        "sluice:rest:*",
        "sluice:failures:*",
        "sluice:notify:*",
    ):
        for key in client().scan_iter(match=pattern):
            client().delete(key)


def judge(user: str, device: str, *readings: tuple[int, float], rules: RuleSet = HOT) -> Changes:
    """Judges readings, given as offset and temperature, and commits the changes to publish."""

    def decide(state: DeviceState) -> tuple[DeviceState, Changes]:
        after, changes = step_all(state, rules, map(observation, readings))
        return after, tuple(changes)

    return tuple(state_store.transact([(user, device)], decide))


def tell_users() -> None:
    """Delivers what waits for the users, and again where the broker did not answer in time."""

    def told() -> bool:
        publish_changes.deliver_mqtt()
        return not client().exists("sluice:failures:notify:mqtt")

    wait_until(told, 60, "the MQTT broker to take what there is to tell")


def write_tables() -> None:
    """Delivers what waits for the tables, and again where the database did not answer in time."""

    def written() -> bool:
        publish_changes.deliver_database()
        return not marks.database_fails()

    wait_until(written, 60, "the database to take what there is to tell")


def observation(reading: tuple[int, float]) -> Observation:
    """A reading, a second after the one before it."""
    offset, temperature = reading
    time = START + timedelta(seconds=offset)
    return Observation(0, offset, int(time.timestamp() * 1000), time, offset, {"temperature": temperature})


def flap(user: str, device: str, times: int, start: int = 0) -> Wanted:
    """This many alerts that begin and end, each in a commit of its own; the changes to publish."""
    for number in range(start, start + times):
        judge(user, device, (2 * number, 90.0))
        judge(user, device, (2 * number + 1, 20.0))
    return [(device, "TRIGGERED"), (device, "RESOLVED")] * times


def history(database: Database, user: str) -> list[tuple[Any, ...]]:
    """Device and status of the user's changes, by their number."""
    query = 'SELECT device_id, status FROM alert_history WHERE user_id = %s ORDER BY device_id, "number"'
    return database.execute(query, [user]).fetchall()


def rows(database: Database, user: str) -> list[tuple[Any, ...]]:
    """The user's rows of `active_alerts`."""
    query = "SELECT device_id, status, value, count FROM active_alerts WHERE user_id = %s ORDER BY device_id"
    return database.execute(query, [user]).fetchall()


def deliver_and_die(stack: Stack) -> None:
    """A worker that sends to the channels, and is killed before it has marked anything."""
    code = """
import os, signal
from tasks import deliver_channels
from tasks.channels import tables
tables.finish = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
deliver_channels.deliver()
"""
    environment = {**process_environment(stack.env), **os.environ}
    died = forked.run("-c", code, env=environment, cwd=PROJECT)
    assert died.returncode == -signal.SIGKILL, died.stderr
