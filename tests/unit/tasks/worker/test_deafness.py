"""When a worker counts as deaf."""

from tasks.servers.workers import Snapshot
from tasks.worker.deafness import Attention


def test_a_worker_that_takes_nothing_though_free_grows_deaf() -> None:
    """The time counts from the first look at which there was work that it had not taken by the next one."""
    attention = Attention()
    free = Snapshot(queued=3, taken=7, busy=False)
    assert [attention.deaf_for(free, now) for now in (0.0, 2.0, 4.0, 34.0)] == [0.0, 0.0, 2.0, 32.0]


def test_work_taken_or_none_there_or_no_hand_free_is_in_order() -> None:
    """Each of the three ends the silence."""
    for sign_of_life in (Snapshot(0, 7, False), Snapshot(3, 8, False), Snapshot(3, 7, True)):
        attention = Attention()
        deaf = Snapshot(queued=3, taken=7, busy=False)
        for now in (0.0, 2.0, 30.0):
            attention.deaf_for(deaf, now)
        assert attention.deaf_for(sign_of_life, 31.0) == 0.0
        attention.deaf_for(deaf._replace(taken=sign_of_life.taken), 32.0)
        assert attention.deaf_for(deaf._replace(taken=sign_of_life.taken), 33.0) <= 1.0


def test_what_was_not_seen_does_not_count() -> None:
    """While Redis is away nobody knows whether there was work."""
    attention = Attention()
    deaf = Snapshot(queued=3, taken=7, busy=False)
    for now in (0.0, 2.0, 30.0):
        attention.deaf_for(deaf, now)
    attention.forget()
    assert attention.deaf_for(deaf, 90.0) == 0.0
