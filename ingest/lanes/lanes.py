"""All lanes of a bridge, and what becomes of their batches: sent, finished, lost, sent again, dropped."""

import time
from collections.abc import Iterator

import structlog

from ingest.lanes.dispatch import BatchReport, Dispatcher
from ingest.lanes.lane import Batch, BatchLimits, Lane
from tasks.batch import marks
from tasks.observe.metrics import bridge as metrics
from tasks.registry import Domains
from tasks.settings import Settings

log = structlog.get_logger()


class Lanes:
    """The lanes of each domain's topic. The dispatcher sends their batches and hears of their end."""

    def __init__(self, chosen: Settings, served: Domains, dispatcher: Dispatcher) -> None:
        limits = BatchLimits(
            messages=chosen.batch_max_messages,
            size=chosen.batch_max_bytes,
            linger=chosen.batch_linger_ms / 1000,
            part_messages=chosen.batch_part_messages,
            max_parts=chosen.batch_max_parts,
        )
        self._dispatcher = dispatcher
        self._topic_of = {domain.name: domain.qualified(chosen.kafka_topic) for domain in served}
        self.of_topic = {
            topic: [Lane(limits, domain) for _ in range(chosen.lanes)]
            for domain, topic in self._topic_of.items()
        }
        self.all = [lane for lanes in self.of_topic.values() for lane in lanes]

    def show(self) -> None:
        """Serves the metrics of the lanes."""
        metrics.WAITING.read_from(lambda: sum(len(lane.waiting) + lane.aside.count for lane in self.all))
        metrics.IN_FLIGHT.read_from(lambda: sum(lane.batch is not None for lane in self.all))

    @property
    def sent(self) -> list[Batch]:
        """The batches that are with the workers."""
        return [lane.batch for lane in self.all if lane.batch and lane.batch.id]

    def send(self) -> None:
        """Sends the batches that are ready, and again those that were lost, when their pause is over."""
        now = time.monotonic()
        for number, lane in enumerate(self.all):
            batch = lane.batch or (lane.take(now) if lane.ready(now) else None)
            if batch and not batch.id and now >= batch.retry_at:
                self._dispatcher.send(batch, number, now)

    def finish(self) -> Iterator[dict[tuple[str, int], int]]:
        """Ends the reported batches; yields the offsets to commit of each, by topic and partition."""
        for report in self._dispatcher.reports():
            for number, lane in enumerate(self.all):
                # A report of a batch that was given up meanwhile finds no lane.
                if not lane.batch or lane.batch.id != report.batch:
                    continue
                if report.total is None:
                    self._lose(number, lane)
                # A report that counts other messages does not end the batch.
                elif report.total == lane.batch.total:
                    yield self._finish(number, lane, report)

    def find_lost(self, now: float) -> None:
        """Takes back the batches whose workers are gone. They are due again, at once or after a pause."""
        gone = self._dispatcher.lost(self.sent, now)
        for number, lane in enumerate(self.all):
            if any(lane.batch is batch for batch in gone):
                self._lose(number, lane)

    def drop(self) -> None:
        """Forgets all messages; those in flight are taken back from the workers."""
        for number, lane in enumerate(self.all):
            if lane.batch:
                log.info("batch_dropped", batch=lane.batch.id, messages=lane.batch.total)
                self._dispatcher.give_up(lane.batch)
                if lane.batch.suspect:
                    self._dispatcher.end_trial(number)
            lane.drop()

    def _finish(self, number: int, lane: Lane, report: BatchReport) -> dict[tuple[str, int], int]:
        assert lane.batch is not None
        if lane.batch.suspect:
            self._dispatcher.end_trial(number)
        self._dispatcher.note_finished(lane.batch)
        topic = self._topic_of[lane.domain]
        commits = lane.finish(report.deferred, time.monotonic())
        for reason, messages in report.deferred._asdict().items():
            metrics.DEFERRED.add(len(messages), reason)
        return {(topic, partition): offset for partition, offset in commits.items()}

    def _lose(self, number: int, lane: Lane) -> None:
        batch = lane.batch
        assert batch is not None
        metrics.BATCHES_LOST.add(1)
        found = marks.read(batch.id)
        log.warning(
            "batch_lost",
            batch=batch.id,
            attempt=batch.attempt,
            messages=batch.total,
            evidence=found and found.error_type,
        )
        if batch.suspect:
            self._dispatcher.end_trial(number)
        self._dispatcher.give_up(batch)
        # The first repetition goes at once, each further one waits longer.
        batch.retry_at = time.monotonic() + (batch.pause(0.2) if batch.attempt > 1 else 0)
        condemned = batch.verdict is not None
        if lane.lost(found) is not batch:
            log.warning("batch_halved", lane=number, messages=batch.total)
        elif batch.verdict and not condemned:
            metrics.CONDEMNED.add(1, batch.verdict.error_type)
            message = batch.taken[0].message
            log.error(
                "message_condemned",
                partition=message.partition,
                offset=message.offset,
                topic=message.topic,
                **batch.verdict._asdict(),
            )
