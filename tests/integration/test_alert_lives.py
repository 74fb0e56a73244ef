"""Random lives of a device through the real evaluation on real servers, held against the plain model."""

from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tasks.servers.redis_client import client
from tests.integration.real_device import Database, RealDevice
from tests.unit.tasks.rules.as_sent import nested, own_rules, quoted
from tests.unit.tasks.rules.lives import (
    AGAIN,
    CLOCK,
    COMMANDS,
    FLIPS_IN_ORDER,
    FORGETFUL_RULES,
    IN_ORDER,
    LONG_CLOCK,
    LOST,
    Event,
    Life,
    lives,
    rule_sets,
    told,
    well_formed,
)
from tests.unit.tasks.rules.plain_model import PlainModel

pytestmark = pytest.mark.usefixtures("in_process")

HALF_DONE = st.tuples(st.just("half done"), st.integers(1, 12))


class RealLife(Life):
    """Whatever was settled may be lost; whatever was not comes again."""

    def __init__(self, rules: list[dict[str, Any]], database: Database) -> None:
        self.device = self.real = RealDevice(database)
        self.device.change_rules(*map(quoted, rules))
        self.model = PlainModel()
        self.model.rules = own_rules(rules)
        self.packed = False
        self.now = 0
        self.seen = {}
        self.forgotten = set()
        self.commands = []

    def rules(self, rules: list[dict[str, Any]], noticed: bool) -> None:
        """Readings of a user without any rule are not judged: then the change itself is what ends alerts."""
        super().rules(rules, noticed or not rules)

    def lost(self, back: int) -> None:
        """Redis is flushed; what was not committed comes again, to its end."""
        client().flushall()
        self.again(back, back)

    def half_done(self, back: int) -> None:
        """Redis is flushed after `process` and before `store`: the readings come again, as new as before."""
        payload = {"a": 3, "b": 0}
        self.now += 1
        self.real.sent.append(self.real.reading(nested(payload), self.now))
        self.seen |= dict.fromkeys(("a", "b", ""), self.now)
        assert self.model
        self.model.reading(self.real.offset, self.now, self.now, payload, self.real.offset)
        again = [record for record in self.device.sent[-back:] if record.offset not in self.forgotten]
        self.real.evaluate(*again)
        client().flushall()
        self.real.judge(*again)


@settings(
    max_examples=60,
    # A failure is reported as it was found: to shrink one on real servers would take many minutes.
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    rules=rule_sets(remembering=False) | rule_sets(remembering=False, flapping=True),
    events=lives(
        IN_ORDER,
        IN_ORDER,
        FLIPS_IN_ORDER,
        COMMANDS,
        FORGETFUL_RULES,
        CLOCK | LONG_CLOCK,
        AGAIN,
        LOST,
        HALF_DONE,
    ),
)
def test_on_real_servers_any_life_is_told_as_the_plain_model_tells_it(
    database: Database, rules: list[dict[str, Any]], events: list[Event]
) -> None:
    """Whatever Redis loses, and whatever comes again: the same changes, once each, in order."""
    life = RealLife(rules, database)
    for event in events:
        life.live([event])
        if event[0] in {"command", "clock", "rules"}:
            life.forget(everything=True)
    assert life.model
    changes = life.device.changes
    told(changes, life.model)
    well_formed(changes)
    assert all(isinstance(change.time, datetime) for change in changes)
