"""The operator's rules hold for every user, whoever has rules of their own, and nobody can take them away."""

import json
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from compose.local.stack import Stack
from tests.integration import fleet
from tests.integration.announced import announced
from tests.integration.commands import sluice
from tests.integration.fleet import wait_until
from tests.integration.rule_tables import write
from tests.integration.subscriber import Subscriber, subscriber

Database = psycopg.Connection[tuple[Any, ...]]


def is_told(user: Subscriber, rule_id: str, status: str) -> bool:
    """Whether the user has heard of a change of a rule."""
    return (rule_id, status) in [(one["rule_id"], one["status"]) for one in user.notices]


@pytest.mark.usefixtures("beat")
def test_rules_of_the_operator_hold_for_every_user(
    pipeline: Stack, database: Database, tmp_path: Path
) -> None:
    """They come by command, with the errors of any rules; they are judged for a user with rules and for one
    without, told to each, read back apart, never disabled by a user, and resolved when they are gone.
    """
    # For devices of this test alone: the stack has other users.
    name = uuid4().hex[:8]
    mine, none = f"a{name}", f"b{name}"
    first, second = fleet.devices(pipeline, [(mine, name), (none, name)])
    hot = {
        "id": "hot",
        "key": "temperature",
        "operator": ">",
        "threshold": 80,
        "devices": name,
        "message": "hot",
    }
    gone = {"operator": "absent", "for_seconds": 1, "devices": name, "message": "gone"}
    own = hot | {"threshold": 50}

    def rules(*arguments: str, code: int = 0, stdin: str = "") -> str:
        done = sluice(pipeline, "rules", *arguments, stdin=stdin)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def send(number: int, *values: tuple[fleet.Device, float]) -> None:
        for device, value in values:
            device.publish(json.dumps({"sequence_id": number, "temperature": value}).encode())
            device.await_acknowledged()

    file = tmp_path / "rules.json"
    file.write_text(json.dumps({"rules": [hot]}))
    try:
        with subscriber(pipeline, mine) as ada, subscriber(pipeline, none) as bob:
            assert ada.ask("config", {"rules": [own]}) == {"ok": True, "rules": 1}
            refused = ada.ask("config", {"rules": [own | {"id": "operator:hot"}]})
            assert refused["errors"][0]["path"] == "rules.0.id"
            with pytest.raises(psycopg.errors.CheckViolation):
                write(database, none, [own | {"id": "operator:hot"}])
            wrong = json.dumps([hot | {"operator": "=>"}])
            assert "rules.0.operator" in rules("import", "+", "-", "--yes", code=1, stdin=wrong)
            with announced(pipeline):
                assert rules("import", "+", str(file), "--yes").startswith("+ hot")
            send(1, (first, 90), (second, 90))
            ada.told(2)
            bob.told(1)
            assert [(one["rule_id"], one["status"]) for one in ada.notices] == [
                ("hot", "TRIGGERED"),
                ("operator:hot", "TRIGGERED"),
            ]
            assert [(one["rule_id"], one["user_id"]) for one in bob.notices] == [("operator:hot", none)]
            command = {"device_id": name, "rule_id": "operator:hot", "action": "DISABLE"}
            refused = bob.ask("alerts/manage", command)
            assert "which cannot be disabled" in refused["errors"][0]["message"]
            assert bob.ask("alerts/manage", command | {"action": "ACKNOWLEDGE"}) == {"ok": True}
            read = ada.read("rules")
            assert (read["rules"], read["total"]) == ([own], 1)
            assert read["operator_rules"] == [hot | {"id": "operator:hot"}]
            # A user's changes of the own rules leave the operator's in force.
            assert ada.ask("config", {"rules": []}) == {"ok": True, "rules": 0}
            ada.told(3)
            assert [(one["rule_id"], one["status"]) for one in ada.notices[2:]] == [("hot", "RESOLVED")]
            file.write_text(json.dumps({"rules": [gone]}))
            rules("import", "+", str(file), "--yes")
            for user in (ada, bob):
                wait_until(partial(is_told, user, "operator:absent", "TRIGGERED"), 90, "the absence")
                removed = [one for one in user.notices if one["rule_id"] == "operator:hot"][-1]
                assert (removed["status"], removed["reason"]) == ("RESOLVED", "rule_removed")
        assert "+2" not in rules("history", "+")
        assert rules("export", "+", "-").startswith('{\n  "rules"')
    finally:
        database.execute("DELETE FROM user_configs WHERE user_id = '+'")
    fleet.disconnect([first, second])
