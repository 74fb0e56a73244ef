"""The tasks behind what users ask for: safe to run twice, late, and on what a broker had kept."""

import json
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from ingest.admin.accounts import provision
from tasks.alerts import state_store
from tasks.alerts.rule_cache import rule_sets
from tasks.rules.answers import Answer
from tasks.rules.parsing import parse_rules
from tasks.servers.redis_client import answers_key, client, request_key
from tasks.user_requests import manage_alert, set_rules
from tests.integration.hot_states import judge, reading

pytestmark = pytest.mark.usefixtures("in_process")

Database = psycopg.Connection[tuple[Any, ...]]


def rules(threshold: float) -> bytes:
    """A document."""
    rule = {"key": "temperature", "operator": ">", "threshold": threshold, "message": "hot"}
    return json.dumps({"rules": [rule]}).encode()


def awaited() -> str:
    """The id of a request that a control process waits for."""
    request = uuid4().hex
    client().set(request_key(request), 1, ex=60)
    return request


def answer(control: str) -> Answer | None:
    """The oldest answer to a control process; fails when there is none."""
    reply = client().lpop(answers_key(control))
    assert isinstance(reply, bytes)
    told: Answer | None = json.loads(reply)["answer"]
    return told


@pytest.mark.usefixtures("database")
def test_a_late_copy_of_a_request_undoes_nothing() -> None:
    """Once a request is answered, its copy that was still in the queue is dropped."""
    user, control, first = uuid4().hex[:8], uuid4().hex[:8], awaited()
    set_rules(user, rules(1), first, control)
    set_rules(user, rules(2), awaited(), control)
    set_rules(user, rules(1), first, control)
    assert rule_sets([user])[user] == parse_rules(rules(2))
    assert [answer(control), answer(control)] == [{"ok": True, "rules": 1}] * 2
    assert client().llen(answers_key(control)) == 0


def test_rules_that_an_operator_sets_are_known_as_the_operator_s(database: Database) -> None:
    """By their version and in the operators' trail; a user's own are in no trail."""
    user, control = uuid4().hex[:8], uuid4().hex[:8]
    set_rules(user, rules(1), awaited(), control)
    set_rules(user, rules(2), awaited(), control, by="sluice-web/operator")
    set_rules(user, rules(3), awaited(), control)
    assert [answer(control) for _ in range(3)] == [{"ok": True, "rules": 1}] * 3
    versions = "SELECT way, by FROM rule_versions WHERE user_id = %s ORDER BY version"
    assert database.execute(versions, [user]).fetchall() == [
        *(("MQTT", user), ("API", "operator"), ("MQTT", user))
    ]
    trail = "SELECT application, after -> 'rules' -> 0 ->> 'threshold' FROM operator_audit WHERE key = %s"
    assert database.execute(trail, [user]).fetchall() == [("sluice-web/operator", "2")]


def test_rules_that_somebody_has_changed_since_they_were_seen_stay(database: Database) -> None:
    """A user who saw none, or others, gets an error; a second run of a finished request does not."""
    user, control = uuid4().hex[:8], uuid4().hex[:8]

    def seen() -> str:
        query = "SELECT updated_at FROM user_configs WHERE user_id = %s"
        (changed_at,) = database.execute(query, [user]).fetchone() or (None,)
        return "" if changed_at is None else changed_at.isoformat()

    set_rules(user, rules(1), awaited(), control, seen=seen())
    first = seen()
    set_rules(user, rules(2), awaited(), control, seen=first)
    set_rules(user, rules(2), awaited(), control, seen=first)
    assert [answer(control) for _ in range(3)] == [{"ok": True, "rules": 1}] * 3
    for old in ("", first):
        set_rules(user, rules(3), awaited(), control, seen=old)
        refused = answer(control)
        assert refused is not None
        assert (refused["ok"], refused.get("stale")) == (False, True)
    assert rule_sets([user])[user] == parse_rules(rules(2))
    database.execute("DELETE FROM user_configs WHERE user_id = %s", [user])
    set_rules(user, rules(3), awaited(), control, seen=first)
    removed = answer(control)
    assert removed is not None
    assert removed.get("stale") is True


@pytest.mark.usefixtures("database")
def test_retained_rules_count_only_where_there_are_none() -> None:
    """Nobody knows how old they are; what is ignored is not answered, but its request ends."""
    user, control = uuid4().hex[:8], uuid4().hex[:8]
    set_rules(user, rules(1), awaited(), control, retained=True)
    set_rules(user, rules(2), awaited(), control, retained=True)
    assert rule_sets([user])[user] == parse_rules(rules(1))
    assert [answer(control), answer(control)] == [{"ok": True, "rules": 1}, None]


@pytest.mark.usefixtures("database")
def test_a_command_that_comes_again_counts_once() -> None:
    """Under the same id a snooze is obeyed once and answered twice."""
    user, control, request = uuid4().hex[:8], uuid4().hex[:8], awaited()
    set_rules(user, rules(80), awaited(), control)
    state_store.transact([(user, "d")], lambda state: judge(state, reading(1, 90.0)))
    command = {"device_id": "d", "rule_id": "temperature", "action": "SNOOZE", "duration_minutes": 5}
    numbers = []
    for _ in range(2):
        client().set(request_key(request), 1, ex=60)
        manage_alert(user, json.dumps(command).encode(), request, control, 1_800_000_000_000)
        state_store.transact([(user, "d")], lambda state: (numbers.append(state.number) or state, ()))  # type: ignore[func-returns-value]
    assert numbers == [2, 2]
    assert [answer(control) for _ in range(3)] == [{"ok": True, "rules": 1}, {"ok": True}, {"ok": True}]


def test_an_accepted_rule_that_can_never_fire_is_warned_of(database: Database) -> None:
    """A boolean is not a number; the rule is in force, and the answer says so."""
    user, control = uuid4().hex[:8], uuid4().hex[:8]
    database.execute(
        "INSERT INTO raw_telemetry (time, user_id, device_id, sequence_id, temperature, extra_data)"
        " VALUES (now(), %s, 'd', 1, 20, %s)",
        [user, json.dumps({"leak": True})],
    )
    given = [
        {"key": "leak", "operator": "==", "threshold": 1, "message": "m"},
        {"key": "temperature", "operator": ">", "threshold": 80, "message": "m"},
    ]
    set_rules(user, json.dumps({"rules": given}).encode(), awaited(), control)
    told = answer(control)
    assert told is not None
    assert (told["ok"], told["rules"]) == (True, 2)
    assert [one["path"] for one in told["warnings"]] == ["rules.0.threshold"]
    assert rule_sets([user])[user] == parse_rules(given)


def test_a_rule_about_a_device_that_nobody_knows_is_warned_of(database: Database) -> None:
    """By name or by pattern. Known are the user's own devices with an account, and those of the registry."""
    user, other, control = uuid4().hex[:8], uuid4().hex[:8], "none"
    provision.provision_devices(database, [(user, "lab_1"), (other, "oven")])
    database.execute(
        "INSERT INTO devices (user_id, device_id, domain, first_seen, last_seen)"
        " VALUES (%s, 'freezer-1', 'telemetry', now(), now())",
        [user],
    )
    fine = ["freezer-1", "lab_1", "f*r-*", "lab*", "@cold"]
    rule = {"key": "temperature", "operator": ">", "threshold": 8, "message": "m", "devices": fine}
    wrong = rule | {
        "id": "wrong",
        "devices": [*fine, "frezer-*", "freezer-2", "lab1", "la_*", "oven"],
        "overrides": {"lab_%": {"threshold": 9}, "lab_1": {"threshold": 9}},
    }
    answers = []
    for given in ([rule], [rule, wrong]):
        set_rules(user, json.dumps({"rules": given}).encode(), awaited(), control)
        answers.append(answer(control))
    first, second = answers
    assert first is not None
    assert second is not None
    assert [one["path"] for one in first["warnings"]] == ["rules.0.devices[4]"]
    told = {one["path"]: one["message"] for one in second["warnings"]}
    waits = "; the rule waits for one"
    assert told == {
        "rules.0.devices[4]": "no device is in the group `cold`",
        "rules.1.devices[4]": "no device is in the group `cold`",
        "rules.1.devices[5]": f"no known device fits `frezer-*`{waits}",
        "rules.1.devices[6]": f"no known device is called `freezer-2`{waits}; did you mean `freezer-1`?",
        "rules.1.devices[7]": f"no known device is called `lab1`{waits}; did you mean `lab_1`?",
        "rules.1.devices[8]": f"no known device fits `la_*`{waits}",
        "rules.1.devices[9]": f"no known device is called `oven`{waits}",
        "rules.1.overrides.lab_%": f"no known device is called `lab_%`{waits}; did you mean `lab_1`?",
    }
