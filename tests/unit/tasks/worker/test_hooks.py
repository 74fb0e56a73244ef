"""Workers and beat load what hangs on Celery's signals before Celery sends the first of them."""

import subprocess
import sys

import psycopg
import pytest
import redis
from celery import signals

from tasks.servers import database
from tasks.worker import hooks


def test_a_worker_watches_over_itself() -> None:
    """What Celery imports before a worker or beat begins brings the watch over deaf workers, and the rest."""
    script = "import sys; from tasks import app; app.loader.init_worker(); sys.exit('{}' not in sys.modules)"
    for name in ("stop", "monitoring", "schedule"):
        code = script.format(f"tasks.worker.{name}")
        assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


@pytest.mark.parametrize("away", [set(), {"redis"}, {"database"}], ids=str)
def test_a_child_connects_before_its_first_task_and_begins_also_without_a_server(
    monkeypatch: pytest.MonkeyPatch, away: set[str]
) -> None:
    """To Redis and to the database; where one is away, the first task says so."""
    asked: list[str] = []

    class Server:
        """Both, as the child asks for them."""

        def ping(self) -> None:
            """Redis is asked."""
            asked.append("redis")
            if "redis" in away:
                raise redis.ConnectionError

        def __enter__(self) -> None:
            asked.append("database")
            if "database" in away:
                raise psycopg.OperationalError

        def __exit__(self, *_: object) -> None:
            """Nothing is open."""

    monkeypatch.setattr(hooks, "client", Server)
    monkeypatch.setattr(database, "access", Server)
    # Celery gives back what a receiver raised.
    answers = dict(signals.worker_process_init.send(sender=None))
    assert answers[hooks._connect] is None
    assert asked == (["redis"] if "redis" in away else ["redis", "database"])
