"""The control process: what users ask for over MQTT, and what anybody changes in the table of rules.

It keeps nothing: a message is acknowledged to the broker once its answer is published, and that once its
task has committed, so what is unfinished comes again by the broker's session for this client.
"""

import json
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

import structlog
from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from ingest import mqtt_text
from ingest.acknowledge import Acknowledgements, Unacknowledged
from ingest.requests import Request, Requests
from ingest.rules_listener import RulesListener
from tasks import logs, metrics, mqtt
from tasks.alerts.manage import MAX_COMMAND_BYTES, parse_command
from tasks.config import Answer, Kind, refusal
from tasks.monitoring import Monitoring, Pulse, first_problem
from tasks.record import id_fault
from tasks.rules import MAX_DOCUMENT_BYTES, InvalidDocument, parse_rules
from tasks.settings import Settings, settings

log = structlog.get_logger()

FILTERS: dict[Kind, str] = {"config": "users/+/config", "manage": "users/+/alerts/manage"}
POLL_SECONDS = 0.2
# Without Redis each request costs its timeouts.
STUCK_SECONDS = 90.0
MAX_RECONNECT_SECONDS = 30
# Requests that are unfinished at any time; the broker keeps the others.
RECEIVE_MAXIMUM = 200
# Of an existing subscription the broker does not send again what it retains.
RETAINED_ONCE = 1


class ControlFailed(Exception):
    """The control process cannot go on; its supervisor starts it again."""


class Control:
    """One MQTT client, the requests that came by it, and the listener to the database."""

    def __init__(self, chosen: Settings) -> None:
        self._settings = chosen
        self._stopping = threading.Event()
        self._failure: str | None = None
        self._connects = 0
        self._pulse = Pulse("the control process", STUCK_SECONDS)
        self._subscribed = False
        self._client = self._make_client()
        self._unacknowledged = Acknowledgements(self._client.ack)
        self._requests = Requests(self._answer)
        self._listener = RulesListener(chosen)

    def show(self) -> None:
        """Serves this process's metrics and health. It is ready while the broker is there."""
        metrics.MQTT_CONNECTED.read_from(lambda: self._subscribed)
        metrics.MQTT_CONNECTS.read_from(lambda: self._connects)
        metrics.REQUESTS.read_from(lambda: len(self._requests))
        port = self._settings.control_metrics_port
        live = self._pulse.check
        Monitoring("control", port, live=live, ready=first_problem(live, self._why_not_ready))

    def _why_not_ready(self) -> str:
        return "" if self._subscribed else "the MQTT broker is away, or has not confirmed the subscriptions"

    def stop(self, _signal: int, _frame: FrameType | None) -> None:
        """Asks the process to end: nothing new is taken, what is answered in time is acknowledged."""
        self._stopping.set()

    def run(self) -> None:
        """Serves until `stop`. Raises `ControlFailed`; what was not acknowledged comes again."""
        self._listener.start()
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = self._settings.mqtt_session_expiry_seconds
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        self._client.connect_async(
            self._settings.mqtt_host,
            self._settings.mqtt_port,
            keepalive=self._settings.mqtt_keepalive_seconds,
            clean_start=False,
            properties=properties,
        )
        self._client.loop_start()
        network = next(t for t in threading.enumerate() if t.name.startswith("paho-mqtt-client"))
        while not self._stopping.is_set() and self._failure is None:
            self._requests.run_once(POLL_SECONDS)
            self._pulse.turn()
            if not (network.is_alive() and self._requests.listens() and self._listener.listens()):
                self._failure = "one of the threads has ended; see the log before this line"
        self._close()
        if self._failure is not None:
            raise ControlFailed(self._failure)

    def _close(self) -> None:
        deadline = time.monotonic() + self._settings.stop_grace_seconds
        while len(self._requests) and self._failure is None and time.monotonic() < deadline:
            self._requests.run_once(POLL_SECONDS)
        self._client.disconnect()
        self._client.loop_stop()
        self._requests.close()
        self._listener.stop()
        log.info("control_stopped", unanswered=len(self._requests))

    def _make_client(self) -> Client:
        client = mqtt.client(
            self._settings, self._settings.mqtt_control_client_id, manual_ack=True, reconnect_on_failure=True
        )
        client.reconnect_delay_set(min_delay=1, max_delay=MAX_RECONNECT_SECONDS)
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        return client

    def _on_connect(
        self,
        client: Client,
        _data: Any,
        flags: ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            log.warning("mqtt_refused", reason=str(reason), username=self._settings.mqtt_username)
            return
        self._connects += 1
        log.info("mqtt_connected", session_present=flags.session_present)
        options = SubscribeOptions(qos=1, retainHandling=RETAINED_ONCE)
        client.subscribe([(topic, options) for topic in FILTERS.values()])

    def _on_connect_fail(self, _client: Client, _data: Any) -> None:
        log.warning("mqtt_away", host=self._settings.mqtt_host, port=self._settings.mqtt_port)

    def _on_disconnect(
        self, _client: Client, _data: Any, _flags: DisconnectFlags, reason: ReasonCode, _p: Properties | None
    ) -> None:
        self._subscribed = False
        self._unacknowledged.connection_ended()
        note = log.info if self._stopping.is_set() else log.warning
        note("mqtt_disconnected", reason=str(reason))

    def _on_subscribe(
        self,
        _client: Client,
        _data: Any,
        _mid: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        if refused := [reason for reason in reasons if reason.is_failure]:
            self._failure = f"the MQTT broker refused a subscription: {refused[0]}; check the account's ACL"
            return
        self._subscribed = True

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        if self._stopping.is_set() or self._failure is not None:
            return
        try:
            self._take(message, self._unacknowledged.add(message.mid, message.qos))
        except Exception as error:  # noqa: BLE001 - an escape would end paho's thread and leave the process deaf
            self._failure = f"a message could not be taken: {error!r}"

    def _take(self, message: MQTTMessage, waiting: Unacknowledged) -> None:
        parsed = parse_topic(message.topic)
        if parsed is None:
            log.warning("topic_refused", topic=message.topic[:200])
            self._unacknowledged.confirm(waiting)
            return
        kind, user_id = parsed
        if kind == "manage" and message.retain:
            # What somebody wanted at some time in the past; at the time it came without this mark.
            log.warning("retained_command_ignored", user_id=user_id)
            self._unacknowledged.confirm(waiting)
            return
        document = bytes(message.payload)
        request = Request(
            kind,
            user_id,
            document,
            message.mid,
            again=message.dup,
            retained=message.retain,
            waiting=[waiting],
        )
        if (fault := too_large(kind, document)) is not None:
            self._answer(request, fault)
        else:
            self._requests.put(request)

    def _answer(self, request: Request, answer: Answer | None) -> None:
        if answer is not None:
            payload = json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
            metrics.ANSWERS.add(1, request.kind, "ok" if answer["ok"] else "refused")
            self._client.publish(status_topic(request.kind, request.user_id), payload.encode(), qos=1)
        # By the same connection the broker has the answer before the acknowledgement.
        for waiting in request.waiting:
            self._unacknowledged.confirm(waiting)


def parse_topic(topic: str) -> tuple[Kind, str] | None:
    """What is asked for, and the user; None where there is no such user."""
    levels = topic.split("/")
    if len(levels) < 3 or levels[0] != "users" or id_fault(levels[1]):
        return None
    kinds: dict[str, Kind] = {"config": "config", "alerts/manage": "manage"}
    kind = kinds.get("/".join(levels[2:]))
    return None if kind is None else (kind, levels[1])


def status_topic(kind: Kind, user_id: str) -> str:
    """Where the answer goes."""
    return f"users/{user_id}/config/status" if kind == "config" else f"users/{user_id}/alerts/manage/status"


def too_large(kind: Kind, document: bytes) -> Answer | None:
    """The answer to what is too large to be given to a worker."""
    try:
        if kind == "config" and len(document) > MAX_DOCUMENT_BYTES:
            parse_rules(document)
        elif kind == "manage" and len(document) > MAX_COMMAND_BYTES:
            parse_command(document)
    except InvalidDocument as error:
        return refusal(error.errors)
    return None


def main() -> None:
    """Runs the control process until SIGTERM or SIGINT; ends with 1 when it cannot go on."""
    logs.configure()
    mqtt_text.install()
    control = Control(settings())
    control.show()
    signal.signal(signal.SIGTERM, control.stop)
    signal.signal(signal.SIGINT, control.stop)
    try:
        control.run()
    except ControlFailed as error:
        log.error("control_failed", error=str(error))  # noqa: TRY400 - the sentence says all, a traceback nothing
        sys.exit(1)


if __name__ == "__main__":
    main()
