"""First stage, queue `process`: turns the messages of a part into rows, or refuses them.

The stage runs in this order: validate, evaluate the alert rules on the readings in Kafka order, dead letters,
rows.
"""

import time

import structlog

from tasks import registry
from tasks.alerts.evaluate import judge
from tasks.app import app
from tasks.batch import epochs, handover, lease
from tasks.batch.cpu_limit import cpu_limit
from tasks.batch.messages import Message, PartResult
from tasks.dead_letters import sender
from tasks.devices import activity, presence
from tasks.errors import NotNow
from tasks.observe.metrics.worker import BATCHES_GIVEN_UP, STAGE_SECONDS
from tasks.outbox import stream
from tasks.rows import hints, spans
from tasks.rows.validate import condemn, is_stored, row_of, validate
from tasks.settings import settings

log = structlog.get_logger()


@app.task(name="tasks.process.process_part", throws=(NotNow,))
def process_part(
    batch: str, part: int, verdict: tuple[str, str] | None = None, *, blind: bool = False
) -> PartResult | None:
    """Accounts for every message: rows for `store`, a confirmed dead letter, ignored, or deferred to later.

    With a `verdict` (error type and reason) each message becomes a dead letter, unless its row is stored
    already: its workers may have died after that. `blind` does not look into the messages, because even that
    has killed workers. Returns None when the batch was given up meanwhile. Raises `NotNow`,
    `redis.RedisError` or `psycopg.Error` when a server is away; the bridge then sends the batch again. Using
    more CPU time than PROCESS_CPU_SECONDS kills the worker's child: a message hangs, and the bridge isolates
    it.
    """
    begun_ns = time.time_ns()
    try:
        with lease.held(batch, f"process {part}"), cpu_limit(settings().process_cpu_seconds):
            with STAGE_SECONDS.time("load"):
                name, first_offsets, messages, incarnation = handover.load_part(batch, part)
            domain = registry.by_name(name)
            with STAGE_SECONDS.time("validate"):
                stored: list[Message] = []
                if verdict is None:
                    readings, dead, partial, ignored, wrong, said = validate(domain, messages)
                    hints.give(domain, readings)
                else:
                    stored = [] if blind else [one for one in messages if is_stored(domain, one)]
                    condemned = condemn([one for one in messages if one not in stored], *verdict)
                    readings, dead, partial, ignored, wrong, said = condemned
            with STAGE_SECONDS.time("evaluate"):
                changes, generation, deferred, by_source = judge(domain, readings, epochs.of(incarnation))
            if any(deferred):
                put_off = deferred.soon | deferred.held
                readings = [received for received in readings if received.position not in put_off]
                messages = [message for message in messages if message[:2] not in put_off]
                by_source = activity.without(by_source, put_off)
                partial = [one for one in partial if one[0].message[:2] not in put_off]
            if dead:
                with STAGE_SECONDS.time("dead_letters"):
                    sender.send(domain, dead, first_offsets)
            presence.note(domain.name, said)
            with STAGE_SECONDS.time("keep"):
                rows = [row_of(received) for received in readings]
                handover.keep_rows(batch, part, rows, activity.pack(domain.name, by_source))
            # Includes what an earlier run of this part has added.
            awaited = stream.awaited({user_id for user_id, _ in by_source})
            followed = spans.processed(begun_ns, readings, dead, changes)
    except lease.LeaseLost:
        BATCHES_GIVEN_UP.add(1, "process")
        log.info("batch_given_up", batch=batch, part=part, stage="process")
        return None
    return PartResult(
        batch=batch,
        part=part,
        rows=len(messages) - len(dead) - len(partial),
        dead=len(dead) + len(partial),
        readings=len(readings) + len(stored),
        wrong=wrong + sum(some for _, some in partial),
        ignored=len(ignored),
        partial=[letter.message[:2] for letter, _ in partial],
        oldest_ms=_oldest_ms(messages),
        followed=followed,
        generation=generation,
        awaited=awaited,
        soon=sorted(deferred.soon),
        held=sorted(deferred.held),
    )


def _oldest_ms(messages: list[Message]) -> int:
    # Replayed messages are old on purpose, and those that the broker delivers again waited for a gateway.
    # Neither says anything about the latency of the pipeline.
    now_ms = time.time_ns() // 1_000_000
    return min((message.timestamp_ms for message in messages if not message.replay), default=now_ms)
