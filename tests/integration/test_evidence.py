"""The marks that a vanished batch leaves in Redis, and what its bridge makes of them."""

from uuid import uuid4

import psycopg
import pytest

from tasks.batch import lease, marks
from tasks.errors import NotNow, OutOfMemory
from tasks.servers import database
from tasks.servers.redis_client import client, done_key, evidence_key, lease_key

pytestmark = pytest.mark.usefixtures("in_process")

BRIDGE = "bridge-of-the-tests"


@pytest.fixture
def batch() -> str:
    """A batch that was just sent."""
    name = f"0-{uuid4().hex[:12]}"
    client().delete(done_key(BRIDGE))
    client().set(lease_key(name), BRIDGE, ex=10)
    return name


def begin(batch: str, stage: str) -> None:
    """A task that begins to work on the batch, and is killed in the middle of it."""
    pipeline = client().pipeline()
    marks.begun(pipeline, batch, stage)
    pipeline.execute()


def reports() -> list[bytes]:
    """The reports that the bridge got."""
    return [entry for entry in client().lrange(done_key(BRIDGE), 0, -1) if isinstance(entry, bytes)]


def test_work_that_ends_well_leaves_nothing(batch: str) -> None:
    """Neither a mark nor a report; the lease is for the next stage."""
    with lease.held(batch, "process 0"):
        assert client().hexists(evidence_key(batch), "process 0")
    assert marks.read(batch) is None
    assert client().exists(lease_key(batch))
    assert reports() == []


def test_who_is_killed_leaves_its_mark(batch: str) -> None:
    """It names the stage, and fades: who has been at work for long waits for a server."""
    begin(batch, "store")
    found = marks.read(batch)
    assert found is not None
    assert found.error_type == "WorkerLost"
    assert "store" in found.error
    assert 0 < client().ttl(evidence_key(batch)) <= 30


def test_a_batch_that_is_handed_back_is_innocent(batch: str) -> None:
    """Also while another task still works on it; the bridge is notified at once, and the lease is gone."""
    begin(batch, "process 1")
    with pytest.raises(NotNow), lease.held(batch, "process 0"):
        raise NotNow("Kafka is away")
    assert marks.read(batch) is None
    assert not client().exists(lease_key(batch))
    assert reports() == [f"{batch} {lease.GIVEN_UP}".encode()]
    with pytest.raises(lease.LeaseLost), lease.held(batch, "process 1"):
        pytest.fail("nobody may work on a batch that was given up")


def test_a_bug_is_told_with_its_exception(batch: str) -> None:
    """Its type and text are what the dead letter will say."""
    with pytest.raises(ZeroDivisionError), lease.held(batch, "process 0"):
        raise ZeroDivisionError("by nothing")
    assert marks.read(batch) == ("Unexpected", "ZeroDivisionError: by nothing")
    assert reports() == [f"{batch} {lease.GIVEN_UP}".encode()]


def test_too_little_memory_does_not_end_the_worker(batch: str) -> None:
    """Celery ends the whole worker at a `MemoryError`, so it goes by another name."""
    with pytest.raises(OutOfMemory), lease.held(batch, "process 0"):
        raise MemoryError
    found = marks.read(batch)
    assert found is not None
    assert found.error.startswith("MemoryError")


def test_a_batch_of_a_worker_that_is_stopped_is_innocent(batch: str) -> None:
    """A worker that is about to end its tasks by force first hands back what they work on."""
    begin(batch, "store")
    lease.hand_back(batch)
    assert marks.read(batch) is None
    assert reports() == [f"{batch} {lease.GIVEN_UP}".encode()]


def test_a_loss_while_the_database_fails_is_no_evidence(batch: str) -> None:
    """One failed access is enough, long before the breaker opens."""
    begin(batch, "store")
    with pytest.raises(psycopg.OperationalError), database.breaker():
        raise psycopg.OperationalError("refused")
    assert marks.read(batch) is None
    with database.access() as connection:
        connection.execute("SELECT 1")
    assert marks.read(batch) is not None


def test_a_hang_is_evidence_whatever_else_fails(batch: str) -> None:
    """Waiting takes no CPU time: a database that fails meanwhile explains nothing."""
    begin(batch, "process 0")
    marks.hung(batch)
    with pytest.raises(psycopg.OperationalError), database.breaker():
        raise psycopg.OperationalError("refused")
    found = marks.read(batch)
    assert found is not None
    assert found.error_type == "WorkerHung"
    with database.access() as connection:
        connection.execute("SELECT 1")


def test_a_flushed_redis_leaves_no_evidence(batch: str) -> None:
    """A missing mark is evidence against nobody."""
    begin(batch, "process 0")
    client().delete(evidence_key(batch))
    assert marks.read(batch) is None
