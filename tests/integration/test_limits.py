"""The limits of one user: beyond them is a dead letter or a refusal, and nobody else notices."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from compose.local import envfile
from compose.local.stack import Stack
from ingest.admin.accounts import accounts, provision
from ingest.admin.accounts.provision import TooManyDevices
from tasks.settings import settings
from tests.conftest import DeadLetters
from tests.integration import fleet

Database = psycopg.Connection[tuple[Any, ...]]
SENT, ALLOWED = 200, 20


@pytest.fixture
def limited(pipeline: Stack) -> Iterator[Stack]:
    """A gateway that lets a message pass in ten seconds, and twenty at once."""
    before = pipeline.env
    small = {"USER_MESSAGES_PER_SECOND": "0.1", "USER_BURST_SECONDS": str(10 * ALLOWED)}
    envfile.write(pipeline.layout.env, {**before, **small})
    pipeline.restart("gateway")
    try:
        yield pipeline
    finally:
        envfile.write(pipeline.layout.env, before)
        pipeline.restart("gateway")


def test_what_a_user_sends_beyond_the_limit_is_a_dead_letter(
    limited: Stack, database: Database, dead_letters: DeadLetters
) -> None:
    """It names the limit and its setting; another user's reading passes; each message has one outcome."""
    run = uuid4().hex[:8]
    greedy, other = fleet.devices(limited, [(f"{run}-greedy", "d"), (f"{run}-other", "d")])
    for number in range(SENT):
        greedy.publish(json.dumps({"sequence_id": number}).encode())
    greedy.await_acknowledged()
    other.publish(b'{"sequence_id": 1}')
    other.await_acknowledged()

    def stored() -> Counter[str]:
        query = "SELECT user_id FROM raw_telemetry WHERE starts_with(user_id, %s)"
        return Counter(user for (user,) in database.execute(query, [run]).fetchall())

    fleet.wait_until(lambda: stored()[other.user] == 1 and stored()[greedy.user] >= ALLOWED, 60, "the rows")
    letters = [letter for _, letter in dead_letters.read() if letter["original_topic"] == greedy.topic]
    # On a slow machine one more may have become allowed meanwhile.
    assert ALLOWED <= stored()[greedy.user] <= ALLOWED + 10
    assert len(letters) == SENT - stored()[greedy.user]
    assert {letter["error_type"] for letter in letters} == {"RateLimited"}
    assert "0.1 messages/s (USER_MESSAGES_PER_SECOND)" in letters[0]["error"]
    log = limited.log("gateway")
    assert 1 <= sum('"rate_limited"' in line and greedy.user in line for line in log.splitlines()) <= 3
    fleet.disconnect([greedy, other])


@pytest.mark.usefixtures("on_servers")
def test_a_user_has_no_more_devices_than_the_setting_allows(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says how many, and nothing was made; a device that there is still gets a new password."""
    monkeypatch.setenv("DEVICES_PER_USER", "3")
    settings.cache_clear()
    run = uuid4().hex[:8]
    provision.provision_devices(database, [(run, f"d{number}") for number in range(3)])
    for more in ([(run, "d3")], [(run, "d2"), (run, "d3"), (f"{run}-other", "d")]):
        with pytest.raises(TooManyDevices, match="would have 4 devices; at most 3"):
            provision.provision_devices(database, more)
    names = [account.username for account in provision.accounts(database) if account.username.startswith(run)]
    assert names == [f"{run}/d{number}" for number in range(3)]
    monkeypatch.setenv("DEVICES_PER_USER", "2")
    settings.cache_clear()
    assert provision.provision(database, accounts.device(run, "d1")).username == f"{run}/d1"
