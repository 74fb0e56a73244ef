"""The gateway: MQTT to Kafka. It acknowledges a message to the broker only when Kafka has it.

At every moment a message is in the broker's session for this client or in Kafka: the session is persistent,
PUBACKs go out in the order of arrival, and each waits for Kafka's acknowledgement of its record. Payloads
pass untouched. Of several gateways with the same client id one acts, the others stand by.
"""

import logging
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from types import FrameType

import structlog
from confluent_kafka import KafkaError, Producer
from confluent_kafka import Message as KafkaMessage
from paho.mqtt.subscribeoptions import SubscribeOptions

from ingest.health.heartbeat import Heartbeat
from ingest.health.kafka_statistics import EVERY_MS, KafkaStatistics
from ingest.health.lost_brokers import LostBrokers, finds_brokers
from ingest.health.process_lease import LEASE_SECONDS, ProcessLease
from ingest.mqtt import packets
from ingest.mqtt.acknowledge import Acknowledgements, Unacknowledged
from ingest.mqtt.held import Held
from ingest.mqtt.old_session import OldSession
from ingest.mqtt.owners import Owners
from ingest.mqtt.packets import Publish
from ingest.mqtt.rate_limits import UserLimits
from ingest.mqtt.record import record_of
from ingest.mqtt.session import MqttSession
from ingest.mqtt.trace import follow, traceparent_of
from tasks.domain.access import NoOwner
from tasks.domain.payload import Refused
from tasks.domain.routing import domain_of
from tasks.domain.template import filter_covers
from tasks.observe import garbage_collector, logs, tracing
from tasks.observe.metrics import gateway as metrics
from tasks.observe.metrics.several import DEAD_LETTERED, IGNORED
from tasks.observe.port import Monitoring, Pulse, first_problem
from tasks.registry import Domains, InvalidDomains, domains
from tasks.servers import clocks, kafka, mqtt
from tasks.servers.gateways import ON_THE_WAY_MS
from tasks.settings import Settings, settings

log = structlog.get_logger()

IDLE_SECONDS = 0.1
# Kafka's confirmations have no socket that `select` could wait for together with the broker's messages.
BUSY_SECONDS = 0.002
LOG_EVERY_SECONDS = 10.0
# A turn may reconnect, which takes as long as the resolver, TCP and TLS do.
STUCK_SECONDS = 60.0
# Records of messages with QoS 0 that may wait for Kafka.
MOST_UNPROMISED = 1000
# Without the database a gateway begins all the same: the MQTT broker lets one of a client id in at a time.
BLIND_SECONDS = 5.0
# The broker sends nothing that it retains at a subscription: only what is published now is a reading.
NEVER_RETAINED = 2

Delivered = Callable[[KafkaError | None, KafkaMessage], None]


class Gateway:
    """One MQTT session and one Kafka producer, in one thread: two would spend more on taking turns.

    A turn of `run` hands all that has come to the producer, hears what Kafka has confirmed, and acknowledges.
    """

    def __init__(self, chosen: Settings, served: Domains) -> None:
        self._settings = chosen
        self._domains = served
        self._forms = any(domain.form is not None for domain in served)
        self._owners = Owners(chosen, served) if any(one.access_owner for one in served) else None
        self._held = None
        if self._owners is not None:
            self._held = Held[Delivered](self._owners.concern, self._owners.is_decided)
        self._stopping = threading.Event()
        self._failure: str | None = None
        self._received = self._received_bytes = 0
        self._dropped = self._dropped_logged = 0
        self._log_dropped_at = 0.0
        self._limits = UserLimits(chosen)
        self._limited: Counter[str] = Counter()
        self._log_limited_at = 0.0
        self._statistics = KafkaStatistics([one.qualified(chosen.kafka_topic) for one in served])
        self._lost_brokers = LostBrokers(self._statistics.reachable, lambda: finds_brokers(chosen))
        self._pulse = Pulse("the gateway", STUCK_SECONDS)
        self._lease = ProcessLease(chosen, f"gateway {chosen.mqtt_client_id}", self._pulse.check)
        self._producer = Producer(
            {
                **kafka.connection(chosen),
                "client.id": "sluice-gateway",
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 5,
                "compression.type": "lz4",
                "message.max.bytes": 2 * chosen.kafka_max_message_bytes,
                "delivery.timeout.ms": chosen.kafka_delivery_timeout_seconds * 1000,
                # Room for all of QoS 1, of which the broker sends no more than the receive maximum, and that
                # again by a new connection.
                "queue.buffering.max.messages": 2 * chosen.mqtt_receive_maximum + MOST_UNPROMISED,
                "queue.buffering.max.kbytes": 1_048_576,
                "stats_cb": self._statistics.update,
                "statistics.interval.ms": EVERY_MS,
            },
            logger=logging.getLogger("librdkafka"),
        )
        self._session = self._make_session()
        self._old = self._make_old_session()
        self._heartbeat = Heartbeat(chosen.mqtt_client_id, self._listens)

    def show(self) -> None:
        """Serves this gateway's metrics and health. It is ready while the broker and Kafka are there."""
        metrics.GATEWAY_RECEIVED.read_from(lambda: self._received)
        metrics.GATEWAY_RECEIVED_BYTES.read_from(lambda: self._received_bytes)
        metrics.GATEWAY_UNACKNOWLEDGED.read_from(lambda: len(self._session.unacknowledged))
        metrics.GATEWAY_DROPPED.read_from(lambda: self._dropped)
        owners = self._owners
        metrics.ACCESS_LIST_AGE.read_from(lambda: 0.0 if owners is None else owners.age())
        self._session.show()
        port = self._settings.gateway_metrics_port
        live = self._pulse.check
        clocks.watch()
        ready = first_problem(live, self._why_not_ready)
        note = first_problem(self._lease.standby, self._session.rival)
        Monitoring("gateway", port, live=live, ready=ready, note=note)

    def _why_not_ready(self) -> str:
        if not self._lease.acts:
            return self._lease.problem()
        if not self._session.subscribed:
            return "the MQTT broker is away, or has not confirmed the subscription"
        if self._owners is not None and not self._owners.known:
            return "Postgres is away, and the accounts' access lists have not been read yet"
        return "" if self._statistics.reachable() else "Kafka is away"

    def stop(self, _signal: int, _frame: FrameType | None) -> None:
        """Asks the gateway to end: nothing new is taken, what Kafka confirms in time is acknowledged."""
        self._stopping.set()
        self._session.stop()
        if self._old is not None:
            self._old.stop()

    def run(self) -> None:
        """Moves messages until `stop`, once no other gateway of this client id does.

        Raises `GatewayFailed` when Kafka did not take a record in time. Nothing is lost by ending then: the
        broker's session has every message that was not acknowledged, and sends it to the next gateway.
        """
        self._lease.start()
        self._lease.await_turn(self._stopping.is_set, self._pulse.turn, BLIND_SECONDS)
        if not self._stopping.is_set():
            self._serve()
        self._lease.stop()
        if self._failure is not None:
            raise GatewayFailed(self._failure)

    def _serve(self) -> None:
        self._heartbeat.start()
        if self._owners is not None:
            self._owners.start()
        while not self._stopping.is_set() and self._failure is None:
            self._turn()
            self._look_for_suspension()
            self._pulse.turn()
            self._log_dropped()
            self._log_limited()
            if failure := self._failure or self._lease.lost or self._session.failure:
                self._failure = failure
            elif self._owners is not None and not self._owners.is_alive():
                self._failure = "the thread of the access lists has ended; see the log above"
            elif self._lost_brokers():
                self._failure = "this Kafka client has lost all brokers, although some are reachable"
        self._close()

    def _turn(self) -> None:
        if self._old is not None and self._session.subscribed:
            # Older messages go first: the broker keeps new ones meanwhile.
            self._old.turn(BUSY_SECONDS)
            if self._old.over:
                self._old = None
        else:
            self._session.turn(BUSY_SECONDS if self._session.unacknowledged else IDLE_SECONDS)
        if self._held is not None and self._failure is None:
            self._held.release(self._produce)
        self._producer.poll(0)
        self._session.unacknowledged.release()

    def _look_for_suspension(self) -> None:
        # What waits in the socket of a process that was suspended another gateway may have got since.
        if (silent := self._pulse.since_turn()) > LEASE_SECONDS / 2 and not self._lease.is_certain():
            self._failure = self._failure or f"the gateway was suspended for {silent:.0f} s"

    def _close(self) -> None:
        deadline = time.monotonic() + self._settings.stop_grace_seconds
        self._heartbeat.stop()
        # DISCONNECT comes last: until then the acknowledgements of what Kafka confirms can still go out.
        while self._unfinished() and self._failure is None and time.monotonic() < deadline:
            self._turn()
        if self._old is not None:
            self._old.close()
        self._session.close()
        if self._owners is not None:
            self._owners.stop()
        log.info("gateway_stopped", unacknowledged=len(self._session.unacknowledged))

    def _unfinished(self) -> int:
        return len(self._session.unacknowledged) + (len(self._old.unacknowledged) if self._old else 0)

    def _listens(self) -> bool:
        """Whether what devices send now gets into Kafka without delay."""
        # Messages that came during a long turn are not taken yet.
        on_the_way = max(self._session.unacknowledged.oldest_seconds(), self._pulse.since_turn())
        takes = self._session.subscribed and self._old is None and not self._stopping.is_set()
        return takes and on_the_way * 1000 <= ON_THE_WAY_MS

    def _make_session(self) -> MqttSession:
        alone, shared = self._filters()
        options = SubscribeOptions(qos=1, retainAsPublished=True, retainHandling=NEVER_RETAINED)
        return MqttSession(
            self._settings,
            mqtt.session_id(self._settings, self._settings.mqtt_client_id),
            [(one, options) for one in shared or alone],
            lambda message: self._take(message, self._session.unacknowledged),
            receive_maximum=self._settings.mqtt_receive_maximum,
            # The session may still have the subscriptions of a time when this gateway was alone.
            leave=alone if shared else (),
            may_return=self._lease.is_certain,
        )

    def _make_old_session(self) -> OldSession | None:
        name = self._settings.mqtt_client_id
        if mqtt.session_id(self._settings, name) == name:
            return None
        alone, shared = self._filters()
        most = self._settings.mqtt_receive_maximum
        return OldSession(self._settings, name, [*alone, *shared], self._take_old, receive_maximum=most)

    def _filters(self) -> tuple[list[str], list[str]]:
        """The filters of the domains for a single gateway, and for one of a group, if it is in one."""
        every = dict.fromkeys(one for domain in self._domains for one in domain.filters)
        # A broker may send a message once for each filter that it matches.
        filters = [
            one for one in every if not any(filter_covers(other, one) for other in every if other != one)
        ]
        group = self._settings.mqtt_shared_group
        return filters, [f"$share/{group}/{one}" for one in filters] if group else []

    def _take_old(self, message: Publish, unacknowledged: Acknowledgements) -> None:
        # Without retain-as-published, as the session was, the flag marks what had been retained before.
        if not message.retain:
            self._take(message, unacknowledged)
        elif message.qos:
            unacknowledged.confirm(unacknowledged.add(message.mid))

    def _take(self, message: Publish, unacknowledged: Acknowledgements) -> None:
        self._look_for_suspension()
        if self._failure is not None:
            return
        self._received += 1
        self._received_bytes += len(message.payload)
        # An empty retained message clears what is retained; it says nothing of the device.
        nothing = (message.retain and not message.payload) or (self._forms and self._ignores(message.topic))
        if message.qos == 0:
            if not nothing:
                self._pass_on(message)
            return
        waiting = unacknowledged.add(message.mid)
        if nothing:
            unacknowledged.confirm(waiting)
        else:
            self._go_on(
                message,
                lambda error, _: self._confirm(error, waiting),
                lambda: unacknowledged.is_current(waiting),
            )

    def _go_on(self, message: Publish, confirm: Delivered, wanted: Callable[[], bool]) -> None:
        """Produces the message, or holds it until the owner of its topic is decided, while it is wanted."""
        if self._held is None or not self._held.holds(message, confirm, wanted):
            self._produce(message, confirm)

    def _ignores(self, topic: str) -> bool:
        """Whether the domain of the topic declares that it holds no readings; counts it."""
        try:
            ignored = domain_of(topic, self._domains).ignores(topic)
        except Refused:
            return False
        if ignored:
            IGNORED.add(1)
        return ignored

    def _pass_on(self, message: Publish) -> None:
        """Tries once, as QoS 0 asks: a message that Kafka does not take is dropped and counted."""

        def note(error: KafkaError | None, _record: KafkaMessage) -> None:
            self._dropped += error is not None

        held = 0 if self._held is None else self._held.unpromised
        if len(self._producer) + held < MOST_UNPROMISED:
            self._go_on(message, note, lambda: True)
        else:
            self._dropped += 1

    def _log_dropped(self) -> None:
        if self._dropped > self._dropped_logged and time.monotonic() >= self._log_dropped_at:
            log.warning("qos0_dropped", messages=self._dropped - self._dropped_logged)
            self._dropped_logged = self._dropped
            self._log_dropped_at = time.monotonic() + LOG_EVERY_SECONDS

    def _produce(self, message: Publish, confirm: Delivered) -> None:
        topic, payload = message.topic, message.payload
        owner = "" if self._owners is None else self._owners.of(topic)
        known = "" if isinstance(owner, NoOwner) else owner
        traceparent, end_span = follow(traceparent_of(message.properties, payload), topic, payload, known)
        # A redelivery was counted before; limited now, it would be both a record and a dead letter.
        admit = None if message.dup else self._limits.admit
        content_type = packets.content_type(message.properties) if self._forms and message.properties else ""
        record = record_of(
            *(self._domains, topic, payload, traceparent, datetime.now(UTC), self._settings, admit),
            content_type=content_type,
            owner=owner,
            redelivered=message.dup,
        )
        if record.refused is not None:
            self._note_refused(topic, record.refused, known)
        self._producer.produce(
            record.topic,
            record.value,
            record.key,
            headers=record.headers,
            on_delivery=_ending(end_span, confirm) if end_span else confirm,
        )

    def _note_refused(self, topic: str, refused: Refused, owner: str) -> None:
        DEAD_LETTERED.add(1, refused.error_type)
        if refused.error_type == "RateLimited":
            self._limited[domain_of(topic, self._domains).parse_topic(topic, owner).user_id] += 1
        else:
            log.warning("message_refused", error_type=refused.error_type, error=refused.reason)

    def _log_limited(self) -> None:
        if self._limited and time.monotonic() >= self._log_limited_at:
            users = dict(self._limited.most_common(5))
            log.warning("rate_limited", messages=self._limited.total(), users=users)
            self._limited.clear()
            self._log_limited_at = time.monotonic() + LOG_EVERY_SECONDS

    def _confirm(self, error: KafkaError | None, waiting: Unacknowledged) -> None:
        if error is not None:
            self._failure = f"Kafka did not take a record: {error.str()}"
            return
        self._session.unacknowledged.confirm(waiting)


class GatewayFailed(Exception):
    """The gateway cannot go on; its supervisor starts it again."""


def _ending(end_span: Callable[[], None], confirm: Delivered) -> Delivered:
    def ended(error: KafkaError | None, record: KafkaMessage) -> None:
        end_span()
        confirm(error, record)

    return ended


def main() -> None:
    """Runs the gateway until SIGTERM or SIGINT; ends with 1 when Kafka does not take its records."""
    logs.configure()
    try:
        gateway = Gateway(settings(), domains())
    except InvalidDomains as error:
        log.error("gateway_failed", error=str(error))  # noqa: TRY400 - the sentence says all
        sys.exit(1)
    gateway.show()
    tracing.begin("gateway")
    signal.signal(signal.SIGTERM, gateway.stop)
    signal.signal(signal.SIGINT, gateway.stop)
    garbage_collector.tune()
    try:
        gateway.run()
    except GatewayFailed as error:
        log.error("gateway_failed", error=str(error))  # noqa: TRY400 - the sentence says all, a traceback nothing
        sys.exit(1)
    finally:
        tracing.end()


if __name__ == "__main__":
    main()
