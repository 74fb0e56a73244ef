"""The work behind the queues: validate, judge alerts, store, refuse. `celery -A tasks` finds the app here."""

from tasks.app import app

__all__ = ["app"]
