"""Between a lane and the workers: sends a batch as a chord, receives its report, notices that it is lost."""

import json
import queue
import threading
import time
from contextlib import suppress
from typing import NamedTuple
from uuid import uuid4

import redis
import structlog
from celery import chord
from kombu.exceptions import OperationalError

from ingest.lanes.lane import Batch
from tasks import calls
from tasks.batch.messages import KEEP_SECONDS, NOTHING_DEFERRED, Deferred
from tasks.observe import tracing
from tasks.observe.metrics import bridge as metrics
from tasks.observe.tracing import child
from tasks.servers import counters
from tasks.servers.pauses import pauses
from tasks.servers.redis_client import (
    client,
    done_key,
    evidence_key,
    lease_key,
    part_key,
    rows_key,
    server_run,
    text,
)
from tasks.settings import settings

log = structlog.get_logger()

# A batch's end deletes the lease and reports in one step, but the report travels by another connection.
REPORT_SECONDS = 1.0
# One batch at a time is on trial, of all bridges: so a worker that dies with several batches in its hands
# cannot make an innocent one look guilty again and again. A bridge that dies leaves the turn to others then.
TRIAL = "sluice:trial"
TRIAL_SECONDS = 30
TRIAL_PAUSE_SECONDS = 0.1
MAX_PAUSE_SECONDS = 5.0


class BatchReport(NamedTuple):
    """How many messages of a batch are accounted for; None if its workers gave it up.

    The deferred ones among them are not finished.
    """

    batch: str
    total: int | None
    deferred: Deferred = NOTHING_DEFERRED

    @classmethod
    def parse(cls, said: str) -> "BatchReport":
        """The report as `store` or `lease` wrote it."""
        batch, total, *more = said.split(maxsplit=2)
        deferred = (frozenset(map(tuple, some)) for some in json.loads(more[0])) if more else ()
        return cls(batch, int(total) if total.isdigit() else None, Deferred(*deferred))


class Dispatcher:
    """Sends batches and follows them. One thread of its own waits for the workers' reports."""

    def __init__(self) -> None:
        self.bridge = uuid4().hex[:12]
        self._reports: queue.SimpleQueue[BatchReport] = queue.SimpleQueue()
        self._arrived: list[BatchReport] = []
        self._closing = threading.Event()
        self._listener = threading.Thread(target=self._listen, name="reports", daemon=True)
        self._listener.start()

    def send(self, batch: Batch, lane: int, now: float) -> bool:
        """Sends the batch, under a new id, or sets `retry_at`: servers are away, or another is on trial."""
        self._forget(batch)
        if batch.suspect and not self._begins_trial(lane):
            batch.retry_at = now + TRIAL_PAUSE_SECONDS
            return False
        batch.id = f"{lane}-{uuid4().hex[:12]}"
        batch.attempt += 1
        batch.lease_missing_since = None
        put = False
        try:
            self._put(batch)
            put = True
            # The batch is a trace of its own; the sampled messages in it are linked with it.
            batch.span = child(None, sampled=True) if batch.traced and tracing.on() else None
            with tracing.within(batch.span):
                self._call(batch)
        except (redis.RedisError, OperationalError) as error:
            batch.retry_at = now + batch.pause(0.1)
            log.warning("batch_not_sent", lane=lane, attempt=batch.attempt, error=str(error))
            if put:
                self._forget(batch)
            if batch.suspect:
                self.end_trial(lane)
            batch.id = ""
            return False
        batch.sent_at, batch.sent_in = now, server_run()
        metrics.SENT.add(1)
        metrics.BATCH_SIZE.observe(batch.total)
        log.debug("batch_sent", batch=batch.id, lane=lane, messages=batch.total, attempt=batch.attempt)
        return True

    def note_finished(self, batch: Batch) -> None:
        """Counts and records a batch that is done."""
        seconds = time.monotonic() - batch.sent_at
        metrics.BATCH_SECONDS.observe(seconds)
        if batch.span is not None:
            attributes: tracing.Attributes = {
                "batch": batch.id,
                "messages": batch.total,
                "attempt": batch.attempt,
            }
            tracing.record("batch", batch.span, None, time.time_ns() - int(seconds * 1e9), attributes)

    def is_alive(self) -> bool:
        """Whether the thread that waits for reports is alive."""
        return self._listener.is_alive()

    def wait(self, seconds: float) -> None:
        """Returns when there is a report, or after this many seconds."""
        with suppress(queue.Empty):
            self._arrived.append(self._reports.get(timeout=seconds))

    def reports(self) -> list[BatchReport]:
        """The workers' reports since the last call."""
        reports, self._arrived = self._arrived, []
        while not self._reports.empty():
            reports.append(self._reports.get_nowait())
        return reports

    def lost(self, batches: list[Batch], now: float) -> list[Batch]:
        """Those of the sent batches whose lease has been gone for longer than a report can take.

        Where Redis has failed over the lease may be there still, but nobody knows whether the tasks are.
        """
        if not batches:
            return []
        try:
            leases = client().mget([lease_key(batch.id) for batch in batches])
            if any(batch.suspect for batch in batches):
                client().expire(TRIAL, TRIAL_SECONDS)
        except redis.RedisError as error:
            log.warning("leases_not_read", error=str(error))
            return []
        gone = []
        run = server_run()
        for batch, held in zip(batches, leases, strict=True):
            if held is not None and batch.sent_in == run:
                batch.lease_missing_since = None
            elif batch.lease_missing_since is None:
                batch.lease_missing_since = now
            elif now - batch.lease_missing_since >= REPORT_SECONDS:
                gone.append(batch)
        self._acquit([batch for batch in gone if batch.sent_in != run])
        return gone

    def give_up(self, batch: Batch) -> None:
        """Takes the batch back from the workers: its tasks find no lease and stop."""
        self._forget(batch)
        batch.id = ""

    def end_trial(self, lane: int) -> None:
        """Lets another suspect have its turn."""
        try:
            if text(client().get(TRIAL) or b"") == f"{self.bridge}/{lane}":
                client().delete(TRIAL)
        except redis.RedisError as error:
            log.warning("trial_not_ended", error=str(error))

    def _acquit(self, batches: list[Batch]) -> None:
        # A task that is still at work has left its mark, which would look like its death.
        if batches:
            try:
                client().unlink(*(evidence_key(batch.id) for batch in batches))
            except redis.RedisError as error:
                log.warning("evidence_not_removed", error=str(error))

    def _begins_trial(self, lane: int) -> bool:
        try:
            return bool(client().set(TRIAL, f"{self.bridge}/{lane}", nx=True, ex=TRIAL_SECONDS))
        except redis.RedisError as error:
            log.warning("trial_not_begun", error=str(error))
            return False

    def close(self) -> None:
        """Ends the listening thread."""
        self._closing.set()
        self._listener.join()

    def _put(self, batch: Batch) -> None:
        # Each further attempt gives the workers longer before the batch counts as gone.
        lease_seconds = settings().lease_seconds * min(batch.attempt, 6)
        pipeline = client().pipeline(transaction=False)
        for number, blob in enumerate(batch.parts):
            pipeline.set(part_key(batch.id, number), blob, ex=KEEP_SECONDS)
        pipeline.set(lease_key(batch.id), self.bridge, ex=lease_seconds)
        if batch.attempt > 1:
            counters.add(pipeline, {"resent": 1})
        pipeline.execute()

    def _call(self, batch: Batch) -> None:
        parts = len(batch.parts)
        header = [
            calls.process_part(batch.id, number, batch.verdict, blind=batch.blind) for number in range(parts)
        ]
        body = calls.store_batch(batch.id, parts, batch.total, self.bridge, batch.domain)
        # For Flower: the results of the parts say nothing that the batch does not.
        body = body.set(argsrepr=f"({parts} parts)")  # type: ignore[call-arg]  # not in the stubs
        if parts == 1:
            # A chord of one is a chain at half the price.
            (header[0] | body).apply_async()
        else:
            chord(header, body).apply_async()

    def _forget(self, batch: Batch) -> None:
        if not batch.id:
            return
        keys = [lease_key(batch.id), evidence_key(batch.id)]
        for number in range(len(batch.parts)):
            keys += [part_key(batch.id, number), rows_key(batch.id, number)]
        try:
            client().unlink(*keys)
        except redis.RedisError as error:
            log.warning("batch_not_forgotten", batch=batch.id, error=str(error))

    def _listen(self) -> None:
        waits = pauses(0.1, MAX_PAUSE_SECONDS)
        while not self._closing.is_set():
            try:
                reported = client().blpop([done_key(self.bridge)], timeout=1)
            except redis.RedisError as error:
                pause = next(waits)
                log.warning("reports_not_heard", error=str(error), again_in_s=pause)
                time.sleep(pause)
                continue
            waits = pauses(0.1, MAX_PAUSE_SECONDS)
            if reported:
                self._reports.put(BatchReport.parse(text(reported[1])))
