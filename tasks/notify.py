"""Delivers changes of alerts: to the users over MQTT (queue `process`) and into the tables (queue `db`)."""

import structlog

from tasks.app import app
from tasks.errors import NotNow
from tasks.outbox import deliver
from tasks.servers import backoff

log = structlog.get_logger()


@app.task(name="tasks.notify.deliver_mqtt")
def deliver_mqtt() -> None:
    """Publishes what was not published yet on `users/{user}/alerts`. Waits for nothing but the broker."""
    if backoff.rests("notify:mqtt"):
        deliver.is_not_queued("mqtt")
        return
    try:
        if deliver.to_mqtt():
            backoff.succeeded("notify:mqtt")
    except NotNow as error:
        log.warning(
            "delivery_waits", group="mqtt", error=str(error), again_in_s=backoff.failed("notify:mqtt")
        )


@app.task(name="tasks.notify.deliver_database")
def deliver_database() -> None:
    """Writes to the tables what was not written yet. Waits for nothing but the database."""
    try:
        deliver.to_database()
        deliver.note_told()
    except NotNow as error:
        # The breaker takes care of the pauses.
        log.warning("delivery_waits", group="database", error=str(error))
