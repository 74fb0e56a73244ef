"""Notices to devices about their refused messages, on `users/{user}/devices/{device}/rejected`.

They are best effort, and bounded: what is too much, too old or not taken by the MQTT broker is counted and
forgotten. The dead letter is what counts, and it is in Kafka before any notice is made.
"""

import json
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import redis
import structlog

from tasks import registry
from tasks.dead_letters.letter import ABOUT_ALERTS, Letter
from tasks.domain import routing
from tasks.domain.domain import AnyDomain, Source
from tasks.domain.payload import Refused
from tasks.errors import NotNow
from tasks.observe.metrics.worker import REJECTED_NOTICES
from tasks.outbox import publisher
from tasks.servers.redis_client import REJECTED_PAUSE, client
from tasks.text.times import iso_of_ms
from tasks.text.topics import rejected_topic
from tasks.text.wording import shorten

log = structlog.get_logger()

# In each run of the registry of devices, which comes every five seconds.
MOST_NOTICES = 500
MOST_OF_DEVICE = 5
MOST_AGE = timedelta(minutes=10)
MOST_REASON = 1000
PUBLISH_SECONDS = 2.0
# After a failure the others of the workers do not try either.
PAUSE_SECONDS = 30


class Notices:
    """The notices of one run: at most `MOST_NOTICES`, and `MOST_OF_DEVICE` of one topic."""

    def __init__(self, now: datetime) -> None:
        self.chosen: list[publisher.Message] = []
        self.outcomes: Counter[str] = Counter()
        self._since = now - MOST_AGE
        self._taken = 0
        self._by_topic: Counter[str] = Counter()

    def add(self, domain: AnyDomain, source: Source, letter: Letter) -> None:
        """Takes the letter's notice, or counts why there is none.

        There is none, uncounted, about what a device did not send: alerts, and replayed messages.
        """
        if letter.error_type in ABOUT_ALERTS or letter.attempts > 1:
            return
        # The gateway sends letters about unknown topics to the first domain.
        own = routing.domain_of(letter.topic, registry.domains())
        topic = rejected_topic(source.user_id, own.account_of(letter.topic, source))
        if letter.refused_at < self._since:
            self.outcomes["late"] += 1
        elif self._taken >= MOST_NOTICES or self._by_topic[topic] >= MOST_OF_DEVICE:
            self.outcomes["over_limit"] += 1
        elif _is_taken(topic):
            self.outcomes["refused"] += 1
        else:
            self._taken += 1
            self._by_topic[topic] += 1
            self.chosen.append((topic, _payload(domain, source, letter)))

    def publish(self) -> Counter[str]:
        """Publishes what was taken since the last call, in at most a few seconds. Never fails.

        Returns the outcomes since then, which the metric has as well.
        """
        try:
            self.outcomes += self._publish()
        except (NotNow, redis.RedisError) as error:
            count = getattr(error, "count", 0)
            self.outcomes += Counter(published=count, lost=len(self.chosen) - count)
            log.warning("rejected_notices_lost", notices=len(self.chosen) - count, error=str(error))
        for outcome, count in self.outcomes.items():
            REJECTED_NOTICES.add(count, outcome)
        done, self.outcomes, self.chosen = self.outcomes, Counter(), []
        return done

    def _publish(self) -> Counter[str]:
        if not self.chosen:
            return Counter()
        if client().exists(REJECTED_PAUSE):
            return Counter(lost=len(self.chosen))
        try:
            refused = publisher.publish(self.chosen, PUBLISH_SECONDS)
        except NotNow:
            client().set(REJECTED_PAUSE, 1, ex=PAUSE_SECONDS)
            raise
        if refused:
            log.warning("rejected_notices_refused", notices=len(refused), reason=next(iter(refused.values())))
        return Counter(published=len(self.chosen) - len(refused), refused=len(refused))


def _payload(domain: AnyDomain, source: Source, letter: Letter) -> bytes:
    reached = letter.partition is not None
    document: dict[str, Any] = {
        "error_type": letter.error_type,
        "reason": shorten(letter.error, MOST_REASON),
        "device_id": source.device_id,
        "topic": letter.topic,
        "received": iso_of_ms(letter.timestamp_ms),
        "kafka_topic": registry.kafka_topic(domain) if reached else None,
        "kafka_partition": letter.partition,
        "kafka_offset": letter.offset,
        **({"elements": letter.elements} if letter.elements else {}),
    }
    return json.dumps(document, ensure_ascii=False).encode(errors="backslashreplace")


def _is_taken(topic: str) -> bool:
    """Whether a domain has this topic: a notice there would be a message, and refused again."""
    try:
        routing.domain_of(topic, registry.domains())
    except Refused:
        return False
    return True
