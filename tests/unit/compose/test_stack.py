"""A stack's description of itself, from its files."""

from pathlib import Path

import pytest

from compose.local.errors import StackError
from compose.local.stack import Stack


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    """A stack that was never started."""
    stack = Stack(tmp_path / "stack")
    stack.layout.make()
    return stack


def test_restarts_count_what_ended_by_itself_since_the_last_start(stack: Stack) -> None:
    """A kill and a crash count, a wished stop does not, nor what was before the supervisor's last start."""
    stack.layout.log("supervisord").write_text(
        "INFO supervisord started with pid 1\n"
        "WARN exited: redis (exit status 137; not expected)\n"
        "INFO supervisord started with pid 2\n"
        "INFO spawned: 'redis' with pid 3\n"
        "WARN exited: redis (exit status 137; not expected)\n"
        "INFO exited: beat (exit status 0; expected)\n"
        "WARN exited: redis (terminated by SIGKILL; not expected)\n"
        "INFO stopped: kafka (exit status 143)\n"
    )

    assert stack.restarts() == {"redis": 2, "beat": 1}


def test_a_stack_that_is_down_has_no_states_and_no_pids(stack: Stack) -> None:
    """Asking is harmless, and a pid that nobody has is an error with the name in it."""
    assert not stack.running()
    assert stack.status() == []
    assert stack.env == {}
    assert stack.log("kafka") == ""
    with pytest.raises(StackError, match="kafka is not running"):
        stack.pid("kafka")


def test_stopping_and_cleaning_what_never_ran_is_harmless(tmp_path: Path) -> None:
    """`down` and `clean` of a folder without a stack do nothing and say so."""
    stack = Stack(tmp_path / "nothing")

    assert stack.down() is False
    assert stack.clean() is False


def test_cleaning_leaves_what_is_not_the_stacks(stack: Stack) -> None:
    """Only what a stack puts there is removed: a wrong --dir costs nobody a folder."""
    precious = stack.layout.base / "precious"
    precious.write_text("mine")
    stack.layout.log("kafka").write_text("x")

    assert stack.clean() is True
    assert [path.name for path in stack.layout.base.iterdir()] == ["precious"]


def test_a_process_that_the_procfile_lacks_is_named(stack: Stack) -> None:
    """Asking for an unknown process fails before anything is started."""
    with pytest.raises(StackError, match="no bridgee"):
        stack.up(["gateway", "bridgee"])
