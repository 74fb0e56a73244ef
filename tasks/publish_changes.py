"""Delivers changes of alerts: to the users over MQTT (queue `process`) and into the tables (queue `db`)."""

from collections.abc import Callable

import psycopg
import structlog

from tasks.alerts.rebuild import rebuild_states
from tasks.app import app
from tasks.errors import NotNow
from tasks.outbox import deliver
from tasks.outbox.stream import LostOutbox
from tasks.servers import backoff

log = structlog.get_logger()


@app.task(name="tasks.notify.deliver_mqtt")
def deliver_mqtt() -> None:
    """Publishes what was not published yet on `users/{user}/alerts`.

    Waits for nothing but the broker, unless Redis has lost its memory: the database then has what is untold.
    """
    if backoff.rests("notify:mqtt"):
        deliver.is_not_queued("mqtt")
        return
    try:
        if _restored(deliver.to_mqtt):
            backoff.succeeded("notify:mqtt")
    except (NotNow, psycopg.Error) as error:
        log.warning(
            "delivery_waits", group="mqtt", error=str(error), again_in_s=backoff.failed("notify:mqtt")
        )


@app.task(name="tasks.notify.deliver_database")
def deliver_database() -> None:
    """Writes to the tables what was not written yet. Waits for nothing but the database."""
    try:
        _restored(deliver.to_database)
        deliver.note_published()
    except (NotNow, psycopg.Error) as error:
        # The breaker takes care of the pauses.
        log.warning("delivery_waits", group="database", error=str(error))


def _restored(deliver_all: Callable[[], bool]) -> bool:
    """Delivers, after a rebuild where the outbox is old: without any reading nobody else would begin one."""
    try:
        return deliver_all()
    except LostOutbox:
        rebuild_states()
        return deliver_all()
