"""Spans of `process` and `store`: one for each followed message, one for the flush of its batch."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from tasks import registry
from tasks.batch.messages import Message, PartResult, owner_of
from tasks.dead_letters.sender import DeadLetter
from tasks.domain import routing
from tasks.domain.payload import Refused
from tasks.observe import tracing
from tasks.observe.tracing import Attributes, child, is_sampled, parse
from tasks.rows.validate import Received
from tasks.rules.change import Change


def processed(
    begun_ns: int, readings: list[Received], dead: list[DeadLetter], changes: Iterable[Change]
) -> list[str]:
    """Records `worker_process` for the messages of a part that were sampled, refused, or changed an alert.

    Returns those that became rows, for the flush to refer to.
    """
    if not tracing.on():
        return []
    alerting = {change.position for change in changes if change.position}
    followed: list[str] = []
    last: Message | None = None
    for received in readings:
        message, reading, _ = received
        alerts = bool(alerting) and (message.partition, received.place) in alerting
        # Of several readings of a message, the first and those that change an alert.
        if alerts or (message is not last and is_sampled(message.traceparent)):
            last = message
            named: dict[str, str | int] = reading.source._asdict()
            if (sequence_id := reading.values.get("sequence_id")) is not None:
                named["sequence_id"] = sequence_id
            outcome = "alert" if alerts else "row"
            followed.append(_record(message.traceparent, begun_ns, {**named, "outcome": outcome}))
    for letter in dead:
        attributes: dict[str, str | int] = {"outcome": "dead_letter", "error_type": letter.error_type}
        with suppress(Refused):  # the topic may be the reason for the refusal
            topic, owner = letter.message.topic, owner_of(letter.message)
            attributes |= routing.domain_of(topic, registry.domains()).parse_topic(topic, owner)._asdict()
        _record(letter.message.traceparent, begun_ns, attributes, error=letter.error)
    return followed


@contextmanager
def flushing(batch: str, rows: int, parts: Iterable[PartResult]) -> Iterator[None]:
    """Records `batch_flush` with a link to every followed message, and `store_telemetry_batch` in it.

    Records nothing when the batch is not traced and none of its messages is followed.
    """
    parent = tracing.current()
    followed = [traceparent for part in parts for traceparent in part.get("followed", ())]
    if not tracing.on() or not (parent or followed):
        yield
        return
    flush = child(parent, sampled=True)
    store = child(flush, sampled=True)
    attributes: Attributes = {"batch": batch, "rows": rows}
    begun_ns, error = time.time_ns(), ""
    try:
        with tracing.within(store):
            yield
    except BaseException as raised:
        error = type(raised).__name__
        raise
    finally:
        tracing.record("store_telemetry_batch", store, flush, begun_ns, attributes, error=error)
        links = [context for traceparent in followed if (context := parse(traceparent))]
        tracing.record("batch_flush", flush, parent, begun_ns, attributes, links, error=error)


def _record(traceparent: str, begun_ns: int, attributes: Attributes, *, error: str = "") -> str:
    parent = parse(traceparent)
    context = child(parent, sampled=True)
    tracing.record("worker_process", context, parent, begun_ns, attributes, error=error)
    return context.traceparent()
