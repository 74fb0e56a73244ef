"""A user with channels in the tables, and the task that sends to them, run in this process."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from tasks import deliver_channels
from tasks import settings as tasks_settings
from tasks.channels import retries
from tests.integration.changes import Database, empty_outbox
from tests.integration.fleet import wait_until

OF_USER = "FROM channel_deliveries JOIN channels ON channels.id = channel_id WHERE user_id = %s"

Set = Callable[..., None]


@pytest.fixture
def user(in_process: None, database: Database) -> Iterator[str]:  # noqa: ARG001 - it must come first
    """A user of the test's own, whose channels go with the test."""
    name = uuid4().hex[:8]
    with empty_outbox():
        yield name
    database.execute("DELETE FROM channels WHERE user_id = %s", [name])


@pytest.fixture
def setting(user: str, monkeypatch: pytest.MonkeyPatch) -> Set:  # noqa: ARG001 - it must come first
    """Sets settings of this process, which may send to this machine; retries come soon."""
    monkeypatch.setattr(retries, "FIRST_SECONDS", 0.01)
    monkeypatch.setattr(retries, "MOST_REST_SECONDS", 0.05)

    def set_them(**values: str) -> None:
        for variable, value in values.items():
            monkeypatch.setenv(variable, value)
        tasks_settings.settings.cache_clear()

    set_them(
        CHANNEL_SCHEMES="http,https,mailto",
        CHANNEL_ALLOWED_NETWORKS="127.0.0.0/8",
        CHANNEL_MESSAGES_PER_MINUTE="1000000",
    )
    return set_them


def add(database: Database, user: str, name: str, kind: str, target: str, **more: Any) -> None:
    """A channel, set by SQL."""
    columns = {"user_id": user, "name": name, "kind": kind, "target": target, **more}
    names = ", ".join(columns)
    places = ", ".join(["%s"] * len(columns))
    database.execute(f"INSERT INTO channels ({names}) VALUES ({places})", list(columns.values()))


def deliveries(database: Database, user: str) -> Counter[tuple[str, str]]:
    """How many deliveries each channel of the user has in each state."""
    found = database.execute(f"SELECT name, state {OF_USER}", [user])
    return Counter((name, state) for name, state in found)


def deliver_until(done: Callable[[], bool], what: str) -> None:
    """Runs the task as a worker does, until something is so."""

    def look() -> bool:
        deliver_channels.deliver()
        return done()

    wait_until(look, 60, what)


def none_waits(database: Database, user: str) -> Callable[[], bool]:
    """Whether nothing of the user waits."""
    return lambda: not any(state == "waiting" for _, state in deliveries(database, user))
