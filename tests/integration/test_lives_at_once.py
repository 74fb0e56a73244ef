"""Random lives on real servers in which readings are late, are repeated, and come again."""

import pytest
from hypothesis import strategies as st

from tests.integration.lives_at_once import drawn, live
from tests.integration.real_device import Database
from tests.unit.tasks.rules.lives import (
    AGAIN,
    CLOCK,
    COMMANDS,
    FLIPS,
    LONG_CLOCK,
    READINGS,
    REDELIVERED,
    REPEATED,
    REPEATED_COMMANDS,
    RULES,
    lives,
    rule_sets,
)

SEEDS = (1, 2)
LIVES = 100
SCRIPTS = st.tuples(
    rule_sets() | rule_sets(remembering=False, flapping=True),
    lives(
        *(READINGS, READINGS, READINGS, FLIPS, REPEATED, REDELIVERED, AGAIN),
        *(COMMANDS, REPEATED_COMMANDS, RULES, CLOCK, LONG_CLOCK),
    ),
)


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("seed", SEEDS)
def test_on_real_servers_many_lives_are_told_as_the_plain_model_tells_them(
    database: Database, seed: int
) -> None:
    """Late, repeated and redelivered readings, batches that run twice, and rules that remember."""
    wrong = live(drawn(SCRIPTS, seed, LIVES), database, seed)
    assert not wrong, f"{len(wrong)} of {LIVES}, of which the shortest is {min(wrong, key=len)}"
