"""How many children a worker keeps."""

from typing import Any

import pytest
from celery.worker import autoscale

from tasks.worker import autoscaler
from tasks.worker.autoscaler import Autoscaler, Need


class Pool:
    """Counts children as Celery's pool does."""

    def __init__(self, children: int) -> None:
        self.num_processes = children

    def grow(self, number: int) -> None:
        """More of them."""
        self.num_processes += number

    def shrink(self, number: int) -> None:
        """Fewer of them."""
        self.num_processes -= number

    def maintain_pool(self) -> None:
        """Celery asks for it after each change."""


class Moment:
    """A worker at a moment that the test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tasks, self.now, self.pool = 0, 1000.0, Pool(2)
        monkeypatch.setattr(Autoscaler, "qty", property(lambda _: self.tasks))
        monkeypatch.setattr(autoscaler, "monotonic", lambda: self.now)
        monkeypatch.setattr(autoscale, "monotonic", lambda: self.now)
        self.scaler = Autoscaler(self.pool, 6, 2)

    def children(self, tasks: int, now: float, message: Any) -> int:
        """What there are after the autoscaler has looked once."""
        self.tasks, self.now = tasks, now
        self.scaler.maybe_scale(message)
        return self.pool.num_processes


TIMER, MESSAGE = None, object()


def test_children_come_with_the_tasks_up_to_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, by the message that needs one more."""
    worker = Moment(monkeypatch)
    assert [worker.children(tasks, 1000.0, MESSAGE) for tasks in (1, 2, 3, 9)] == [2, 2, 3, 6]


def test_a_quiet_moment_ends_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks come in bursts: what the last minute needed at once stays, however little there is now."""
    worker = Moment(monkeypatch)
    for second in range(600):
        assert worker.children(5 if second % 20 == 0 else 0, 1000.0 + second, TIMER) == 5


def test_children_that_nobody_needs_end_by_the_timer_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with a message, whose task is about to be handed to one of them."""
    worker = Moment(monkeypatch)
    worker.children(6, 1000.0, MESSAGE)
    assert worker.children(1, 1200.0, MESSAGE) == 6
    assert worker.children(1, 1200.0, TIMER) == 2


def test_the_most_is_remembered_for_one_to_two_intervals() -> None:
    """And no longer, also after a pause without any look."""
    need = Need(60.0)
    assert need.most(4, 100.0) == 4
    assert need.most(1, 159.0) == 4
    assert need.most(1, 161.0) == 4
    assert need.most(2, 222.0) == 2
    need = Need(60.0)
    need.most(4, 100.0)
    assert need.most(0, 1000.0) == 0
