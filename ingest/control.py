"""The control process: handles users' requests over MQTT and changes in the table of rules.

It keeps nothing: a message is acknowledged once the broker has its answer, which is published when the task
has committed. Unfinished messages come again, from the broker's session for this client. Every
request is answered: one that a worker cannot do in time is given up, and the waiting requests of one user
never keep those of others from being sent. Of several control processes one acts, the others stand by.
"""

import json
import signal
import sys
import time
from collections.abc import Iterable
from types import FrameType
from uuid import uuid4

import structlog
from paho.mqtt.subscribeoptions import SubscribeOptions

from ingest.health.process_lease import ProcessLease
from ingest.mqtt.acknowledge import Acknowledgements, Answers, Unacknowledged
from ingest.mqtt.old_session import OldSession
from ingest.mqtt.packets import Publish
from ingest.mqtt.session import MqttSession
from ingest.requests.fence import Fence, Superseded
from ingest.requests.queue import Request, Requests
from ingest.requests.rules_listener import RulesListener
from ingest.requests.topics import (
    FILTERS,
    NOWHERE_ELSE,
    QUERIES,
    TOPICS,
    ReplyTo,
    parse_topic,
    reply_to,
    status_topic,
)
from tasks.observe import logs
from tasks.observe.internal_error import internal_error
from tasks.observe.metrics import control as metrics
from tasks.observe.port import Monitoring, Pulse, first_problem
from tasks.rules.answers import Answer, Kind, refusal, too_many
from tasks.rules.commands import MAX_COMMAND_BYTES, parse_command
from tasks.rules.parsing import MAX_DOCUMENT_BYTES, InvalidDocument, parse_rules
from tasks.rules.queries import MAX_QUERY_BYTES, id_of, parse_query
from tasks.servers import certificates, clocks, mqtt
from tasks.settings import Settings, settings

log = structlog.get_logger()

POLL_SECONDS = 0.2
ANSWER_POLL_SECONDS = 0.01
# Without Redis each request costs its timeouts.
STUCK_SECONDS = 90.0
# Requests that are unfinished at any time; the broker keeps the others.
RECEIVE_MAXIMUM = 2000
# PUBACKs go out in order: a request that holds up those of half the others, which are done, has less time.
HELD_UP = RECEIVE_MAXIMUM // 2
HOLD_UP_SECONDS = 10.0
# An answer is overdue after this long.
OVERDUE_SECONDS = 30.0
LOG_EVERY_SECONDS = 10.0
# The broker does not send retained messages again to an existing subscription.
RETAINED_ONCE = 1


class ControlFailed(Exception):
    """The control process cannot go on; its supervisor starts it again."""


class Control:
    """One MQTT session, the requests that came by it, and the listener to the database."""

    def __init__(self, chosen: Settings) -> None:
        self._settings = chosen
        self._stopping = False
        self._failure: str | None = None
        self._pulse = Pulse("the control process", STUCK_SECONDS)
        self._lease = ProcessLease(chosen, "control", self._pulse.check)
        options = SubscribeOptions(qos=1, retainHandling=RETAINED_ONCE)
        self._session = MqttSession(
            chosen,
            mqtt.session_id(chosen, chosen.mqtt_control_client_id),
            [(topic, options) for topic in FILTERS],
            lambda message: self._take(message, self._session.unacknowledged),
            receive_maximum=RECEIVE_MAXIMUM,
            # An account from before has no right on them until `sluice migrate`.
            optional=[f"users/+/{TOPICS[kind].asked}" for kind in QUERIES],
            may_return=self._lease.is_certain,
        )
        self._old = self._make_old_session()
        self._requests = Requests(
            self._answer,
            patience_seconds=chosen.request_patience_seconds,
            most=chosen.requests_per_user,
            fenced=Fence(uuid4().hex[:12], self._lease.is_certain).set,
        )
        self._dropped = self._dropped_logged = 0
        self._log_dropped_at = 0.0
        self._answers = Answers()
        self._listener = RulesListener(chosen)

    def _make_old_session(self) -> OldSession | None:
        name = self._settings.mqtt_control_client_id
        if mqtt.session_id(self._settings, name) == name:
            return None
        return OldSession(self._settings, name, FILTERS, self._take, receive_maximum=RECEIVE_MAXIMUM)

    def show(self) -> None:
        """Serves this process's metrics and health.

        It is ready while the broker is there, and requests are answered, even if not all of them; and while
        it stands by.
        """
        self._session.show()
        metrics.REQUESTS.read_from(lambda: len(self._requests))
        metrics.REQUEST_AGE.read_from(self._requests.oldest_seconds)
        metrics.REQUESTS_DROPPED.read_from(lambda: self._dropped)
        port = self._settings.control_metrics_port
        live = self._pulse.check
        ready = first_problem(live, self._why_not_ready)
        clocks.watch()
        certificates.watch(self._settings)
        note = first_problem(self._lease.standby, self._session.rival, self._overdue)
        Monitoring("control", port, live=live, ready=ready, note=note)

    def _why_not_ready(self) -> str:
        if not self._lease.acts:
            return self._lease.problem()
        if not self._session.subscribed:
            return "the MQTT broker is away, or has not confirmed the subscriptions"
        overdue = self._overdue()
        unheard = self._requests.unheard_seconds()
        if overdue and unheard > OVERDUE_SECONDS:
            return f"{overdue}, and no request has been answered for {unheard:.0f} s"
        return ""

    def _overdue(self) -> str:
        oldest = self._requests.oldest_seconds()
        return f"a request has waited {oldest:.0f} s for its answer" if oldest > OVERDUE_SECONDS else ""

    def stop(self, _signal: int, _frame: FrameType | None) -> None:
        """Asks the process to end: nothing new is taken, what is answered in time is acknowledged."""
        self._stopping = True
        self._session.stop()
        if self._old is not None:
            self._old.stop()

    def run(self) -> None:
        """Serves until `stop`, once no other process does.

        Raises `ControlFailed`; what was not acknowledged comes again.
        """
        self._lease.start()
        self._lease.await_turn(lambda: self._stopping, self._pulse.turn)
        if not self._stopping:
            self._serve()
        self._lease.stop()
        if self._failure is not None:
            raise ControlFailed(self._failure)

    def _serve(self) -> None:
        self._listener.start()
        self._requests.start()
        self._session.start()
        while not self._stopping and self._failure is None:
            self._turn()
            self._pulse.turn()
            if not (self._session.runs() and self._requests.is_alive() and self._listener.is_alive()):
                self._failure = self._failure or "one of the threads has ended; see the log above"
            self._failure = self._lease.lost or self._session.failure or self._failure
        self._close()

    def _close(self) -> None:
        deadline = time.monotonic() + self._settings.stop_grace_seconds
        while self._unfinished() and self._failure is None and time.monotonic() < deadline:
            self._turn()
        if self._old is not None:
            self._old.close()
        self._session.close()
        self._requests.close()
        self._listener.stop()
        log.info("control_stopped", unanswered=self._unfinished())

    def _turn(self) -> None:
        try:
            self._requests.run_once(ANSWER_POLL_SECONDS if self._answers else POLL_SECONDS)
        except Superseded as error:
            self._failure = str(error)
            return
        for user_id, report in self._listener.report.answers():
            self._publish("config", user_id, report, [])
        self._session.ask_again()
        if self._answers:
            self._done(self._answers.arrived())
        held_up = self._session.unacknowledged.holding_up(HELD_UP, HOLD_UP_SECONDS)
        if held_up is not None:
            self._requests.give_up(held_up)
        if self._old is not None and self._session.subscribed:
            self._old.turn(0)
            self._old = None if self._old.over else self._old
        self._log_dropped()

    def _log_dropped(self) -> None:
        if self._dropped > self._dropped_logged and time.monotonic() >= self._log_dropped_at:
            log.warning("qos0_requests_dropped", requests=self._dropped - self._dropped_logged)
            self._dropped_logged = self._dropped
            self._log_dropped_at = time.monotonic() + LOG_EVERY_SECONDS

    def _unfinished(self) -> int:
        return len(self._requests) + len(self._answers)

    def _take(self, message: Publish, unacknowledged: Acknowledgements) -> None:
        waiting: list[Unacknowledged] = []
        if message.qos:
            waiting = [unacknowledged.add(message.mid)]
        elif self._unfinished() >= RECEIVE_MAXIMUM:
            # The receive maximum is about QoS 1 alone; a QoS 0 message asks for one try, and gets no more.
            self._dropped += 1
            return
        parsed = parse_topic(message.topic)
        if parsed is None:
            log.warning("topic_refused", topic=message.topic[:200])
            self._done(waiting)
            return
        kind, user_id = parsed
        if kind != "config" and message.retain:
            # It is an old command; when it was new it came without this flag.
            log.warning("retained_command_ignored", user_id=user_id)
            self._done(waiting)
            return
        request = Request(
            kind,
            user_id,
            message.payload,
            message.mid,
            again=message.dup,
            retained=message.retain,
            waiting=waiting,
            reply_to=reply_to(kind, user_id, message.properties),
        )
        if (fault := self._refused(request)) is not None:
            self._answer(request, fault)

    def _refused(self, request: Request) -> Answer | None:
        """The answer to what no worker is given; None when the request was taken."""
        try:
            if (fault := too_large(request.kind, request.document)) is not None:
                return fault
            return (
                None
                if self._requests.put(request)
                else too_many(request.kind, self._settings.requests_per_user)
            )
        except Exception:  # noqa: BLE001 - an escape would end the process at each redelivery
            return internal_error(request.kind, request.user_id, request.id)

    def _answer(self, request: Request, answer: Answer | None) -> None:
        if answer is None:
            self._done(request.waiting)
            return
        metrics.ANSWERS.add(1, request.kind, "ok" if answer["ok"] else "refused")
        if request.kind in QUERIES:
            answer["id"] = id_of(request.document) or request.id
        self._publish(request.kind, request.user_id, answer, request.waiting, request.reply_to)

    def _publish(
        self,
        kind: Kind,
        user_id: str,
        answer: Answer,
        waiting: list[Unacknowledged],
        reply_to: ReplyTo = NOWHERE_ELSE,
    ) -> None:
        payload = json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
        usual = status_topic(kind, user_id)
        published = self._session.publish(
            reply_to.topic or usual,
            payload.encode(errors="backslashreplace"),
            correlation=reply_to.correlation,
            # The account may have no right on the wanted one.
            otherwise=usual if reply_to.topic else "",
        )
        self._answers.add(published, waiting)

    def _done(self, messages: Iterable[Unacknowledged]) -> None:
        for one in messages:
            self._session.unacknowledged.confirm(one)
        self._session.unacknowledged.release()


def too_large(kind: Kind, document: bytes) -> Answer | None:
    """The answer to what is too large to be given to a worker."""
    try:
        if kind == "config" and len(document) > MAX_DOCUMENT_BYTES:
            parse_rules(document)
        elif kind == "manage" and len(document) > MAX_COMMAND_BYTES:
            parse_command(document)
        elif kind in QUERIES and len(document) > MAX_QUERY_BYTES:
            parse_query("rules", document)
    except InvalidDocument as error:
        return refusal(error.errors)
    return None


def main() -> None:
    """Runs the control process until SIGTERM or SIGINT; ends with 1 when it cannot go on."""
    logs.configure()
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
