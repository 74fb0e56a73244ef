"""The evidence that a lost batch leaves: by it the bridge distinguishes a message that kills workers, or that
meets a bug, from a server that is away.

A task marks the batch when it begins to work on it, and removes the mark when it ends in any orderly way. A
mark that outlives its task means that its process was killed in the middle. An orderly end other than success
is noted, too: then the messages are not the reason for the loss. A process that used up its CPU time was
killed as well, and its worker notes that it hung.
"""

import psycopg
import redis
import structlog
from celery.exceptions import SoftTimeLimitExceeded
from confluent_kafka import KafkaException
from kombu.exceptions import OperationalError
from redis.client import Pipeline

from tasks.batch.messages import Verdict
from tasks.errors import NotNow
from tasks.servers.redis_client import DATABASE_BREAKER, client, evidence_key, text
from tasks.settings import settings

log = structlog.get_logger()

HANDED_BACK = "handed_back"
BUG = "bug"
HUNG = "hung"
MOST_TEXT = 1000


def begun(commands: Pipeline, batch: str, stage: str) -> None:
    """Marks the batch as worked on.

    The mark expires: a task that has worked for long waits for a server, and its death is not evidence.
    """
    commands.hset(evidence_key(batch), stage, 1)
    commands.expire(evidence_key(batch), 3 * settings().lease_seconds)


def ended(commands: Pipeline | redis.Redis, batch: str, stage: str) -> None:
    """Removes the mark."""
    commands.hdel(evidence_key(batch), stage)


def failed(commands: Pipeline, batch: str, stage: str, error: BaseException) -> None:
    """Removes the mark, and notes whether the batch was handed back for now or met a bug."""
    ended(commands, batch, stage)
    if is_not_now(error):
        commands.hset(evidence_key(batch), HANDED_BACK, 1)
    else:
        commands.hset(evidence_key(batch), BUG, f"{type(error).__name__}: {error}"[:MOST_TEXT])
    commands.expire(evidence_key(batch), 3 * settings().lease_seconds)


def hung(batch: str) -> None:
    """Notes that a process used up its CPU time on the batch. Does nothing without Redis."""
    try:
        client().hset(evidence_key(batch), HUNG, 1)
        client().expire(evidence_key(batch), 3 * settings().lease_seconds)
    except redis.RedisError as error:
        log.warning("hang_not_noted", batch=batch, error=str(error))


def read(batch: str) -> Verdict | None:
    """The evidence against the messages of a lost batch; None in most cases.

    While the database fails only a bug or a hang counts, and without Redis there is no evidence.
    """
    try:
        notes = {text(name): text(value) for name, value in client().hgetall(evidence_key(batch)).items()}
        if BUG in notes:
            return Verdict("Unexpected", notes[BUG])
        if HUNG in notes:
            # Waiting for a server takes no CPU time: whatever is away, the messages are to blame.
            seconds = settings().process_cpu_seconds
            return Verdict("WorkerHung", f"its processing did not end within {seconds:g} s of CPU time")
        if not notes or HANDED_BACK in notes or database_fails():
            return None
    except redis.RedisError as error:
        log.warning("evidence_not_read", batch=batch, error=str(error))
        return None
    stages = ", ".join(sorted(notes))
    return Verdict("WorkerLost", f"the process that handled it was killed several times, in {stages}")


def is_not_now(error: BaseException) -> bool:
    """Whether the error is about servers, the network or this process's end.

    Any other is a bug: it is about the messages, and repeating the work will not help.
    """
    servers = (NotNow, redis.RedisError, psycopg.Error, KafkaException, OperationalError, OSError)
    # An exception that is not an `Exception` is a request to stop the process.
    return isinstance(error, (*servers, SoftTimeLimitExceeded)) or not isinstance(error, Exception)


def database_fails() -> bool:
    """Whether the last access of any worker to the database has failed, by their circuit breaker."""
    return bool(int(client().hget(DATABASE_BREAKER, "failures") or 0))
