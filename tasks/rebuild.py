"""Rebuilds the alert states from the tables, for an operator who has restored the database."""

from tasks.alerts.rebuild import rebuild_states
from tasks.app import app
from tasks.errors import NotNow
from tasks.servers.redis_client import ALERTS_READY, client


@app.task(name="tasks.alerts.rebuild", throws=(NotNow,))
def rebuild_all() -> None:
    """Drops the states and restores them from the tables. Raises `NotNow`, `redis.RedisError`."""
    # From here on no worker can commit a change before it has rebuilt the states.
    client().delete(ALERTS_READY)
    rebuild_states()
