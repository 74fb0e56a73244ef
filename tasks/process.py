"""First stage, queue `process`: turn the messages of a part into rows, and refuse those that cannot be rows.

The stage runs in this order: validate, evaluate the alert rules on the readings in Kafka order, dead letters,
rows.
"""

import time

import structlog

from tasks import blobs, conflicts, database, dlq, epochs, lease, message_spans, notify, outbox, registry
from tasks.alerts.evaluate import Judged, Judgement, evaluate
from tasks.app import app
from tasks.batch import Message, PartResult, Row
from tasks.cpu_limit import cpu_limit
from tasks.dlq import DeadLetter
from tasks.domain import AnyDomain
from tasks.errors import NotNow
from tasks.metrics import BATCHES_GIVEN_UP, STAGE_SECONDS
from tasks.payload import Refused
from tasks.settings import settings

log = structlog.get_logger()


@app.task(name="tasks.process.process_part", throws=(NotNow,))
def process_part(
    batch: str, part: int, verdict: tuple[str, str] | None = None, *, blind: bool = False
) -> PartResult | None:
    """Accounts for every message: a row for `store`, a confirmed dead letter, or deferred to a later batch.

    With a `verdict` (error type and reason) each becomes a dead letter, unless its row is stored already: its
    workers may have died after that. `blind` looks into none, for even that has killed workers.
    Returns nothing when the batch was given up meanwhile. Raises `NotNow` when a server is away; the
    bridge then sends the batch again. More CPU time than PROCESS_CPU_SECONDS ends the process: then a message
    hangs, and the bridge finds it.
    """
    begun_ns = time.time_ns()
    try:
        with lease.held(batch, f"process {part}"), cpu_limit(settings().process_cpu_seconds):
            with STAGE_SECONDS.time("load"):
                name, first_offsets, messages, incarnation = blobs.load_part(batch, part)
            domain = registry.by_name(name)
            with STAGE_SECONDS.time("validate"):
                stored: list[Message] = []
                if verdict is None:
                    readings, dead = validate(domain, messages)
                else:
                    stored = [] if blind else [one for one in messages if _is_stored(domain, one)]
                    readings, dead = condemn([one for one in messages if one not in stored], *verdict)
            with STAGE_SECONDS.time("evaluate"):
                changes, generation, deferred = judge(domain, readings, epochs.of(incarnation))
            if any(deferred):
                put_off = deferred.soon | deferred.held
                readings = [judged for judged in readings if judged.position not in put_off]
                messages = [message for message in messages if message[:2] not in put_off]
            if dead:
                with STAGE_SECONDS.time("dead_letters"):
                    dlq.send(domain, dead, first_offsets)
            with STAGE_SECONDS.time("keep"):
                blobs.keep_rows(batch, part, [row_of(judged) for judged in readings])
            # Also what an earlier run of this part has added.
            awaited = outbox.awaited({judged.reading.source.user_id for judged in readings})
            followed = message_spans.processed(begun_ns, readings, dead, changes)
    except lease.LeaseLost:
        BATCHES_GIVEN_UP.add(1, "process")
        log.info("batch_given_up", batch=batch, part=part, stage="process")
        return None
    return PartResult(
        batch=batch,
        part=part,
        rows=len(readings) + len(stored),
        dead=len(dead),
        oldest_ms=_oldest_ms(messages),
        followed=followed,
        generation=generation,
        awaited=awaited,
        soon=sorted(deferred.soon),
        held=sorted(deferred.held),
    )


def _oldest_ms(messages: list[Message]) -> int:
    # What is replayed is old on purpose, and says nothing about how quick the pipeline is.
    now_ms = time.time_ns() // 1_000_000
    return min((message.timestamp_ms for message in messages if not message.replay), default=now_ms)


def validate(domain: AnyDomain, messages: list[Message]) -> tuple[list[Judged], list[DeadLetter]]:
    """Each message as a valid reading or as a dead letter, in order."""
    readings: list[Judged] = []
    dead: list[DeadLetter] = []
    validate_one, limits = domain.validate, registry.limits()
    for message in messages:
        try:
            reading = validate_one(message.topic, message.payload, message.timestamp_ms, limits)
        except Refused as refused:
            dead.append(DeadLetter(message, refused.error_type, refused.reason))
        else:
            readings.append(Judged(message, reading))
    return readings, dead


def condemn(messages: list[Message], error_type: str, error: str) -> tuple[list[Judged], list[DeadLetter]]:
    """Each message as a dead letter."""
    return [], [DeadLetter(message, error_type, error) for message in messages]


def _is_stored(domain: AnyDomain, message: Message) -> bool:
    """Whether the row of a condemned message is there. Raises `psycopg.Error`."""
    try:
        readings, _ = validate(domain, [message])
    except Exception as error:  # noqa: BLE001 - it may be what the message is condemned for
        log.info("condemned_not_validated", error=f"{type(error).__name__}: {error}")
        return False
    with database.access() as connection:
        return any(conflicts.is_stored(connection, domain, one.reading.copy_line) for one in readings)


def judge(domain: AnyDomain, readings: list[Judged], epoch: int) -> Judgement:
    """Evaluates the alert rules and the domain's checks, and has what changed told at once.

    `epoch` is that of the topic that the readings come from.
    """
    notify.require_room()
    judgement = evaluate(domain, readings, epoch)
    if judgement.changes:
        notify.wake()
    return judgement


def row_of(judged: Judged) -> Row:
    """The reading as `store` writes it."""
    return Row(judged.message.partition, judged.message.offset, judged.reading.copy_line)
