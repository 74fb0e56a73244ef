"""The rule sets of workers against real Redis and Postgres."""

from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tasks import apply_rules
from tasks.alerts import state_store, stored_rules
from tasks.alerts.rule_cache import rule_sets
from tasks.alerts.stored_rules import Stored
from tasks.rules.machine import Changes
from tasks.rules.parsing import parse_rules
from tasks.rules.rule import NO_RULES
from tasks.rules.state import DeviceState
from tasks.servers.redis_client import RULES_VERSION, alert_key, client
from tasks.servers.rules_version import announce_change
from tests.integration.hot_states import HOT, reading
from tests.integration.rule_tables import write, write_unchecked
from tests.stepping import step_all

pytestmark = pytest.mark.usefixtures("in_process")

Database = psycopg.Connection[tuple[Any, ...]]
COLD = [{"key": "temperature", "operator": "<", "threshold": 0, "message": "cold"}]


def test_a_change_is_seen_when_it_is_announced(database: Database) -> None:
    """Copies stay until the number in Redis differs, and a vanished number differs, too."""
    user = uuid4().hex[:8]
    assert rule_sets([user]) == {user: NO_RULES}
    write(database, user, COLD)
    assert rule_sets([user]) == {user: NO_RULES}
    announce_change()
    assert rule_sets([user]) == {user: parse_rules(COLD)}
    write(database, user, [])
    client().delete(RULES_VERSION)
    assert rule_sets([user]) == {user: NO_RULES}


def test_a_number_never_comes_back_after_redis_was_flushed() -> None:
    """Counting begins at the clock, so that the first change after a loss is not taken for an old one."""
    client().delete(RULES_VERSION)
    announce_change()
    before = int(client().get(RULES_VERSION) or 0)
    client().delete(RULES_VERSION)
    announce_change()
    assert int(client().get(RULES_VERSION) or 0) > before


def test_the_rules_of_many_users_are_read_a_few_at_a_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each user's own, and nothing of those without a row."""
    monkeypatch.setattr("tasks.alerts.stored_rules.AT_ONCE", 2)
    users = [uuid4().hex[:8] for _ in range(5)]
    for number, user in enumerate(users[:-1]):
        write(database, user, [COLD[0] | {"threshold": number}])
    found = stored_rules.load(users)
    assert {user: stored.rules[0]["threshold"] for user, stored in found.items()} == dict(
        zip(users[:-1], range(4), strict=True)
    )
    assert stored_rules.load([]) == {}


def test_only_what_has_changed_is_read_again(database: Database) -> None:
    """Of rules, groups, and a row that comes back, also with its old time; all else is the same object."""
    reader = stored_rules.StoredRules()
    changed, same = uuid4().hex[:8], uuid4().hex[:8]

    def load() -> Stored | None:
        found = reader.load([changed, same])
        assert found[same] is kept
        assert reader.load([changed, same]).get(changed) is found.get(changed)
        return found.get(changed)

    write(database, same, COLD)
    kept = reader.load([same])[same]
    assert load() is None
    write(database, changed, COLD)
    assert load() == Stored(COLD)
    with database.transaction():
        write(database, changed, [])
        write(database, changed, [COLD[0] | {"threshold": 1}])
    assert load() == Stored([COLD[0] | {"threshold": 1}])
    database.execute("INSERT INTO device_groups VALUES (%s, 'ovens', 'd')", [changed])
    assert load() == Stored([COLD[0] | {"threshold": 1}], {"ovens": frozenset("d")})
    database.execute("DELETE FROM user_configs WHERE user_id = %s", [changed])
    assert load() is None
    write(database, changed, COLD)
    assert load() == Stored(COLD, {"ovens": frozenset("d")})
    database.execute("DELETE FROM device_groups WHERE user_id = %s", [changed])
    assert load() == Stored(COLD)
    database.execute(
        "WITH gone AS (DELETE FROM user_configs WHERE user_id = %s RETURNING updated_at)"
        " SELECT set_config('test.at', updated_at::text, false) FROM gone",
        [changed],
    )
    database.execute(
        "INSERT INTO user_configs VALUES (%s, '[]', current_setting('test.at')::timestamptz)", [changed]
    )
    assert load() == Stored([])


def judge(state: DeviceState) -> tuple[DeviceState, Changes]:
    """A violation of the rule HOT."""
    after, changes = step_all(state, HOT, [reading(1, 90.0)])
    return after, tuple(changes)


def test_alerts_of_rules_that_are_gone_are_resolved_once(database: Database) -> None:
    """Applying resolves what has no valid rule any more, of the users asked for."""
    gone, other, broken, typo = (uuid4().hex[:8] for _ in range(4))
    state_store.transact([(user, "d") for user in (gone, other, broken, typo)], judge)
    write(database, gone, COLD)
    write(database, other, COLD)
    write_unchecked(database, broken, [{"key": 1}])
    hot = {"key": "temperature", "operator": ">", "threshold": 80, "message": "hot"}
    write_unchecked(database, typo, [hot, {**hot, "id": "hum", "operator": "=>"}])

    def is_open(user: str) -> bool:
        packed = client().get(alert_key(user, "d"))
        return isinstance(packed, bytes) and DeviceState.unpack(user, "d", packed).is_open

    apply_rules.apply_rules([gone, broken, typo])
    apply_rules.apply_rules([gone, broken, typo])
    assert [is_open(user) for user in (gone, other, broken, typo)] == [False, True, False, True]
    apply_rules.apply_rules(None)
    assert (is_open(other), is_open(typo)) == (False, True)
