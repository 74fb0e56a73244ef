"""The worker's consumer survives what a lost connection finds its pool in."""

import os
from types import SimpleNamespace
from typing import Any

import pytest
from celery.concurrency.asynpool import AsynPool

from tasks.worker.consumer import EVENTS_SECONDS, Consumer, track_again


class Hub:
    """An event loop that takes file descriptors, as kombu's does."""

    def __init__(self) -> None:
        self.readers: list[int] = []

    def add_reader(self, fd: int | None, *_: Any) -> None:
        """Raises where there is none."""
        if fd is None:
            raise ValueError("file descriptor is None")
        self.readers.append(fd)


def test_a_child_that_celery_has_lost_sight_of_is_watched_again() -> None:
    """After a lost connection all children are registered again, without the worker's end."""
    ends, others = os.pipe()
    watched = SimpleNamespace(_popen=SimpleNamespace(sentinel=ends), _sentinel_poll=others)
    unwatched = SimpleNamespace(_popen=SimpleNamespace(sentinel=ends), _sentinel_poll=None)
    fresh = SimpleNamespace(_popen=SimpleNamespace(sentinel=ends))
    looked: list[int] = []
    pool = SimpleNamespace(_pool=[watched, unwatched, fresh], maintain_pool=lambda: looked.append(1))
    pool._event_process_exit = None
    track_again(pool)
    hub = Hub()
    for child in pool._pool:
        AsynPool._track_child_process(pool, child, hub)  # type: ignore[attr-defined]
    try:
        assert looked == [1]
        assert hub.readers[0] == others
        assert len(set(hub.readers)) == 3
    finally:
        for fd in {ends, *hub.readers}:
            os.close(fd)


def test_events_that_come_together_are_sent_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """One call for all that come meanwhile; where a lost connection took it, the next event makes another."""
    now = [100.0]
    monkeypatch.setattr("tasks.worker.consumer.time.monotonic", lambda: now[0])
    asked: list[float] = []
    consumer = object.__new__(Consumer)
    consumer.hub = SimpleNamespace(call_later=lambda seconds, _flush: asked.append(seconds))
    for _ in range(3):
        consumer.on_send_event_buffered()
        now[0] += EVENTS_SECONDS / 4
    assert asked == [EVENTS_SECONDS]
    now[0] += EVENTS_SECONDS
    consumer.on_send_event_buffered()
    assert asked == [EVENTS_SECONDS] * 2
    consumer.hub = None
    now[0] += EVENTS_SECONDS
    consumer.on_send_event_buffered()
    assert len(asked) == 2
