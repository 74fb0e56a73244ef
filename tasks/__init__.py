"""The work behind the queues: validate, store, dead letters. `celery -A tasks` finds the app here."""

from tasks.app import app

__all__ = ["app"]
