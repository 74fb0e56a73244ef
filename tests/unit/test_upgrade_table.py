"""The table of a rolling upgrade says what was lost, and does not say that all is well when it is not."""

from tests.chaos.judge import Verdict
from tests.upgrade.__main__ import table
from tests.upgrade.rolling import Outcome, Step


def outcome(*problems: str) -> Outcome:
    """An upgrade of one step, with these problems."""
    whole = Verdict("all of them", "", messages=1200, rows=1190, dead_letters=10, judged=True)
    verdict = Verdict("upgrade", "", judged=True, problems=list(problems))
    return Outcome([Step("bridge", 5.94, 2.36, 1.7)], verdict, whole, {"bridge 2": 3})


def test_each_step_is_a_line_and_the_load_is_summed_up() -> None:
    """With the processes that had to be started again, which the page says of older bridges."""
    text = table(outcome(), "abc1234", 7)
    assert "from abc1234, seed 7" in text
    assert "| bridge | 5.9 | 2.4 | 1.7 |" in text
    assert "1,200 messages, 1,190 rows, 10 dead letters" in text
    assert "alerts exact" in text
    assert "bridge 2 3" in text


def test_a_broken_promise_is_in_the_table() -> None:
    """Also when nothing was lost."""
    text = table(outcome("recovery took longer than 60 s"), "abc1234", 7)
    assert "alerts exact" not in text
    assert "**not every promise was kept**" in text
