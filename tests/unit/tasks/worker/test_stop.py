"""When a worker's main process ends by itself."""

import threading
from types import SimpleNamespace

import pytest
from celery.worker import state

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
