"""Dead letters about alerts: changes that tables refuse, notices that the broker refuses, too many alerts."""

import hashlib
from collections import Counter
from typing import Any

import structlog

from tasks import registry
from tasks.dead_letters import sender
from tasks.dead_letters.envelope import envelope
from tasks.dead_letters.letter import ALERT_REFUSED, NOTICE_REFUSED, TOO_MANY_ALERTS
from tasks.errors import DeadLettersUnconfirmed
from tasks.observe.metrics import several as metrics
from tasks.servers.redis_client import DEAD_LETTER_TYPES, client
from tasks.settings import settings

log = structlog.get_logger()

CONFIRM_SECONDS = 3.0


def send_alert_change(user_id: str, device_id: str, payload: bytes, error: str) -> None:
    """Sends a change of an alert, or a row of one, that the tables refuse; returns when Kafka confirms it.

    `payload` is the piece of the outbox with it; the letter's key identifies it forever. Raises
    `DeadLettersUnconfirmed`.
    """
    _send([(user_id, device_id, payload)], ALERT_REFUSED, error)
    log.error("alert_change_refused", user_id=user_id, error=error)


def send_too_many_alerts(letters: list[tuple[str, str, bytes]]) -> None:
    """Sends alerts that were refused because their users have too many; returns when Kafka confirms them.

    Each is the user, the device, and as the payload the alert as it would have been published; its key
    identifies it forever. Raises `DeadLettersUnconfirmed`.
    """
    most = settings().open_alerts_per_user
    error = f"the user has {most:,} open alerts, the maximum (OPEN_ALERTS_PER_USER)"
    _send(letters, TOO_MANY_ALERTS, error)
    for user_id, count in Counter(user_id for user_id, _, _ in letters).items():
        log.warning("too_many_alerts", user_id=user_id, refused=count, allowed=most)


def send_notice(user_id: str, device_id: str, payload: bytes, error: str) -> None:
    """Sends a notice of an alert that the MQTT broker refuses; returns when Kafka confirms it.

    Its key identifies it forever. Raises `DeadLettersUnconfirmed`.
    """
    _send([(user_id, device_id, payload)], NOTICE_REFUSED, error)
    log.error("notice_given_up", user_id=user_id, error=error)


def _send(letters: list[tuple[str, str, bytes]], error_type: str, error: str) -> None:
    """Sends them and awaits their confirmation; each is the user, the device and the payload."""
    producer = sender.kafka_producer()
    failures: list[str] = []

    def confirm(failure: Any, _: Any) -> None:
        if failure is not None:
            failures.append(str(failure))

    for user_id, device_id, payload in letters:
        topic = registry.kafka_dlq_topic(registry.of_device(device_id) or registry.default())
        value = envelope(f"users/{user_id}/alerts", payload, error_type, error)
        record_key = b"alert/" + hashlib.sha256(payload).hexdigest().encode()
        sender.produce_or_raise(producer, topic, value, record_key, confirm)
    waiting = producer.flush(CONFIRM_SECONDS)
    if waiting or failures:
        sender.close()
        raise DeadLettersUnconfirmed(f"{waiting} unanswered, {len(failures)} failed: {failures[:1]}")
    metrics.DEAD_LETTERED.add(len(letters), error_type)
    client().hincrby(DEAD_LETTER_TYPES, error_type, len(letters))
