"""The fence of the control process: one that no longer acts begins nothing, whatever it believed before."""

import pytest

from ingest.requests.fence import Fence, Superseded
from tasks.servers.redis_client import CONTROL_ACTS, client

KEY = "sluice:test:fence"


@pytest.fixture(autouse=True)
def clean(in_process: None) -> None:  # noqa: ARG001
    """Nobody acts yet."""
    client().delete(CONTROL_ACTS, KEY)


def value() -> str | None:
    """What is set."""
    found = client().get(KEY)
    return found.decode() if isinstance(found, bytes) else None


def test_the_one_that_has_the_lease_takes_over_and_the_one_before_is_refused() -> None:
    """It has set nothing; the key is that of the one that acts, and expires."""
    lease = {"first": True, "second": False}
    first, second = (Fence(name, lambda name=name: lease[name]) for name in lease)  # type: ignore[misc]
    first.set(KEY, "first", 60_000)
    with pytest.raises(Superseded):
        second.set(KEY, "second", 60_000)
    assert value() == "first"
    lease.update(first=False, second=True)
    second.set(KEY, "second", 60_000)
    with pytest.raises(Superseded, match="second"):
        first.set(KEY, "first again", 60_000)
    assert value() == "second"
    assert 0 < client().pttl(KEY) <= 60_000


def test_a_redis_that_has_forgotten_or_remembers_another_follows_the_lease() -> None:
    """After a flush the one that acts goes on, also while the database is away; an older name is replaced."""
    lease = {"acts": False}
    acts = Fence("acts", lambda: lease["acts"])
    client().delete(CONTROL_ACTS)
    acts.set(KEY, "1", 60_000)
    client().set(CONTROL_ACTS, "one of last week")
    with pytest.raises(Superseded):
        acts.set(KEY, "2", 60_000)
    lease["acts"] = True
    acts.set(KEY, "3", 60_000)
    assert value() == "3"
