"""Alerts by one webhook that fails often, while those who judge, write and send them are killed."""

import psycopg
import pytest

from compose.local.stack import Stack
from tests.chaos.channels import Run

pytestmark = pytest.mark.timeout(300)


@pytest.mark.usefixtures("beat", "on_servers")
def test_each_change_is_told_in_order_whoever_is_killed(pipeline: Stack) -> None:
    """`python -m tests.chaos.channels` in small: no message fails more than twice, two workers are killed."""
    pipeline.stop("worker")
    run = Run(pipeline, 60, seed=1, say=print, most_failures=2)

    def nobody_has_the_lease(victim: str) -> None:
        # It ends by itself after a minute.
        if victim == "notify":
            with psycopg.connect(pipeline.env["DATABASE_DIRECT_URL"]) as connection:
                connection.execute("UPDATE channel_states SET lease_until = now()")

    run.after_kill = nobody_has_the_lease
    try:
        outcome = run.run(["notify", "process"], 240)
    finally:
        run.forget()
        pipeline.start("worker")
    assert not outcome.problems, (outcome.problems, outcome.figures)
    # The one whose sender was killed before it had noted the answer.
    assert outcome.figures["repeated under the same key"] == "1"
