"""Publishes notices of alerts over MQTT: for all users together, and apart for one whose notice is refused.

With RETAINED_ALERT_STATES each notice is followed by the state of its alert (`tasks.outbox.retained`).

A broker that refuses one notice and takes another has not failed: that user's notices wait, the first is
tried again, and becomes a dead letter after too many refusals. A broker that refuses the probe, which belongs
to no user, counts as away for all.
"""

import json
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import structlog

from tasks.dead_letters import about_alerts
from tasks.errors import DeadLettersUnconfirmed
from tasks.observe.metrics import several as metrics
from tasks.outbox import publisher, retained, stream
from tasks.outbox.entry import Entry
from tasks.outbox.publisher import Kept, Message, MqttBrokerAway
from tasks.outbox.stream import Undelivered
from tasks.rules.change import notice
from tasks.servers.redis_client import OUTBOX_NOTICES, client, text
from tasks.servers.turns import Turn
from tasks.settings import settings

log = structlog.get_logger()

# Refusals until a notice is given up, with growing pauses: two minutes in all, plus the pauses of the sweep.
ATTEMPTS = 8
MOST_PAUSE_SECONDS = 30.0
# Refusals further apart than this are unrelated.
FORGET_SECONDS = 300.0
# The service account may publish on `users/+/alerts`, and no user's name is empty.
PROBE: Message = ("users//alerts", b"")


class Refusal(NamedTuple):
    """A user's message that the broker refused: its entry and number in it, how often, and when it is due."""

    entry: str
    number: int
    times: int
    due_at: float


class _Item(NamedTuple):
    entry: Entry
    number: int  # of the notice in its entry, from 0; of the state after notice n: -1 - n
    message: Message | Kept

    @property
    def is_state(self) -> bool:
        return self.number < 0


def publish(entries: list[Entry], turn: Turn) -> list[Entry]:
    """Publishes the entries' notices, each user's in order; returns the entries that are done.

    A done entry is published, or a dead letter. Raises `Undelivered`, `TurnLost` and `redis.RedisError`.
    """
    return _Publishing(entries, turn).publish()


class _Publishing:
    """One delivery: which notices are done, and which users must wait."""

    def __init__(self, entries: list[Entry], turn: Turn) -> None:
        self._entries = entries
        self._turn = turn
        self._items = [item for entry in entries for item in _items(entry)]
        self._done: set[tuple[str, int]] = set()
        self._held: set[str] = set()
        self._refusals = {
            text(user): Refusal(*json.loads(value))
            for user, value in client().hgetall(OUTBOX_NOTICES).items()
        }

    def publish(self) -> list[Entry]:
        try:
            refused: dict[str, list[_Item]] = {}
            for item in self._items:
                if item.entry.user in self._refusals:
                    refused.setdefault(item.entry.user, []).append(item)
            self._publish([item for item in self._items if item.entry.user not in refused])
            for user, own in refused.items():
                self._publish_refused(user, own, self._refusals[user])
        except MqttBrokerAway as error:
            raise Undelivered(self._delivered(), str(error)) from error
        return self._delivered()

    def _delivered(self) -> list[Entry]:
        """The entries that are done, without those behind an unfinished one of the same user."""
        open_entries = {
            item.entry.id for item in self._items if (item.entry.id, item.number) not in self._done
        }
        waiting: set[str] = set()
        delivered = []
        for entry in self._entries:
            if entry.id in open_entries:
                waiting.add(entry.user)
            elif entry.user not in waiting:
                delivered.append(entry)
        return delivered

    def _publish(self, items: list[_Item]) -> None:
        for start in range(0, len(items), stream.READ_AT_ONCE):
            some = [
                item
                for item in items[start : start + stream.READ_AT_ONCE]
                if item.entry.user not in self._held
            ]
            refused = self._send(some)
            if refused:
                self._probe()
            for number, reason in sorted(refused.items()):
                if some[number].entry.user not in self._held:
                    self._refuse(some[number], reason)

    def _publish_refused(self, user: str, own: list[_Item], refusal: Refusal) -> None:
        """Publishes for a user whose first notice was refused: that notice alone, until one is taken."""
        if own[0].entry.id == refusal.entry:
            # The broker took those before it.
            self._done.update((refusal.entry, item.number) for item in _before(own, refusal))
            own = [item for item in own if (item.entry.id, item.number) not in self._done]
        if time.time() < refusal.due_at:
            return
        for position, item in enumerate(own):
            refused = self._send([item])
            if not refused:
                client().hdel(OUTBOX_NOTICES, user)
                self._refusals.pop(user, None)
                self._publish(own[position + 1 :])
                return
            self._probe()
            self._refuse(item, refused[0])
            if user in self._held:
                return

    def _send(self, items: list[_Item]) -> dict[int, str]:
        """The items that the broker refused, and why. Raises `MqttBrokerAway`."""
        # A worker that was held up and lost the turn must not publish what others have published meanwhile.
        self._turn.keep()
        try:
            refused = publisher.publish([item.message for item in items])
        except MqttBrokerAway as error:
            self._done.update((item.entry.id, item.number) for item in items[: error.count])
            raise
        self._done.update(
            (item.entry.id, item.number) for number, item in enumerate(items) if number not in refused
        )
        return refused

    def _probe(self) -> None:
        """Raises `MqttBrokerAway` when the broker refuses a notice that belongs to no user, too."""
        self._turn.keep()
        if refused := publisher.publish([PROBE]):
            raise MqttBrokerAway(f"the broker refuses everything: {refused[0]}")

    def _refuse(self, item: _Item, reason: str) -> None:
        user = item.entry.user
        refusal = _after(self._refusals.get(user), item)
        kind = "state" if item.is_state else "notice"
        metrics.PUBLISHES_REFUSED.add(1, kind)
        log.warning(f"{kind}_refused", user_id=user, attempt=refusal.times, error=reason)
        if refusal.times >= ATTEMPTS and self._give_up(item, reason):
            # The next notice has a single try, at once, unless one is taken.
            refusal = refusal._replace(due_at=time.time())
        else:
            self._held.add(user)
        self._refusals[user] = refusal
        client().hset(OUTBOX_NOTICES, user, json.dumps(refusal))

    def _give_up(self, item: _Item, reason: str) -> bool:
        if item.is_state:
            # Nothing is lost: the user has been notified, and the alert's next change publishes its state.
            self._done.add((item.entry.id, item.number))
            return True
        try:
            device_id = str(item.entry.document.get("device_id"))
            about_alerts.send_notice(item.entry.user, device_id, item.message[1], reason)
        except DeadLettersUnconfirmed as error:
            log.warning("notice_waits", user_id=item.entry.user, error=str(error))
            return False
        self._done.add((item.entry.id, item.number))
        return True


def _before(own: list[_Item], refusal: Refusal) -> list[_Item]:
    """The messages of the refused one's entry that come before it, also if states are published no longer."""
    same = [item for item in own if item.entry.id == refusal.entry]
    change = refusal.number if refusal.number >= 0 else -1 - refusal.number
    place = next((n for n, item in enumerate(same) if item.number == refusal.number), None)
    return [item for item in same if 0 <= item.number <= change] if place is None else same[:place]


def _after(before: Refusal | None, item: _Item) -> Refusal:
    """The refusal of the item, counting earlier ones, also those of another notice that was given up."""
    now = time.time()
    times = before.times + 1 if before is not None and now < before.due_at + FORGET_SECONDS else 1
    return Refusal(item.entry.id, item.number, times, now + min(2.0**times, MOST_PAUSE_SECONDS))


def _items(entry: Entry) -> Iterator[_Item]:
    choice = settings().retained_alert_states
    try:
        topic = f"users/{entry.document['user_id']}/alerts"
        messages = [
            (said, retained.message(change, said, choice))
            for change in entry.changes()
            for said in [_notice(change)]
        ]
    except (KeyError, TypeError, AttributeError) as error:
        stream.refuse("mqtt", entry.id, f"{type(error).__name__}: {error}", str(entry.document))
        return
    for number, (said, state) in enumerate(messages):
        yield _Item(entry, number, (topic, said))
        if state is not None:
            yield _Item(entry, -1 - number, state)


def _notice(change: dict[str, Any]) -> bytes:
    # Entries of an older version have the notice ready.
    ready = change.get("notice")
    return notice(change["record"]) if ready is None else ready.encode()
