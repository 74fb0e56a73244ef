"""The bridge: Kafka to Celery.

It groups messages into batches, one in flight per lane, and commits the offsets of stored batches. It never
looks inside a payload and stores nothing: Kafka delivers again what is not committed. A batch belongs to one
domain, because each domain has a topic and lanes of its own.
"""

import signal
import sys
import time
from types import FrameType

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from ingest.health.kafka_statistics import KafkaStatistics
from ingest.health.lost_brokers import LostBrokers, finds_brokers
from ingest.lanes.aside import Gathered
from ingest.lanes.dispatch import Dispatcher
from ingest.lanes.lane import Lane, partitions_to_pause
from ingest.lanes.lanes import Lanes
from ingest.partitions import group_consumer
from ingest.partitions.assignment import Partition, Topics, report_starts
from ingest.partitions.topic_ids import TopicIds
from tasks.batch.kafka_record import message_of
from tasks.observe import garbage_collector, logs, tracing
from tasks.observe.metrics import bridge as metrics
from tasks.observe.port import Monitoring, Pulse, first_problem
from tasks.registry import Domains, InvalidDomains, domains
from tasks.servers import clocks
from tasks.settings import Settings, settings

log = structlog.get_logger()

BUSY_POLL_SECONDS = 0.002
# While every lane has a batch in flight nothing can be sent before a worker reports.
REPORT_SECONDS = 0.01
IDLE_POLL_SECONDS = 0.25
# While every lane has this many batches waiting, the bridge polls only to stay in its group.
ENOUGH_BATCHES = 2
LEASE_CHECK_SECONDS = 0.5
# Longer than a rebalance may wait for batches, and longer than Redis and Kafka together may take to time out.
STUCK_SECONDS = 90.0


class BridgeFailed(Exception):
    """The bridge cannot go on; its supervisor restarts it."""


class Bridge:
    """One consumer of the group, with its lanes."""

    def __init__(self, chosen: Settings, served: Domains, dispatcher: Dispatcher) -> None:
        self._settings = chosen
        self._dispatcher = dispatcher
        self._lanes = Lanes(chosen, served, dispatcher)
        self._assigned: dict[Partition, Lane] = {}
        self._paused: set[Partition] = set()
        # The offset after the last finished message of each partition, since the partitions were assigned.
        self._finished: dict[Partition, int] = {}
        # The metadata that is committed with the offsets.
        self._notes: dict[Partition, str] = {}
        self._topics = Topics(chosen)
        self._commit_failed = False
        self._leases_checked = 0.0
        self._stopping = False
        self._consumed = 0
        self._statistics = KafkaStatistics(self._lanes.of_topic)
        self._lost_brokers = LostBrokers(self._statistics.reachable, lambda: finds_brokers(chosen))
        self._pulse = Pulse("the bridge", STUCK_SECONDS)
        self._ids = TopicIds()
        self._consumer = self._connect()

    def show(self) -> None:
        """Serves this bridge's metrics and health. It is ready while it has partitions and Kafka answers."""
        metrics.CONSUMED.read_from(lambda: self._consumed)
        metrics.LAG.read_from(lambda: self._statistics.lag(self._assigned))
        metrics.ASSIGNED.read_from(lambda: len(self._assigned))
        metrics.PAUSED.read_from(lambda: len(self._paused))
        self._lanes.show()
        port = self._settings.bridge_metrics_port
        live = self._pulse.check
        clocks.watch()
        Monitoring("bridge", port, live=live, ready=first_problem(live, self._why_not_ready))

    def _why_not_ready(self) -> str:
        if not self._statistics.reachable():
            return "Kafka is away"
        return "" if self._assigned else "no partitions are assigned to it"

    def stop(self, _signal: int, _frame: FrameType | None) -> None:
        """Asks the loop to end: it sends nothing new, and waits for what is in flight."""
        self._stopping = True

    def run(self) -> None:
        """Moves messages until `stop`. Raises `KafkaException` when the consumer cannot go on."""
        self._subscribe()
        log.info("bridge_started", topics=list(self._lanes.of_topic), lanes=len(self._lanes.all))
        while not self._stopping:
            self._pulse.turn()
            if self._lost_brokers():
                raise BridgeFailed("this Kafka client has lost all brokers, although some are reachable")
            self._gather()
            self._start_over()
            self._finish()
            self._check_leases()
            self._lanes.send()
            self._pause()
        self._await_lanes(self._settings.stop_grace_seconds)
        self._consumer.close()
        log.info("bridge_stopped")

    def _connect(self) -> Consumer:
        return group_consumer.connect(
            self._settings, self._ids, on_statistics=self._statistics.update, on_commit=self._on_commit
        )

    def _subscribe(self) -> None:
        self._consumer.subscribe(
            list(self._lanes.of_topic),
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )

    def _gather(self) -> None:
        now = time.monotonic()
        for record in self._trusted(self._poll()):
            error = record.error()
            if error is not None:
                self._complain(error)
                continue
            lane = self._assigned.get((record.topic(), record.partition()))  # type: ignore[arg-type]
            if lane is None:
                continue  # revoked while this very call returned it
            self._consumed += 1
            lane.gather(Gathered(record.key() or b"", message_of(record)), now)

    def _trusted(self, records: list[KafkaMessage]) -> list[KafkaMessage]:
        """The records without those of recreated topics, which are soon read from their beginning."""
        made_again = self._ids.others(self._topics.ids)
        if not made_again:
            return records
        self._topics.doubt()
        return [record for record in records if record.error() or record.topic() not in made_again]

    def _poll(self) -> list[KafkaMessage]:
        most = self._settings.batch_max_messages
        if all(lane.holds(ENOUGH_BATCHES) for lane in self._lanes_in_use()):
            # The client must be polled even now, or the group would consider this bridge dead.
            self._dispatcher.wait(BUSY_POLL_SECONDS)
            return list(self._consumer.consume(1, 0))
        if all(lane.batch for lane in self._lanes_in_use()):
            self._dispatcher.wait(REPORT_SECONDS)
            return list(self._consumer.consume(most, 0))
        if any(lane.batch or lane.waiting or lane.aside for lane in self._lanes.all):
            return list(self._consumer.consume(most, BUSY_POLL_SECONDS))
        # `poll` returns at the first message for an idle lane; `consume` would wait for more.
        first = self._consumer.poll(IDLE_POLL_SECONDS)
        return [first, *self._consumer.consume(most, 0)] if first is not None else []

    def _lanes_in_use(self) -> list[Lane]:
        # Without a partition one empty lane stands for all, so that the bridge waits for messages.
        return list(self._assigned.values()) or self._lanes.all[:1]

    def _finish(self, *, wait: bool = False) -> None:
        for next_offsets in self._lanes.finish():
            self._finished |= next_offsets
            self._commit(next_offsets, wait=wait)

    def _commit(self, next_offsets: dict[Partition, int], *, wait: bool) -> None:
        offsets = [
            TopicPartition(*one, offset, self._notes.get(one))
            for one, offset in next_offsets.items()
            if one in self._assigned
        ]
        if not offsets:
            return
        try:
            if wait:
                self._consumer.commit(offsets=offsets, asynchronous=False)
            else:
                self._consumer.commit(offsets=offsets)
        except KafkaException as error:
            # At worst the messages are processed twice.
            self._on_commit(error.args[0], offsets)

    def _check_leases(self) -> None:
        now = time.monotonic()
        if now - self._leases_checked < LEASE_CHECK_SECONDS:
            return
        self._leases_checked = now
        self._commit_again()
        if not self._dispatcher.is_alive():
            raise BridgeFailed("the thread that receives the workers' reports has ended; see the log above")
        self._lanes.find_lost(now)

    def _pause(self) -> None:
        wanted = partitions_to_pause(self._assigned, self._paused)
        if wanted == self._paused:
            return
        self._consumer.pause([TopicPartition(*one) for one in wanted - self._paused])
        self._consumer.resume([TopicPartition(*one) for one in self._paused - wanted])
        self._paused = wanted

    def _await_lanes(self, seconds: float) -> None:
        """Waits for batches in flight and commits them; drops the rest, which the next owner sends again."""
        deadline = time.monotonic() + seconds
        while self._lanes.sent and time.monotonic() < deadline:
            self._finish(wait=True)
            time.sleep(BUSY_POLL_SECONDS)
        self._lanes.drop()

    def _on_commit(self, error: KafkaError | None, _partitions: list[TopicPartition]) -> None:
        if error is not None:
            log.warning("offsets_not_committed", error=str(error))
            self._commit_failed = True
            metrics.COMMITS_FAILED.add(1)

    def _commit_again(self) -> None:
        """Repeats a failed commit: without new messages no later commit would make up for it."""
        if self._commit_failed:
            self._commit_failed = False
            self._commit(self._finished, wait=False)

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._assigned = {
            (one.topic, one.partition): self._lanes.of_topic[one.topic][one.partition % self._settings.lanes]
            for one in partitions
        }
        # Without an answer from Kafka the bridge starts at the committed offsets, and checks them later.
        starts = self._topics.starts(consumer, partitions) or {}
        self._notes |= {one: start.note.pack() for one, start in starts.items()}
        for (topic, _), start in starts.items():
            for lane in self._lanes.of_topic[topic]:
                lane.incarnation = f"{topic}@{start.note.incarnation}"
        for one in partitions:
            if found := starts.get((one.topic, one.partition)):
                one.offset = found.offset
        # The client remembers a pause through a rebalance.
        consumer.assign(partitions)
        consumer.resume(partitions)
        self._paused = set()
        self._finished = {}
        log.info("partitions_assigned", partitions=self._assigned_by_topic())
        report_starts(starts)
        # Commits now: otherwise the next assignment reports the same findings again, and the client, which
        # computes the lag from what it has committed, does not know it until the first commit.
        self._commit({one: start.offset for one, start in starts.items()}, wait=False)

    def _start_over(self) -> None:
        """Starts again with a new client when committed offsets changed their meaning or no longer exist.

        A client that has seen a topic without partitions may never read it again.
        """
        if not self._assigned or not self._topics.changed(time.monotonic()):
            return
        # While Kafka does not answer where to begin, the bridge goes on as it is.
        if self._topics.starts(self._consumer, [TopicPartition(*one) for one in self._assigned]) is not None:
            log.warning("begins_again", partitions=self._assigned_by_topic())
            self._consumer.close()
            self._consumer = self._connect()
            self._subscribe()

    def _on_revoke(self, _consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        metrics.REBALANCES.add(1)
        log.info("partitions_revoked", partitions=self._assigned_by_topic())
        self._await_lanes(self._settings.rebalance_wait_seconds)
        self._assigned = {}

    def _on_lost(self, _consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        metrics.REBALANCES.add(1)
        log.warning("partitions_lost", partitions=self._assigned_by_topic())
        self._assigned = {}
        self._await_lanes(0)

    def _assigned_by_topic(self) -> dict[str, list[int]]:
        return {
            topic: sorted(number for name, number in self._assigned if name == topic)
            for topic in self._lanes.of_topic
        }

    def _complain(self, error: KafkaError) -> None:
        if error.fatal() or error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            raise KafkaException(error)
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            log.warning("offset_not_there", error=error.str())
            self._topics.doubt()
            return
        # librdkafka retries by itself, with back-off.
        log.warning("kafka_error", error=error.str(), code=error.name())


def main() -> None:
    """Runs the bridge until SIGTERM or SIGINT."""
    logs.configure()
    try:
        served = domains()
    except InvalidDomains as error:
        log.error("bridge_failed", error=str(error))  # noqa: TRY400 - the sentence says all
        sys.exit(1)
    dispatcher = Dispatcher()
    bridge = Bridge(settings(), served, dispatcher)
    bridge.show()
    tracing.begin("bridge")
    signal.signal(signal.SIGTERM, bridge.stop)
    signal.signal(signal.SIGINT, bridge.stop)
    garbage_collector.tune()
    try:
        bridge.run()
    except (KafkaException, BridgeFailed) as error:
        log.exception("bridge_failed", error=str(error))
        sys.exit(1)
    finally:
        dispatcher.close()
        tracing.end()


if __name__ == "__main__":
    main()
