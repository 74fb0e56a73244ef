"""When a worker's main process ends by itself."""

import os
import threading
from types import SimpleNamespace

import pytest
from celery.worker import state

from tasks.batch import lease
from tasks.servers import celery_broker, workers
from tasks.servers.workers import Snapshot
from tasks.worker import stop

ENOUGH_LOOKS = 30


@pytest.mark.parametrize("turns", [True, False])
def test_a_worker_whose_event_loop_stands_still_is_never_busy(
    monkeypatch: pytest.MonkeyPatch, turns: bool
) -> None:
    """Each of its processes has a task. It is busy while the loop turns, and deaf when it does not."""
    looks: list[bool] = []
    ends: list[int] = []
    stopping = threading.Event()

    def report(_worker: str, snapshot: Snapshot, _deaf_seconds: float) -> None:
        looks.append(snapshot.busy)
        if turns:
            stop._turn()
        if len(looks) == ENOUGH_LOOKS:
            stopping.set()

    monkeypatch.setattr(stop, "_stopping", stopping)
    monkeypatch.setattr(stop, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(stop, "settings", lambda: SimpleNamespace(worker_deaf_seconds=0.05))
    monkeypatch.setattr(celery_broker, "waiting", lambda queues: dict.fromkeys(queues, 1))
    monkeypatch.setattr(workers, "report", report)
    monkeypatch.setattr(state, "requests", {"a": 1, "b": 2})
    monkeypatch.setattr(state, "should_stop", None)
    monkeypatch.setattr(stop, "_end_in_time", ends.append)
    stop._look(SimpleNamespace(pool=SimpleNamespace(num_processes=2), hostname="worker"), ["process"])
    if turns:
        assert (set(looks), ends) == ({True}, [])
    else:
        assert ends == [stop.EX_UNAVAILABLE]


class Request:
    """A task that the worker has taken."""

    name = "tasks.process.process_part"

    def __init__(self, batch: str) -> None:
        self.kwargs = {"batch": batch}


class Ended(Exception):
    """The end of the process."""


def test_a_task_that_is_taken_after_the_signal_is_handed_back_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The turn of the event loop that the signal met takes it and never begins it; others have their time."""
    works = Request("works")
    requests = {"1": works, "2": Request("waits")}
    clock, handed = [0.0], dict[str, float]()

    def sleep(seconds: float) -> None:
        clock[0] += seconds
        requests.setdefault("3", Request("late"))

    def end(_code: int) -> None:
        raise Ended

    monkeypatch.setattr(stop, "settings", lambda: SimpleNamespace(celery_soft_shutdown_seconds=30.0))
    monkeypatch.setattr(stop, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))
    monkeypatch.setattr(stop, "active_children", list)
    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(lease, "hand_back", lambda batch: handed.setdefault(batch, clock[0]))
    monkeypatch.setattr(state, "requests", requests)
    monkeypatch.setattr(state, "active_requests", {works})
    with pytest.raises(Ended):
        stop._end_in_time(0)
    assert handed["waits"] == 0
    assert handed["late"] < 1
    assert handed["works"] == pytest.approx(30)
