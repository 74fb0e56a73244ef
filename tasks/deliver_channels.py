"""Sends alerts to the users' channels: `deliver` on the queue `notify`; the task that wakes it, on `db`."""

import json

import psycopg
import redis
import structlog

from tasks.app import app
from tasks.channels import pump, quiet, tables, trial, wake
from tasks.channels.outcome import Sent
from tasks.observe.metrics import worker as metrics
from tasks.rules.answers import Answer, Reply, refusal
from tasks.servers import database
from tasks.servers.redis_client import answers_key, client, request_key

log = structlog.get_logger()

KEEP_ANSWERS_SECONDS = 60


@app.task(name="tasks.channels.deliver")
def deliver() -> None:
    """Sends what is due. If the database is away, a later run does it."""
    wake.is_not_queued()
    if pump.run(wake.wake):
        # There may be more, beyond the time of one run.
        wake.wake()


@app.task(name="tasks.channels.test")
def try_out(user_id: str, name: str, request: str, control: str) -> None:
    """Tries a channel, and answers how that ended; once, and only while somebody waits for the answer."""
    if not client().delete(request_key(request)):
        return
    try:
        outcome = trial.tell(user_id, name)
        why = None if isinstance(outcome, Sent) else outcome.why
    except trial.CannotTry as error:
        why = str(error)
    except psycopg.Error as error:
        log.warning("channels_wait", error=str(error).strip())
        why = "the database is away"
    answer = Answer(ok=True) if why is None else refusal([{"path": "channel", "message": why}])
    client().rpush(answers_key(control), json.dumps(Reply(request=request, answer=answer)))
    client().expire(answers_key(control), KEEP_ANSWERS_SECONDS)


@app.task(name="tasks.channels.watch")
def watch() -> None:
    """Holds what a quiet window covers, looks for deliveries that are due, and has them sent.

    Beat sends it every few seconds.
    """
    try:
        with database.access() as connection:
            quiet.settle(connection)
            look = tables.look(connection)
        wake.note(look)
    except (psycopg.Error, redis.RedisError) as error:
        log.warning("channels_wait", error=str(error).strip())
        return
    if look.untaken is not None:
        wake.wake()


@app.task(name="tasks.channels.tidy")
def tidy() -> None:
    """Gives up what has waited for too long, and drops what is old. Beat sends it every few minutes."""
    try:
        with database.access() as connection:
            expired = tables.tidy(connection)
    except psycopg.Error as error:
        log.warning("channels_wait", error=str(error).strip())
        return
    if expired:
        log.warning("channels_given_up", deliveries=expired)
        metrics.CHANNEL_ATTEMPTS.add(expired, "expired")
