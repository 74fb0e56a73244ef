"""Reports invalid rules in the table to the users who own them.

They come by SQL, past the database's check or older than it; MQTT lets nothing invalid in.
"""

import json
from collections.abc import Iterator
from queue import Empty, SimpleQueue

import structlog

from tasks.domain.placement import in_force
from tasks.observe.metrics import control as metrics
from tasks.rules.answers import Answer
from tasks.rules.everyone import EVERYONE
from tasks.rules.model import Fault
from tasks.servers.database import Connection

log = structlog.get_logger()

ALL = "SELECT user_id, rules FROM user_configs"
NAMED = f"{ALL} WHERE user_id = ANY(%s)"


def invalid_rules(connection: Connection, users: list[str] | None) -> Iterator[tuple[str, int, list[Fault]]]:
    """The number of rules in force and the faults of the others, for these users or for all.

    Raises `psycopg.Error`.
    """
    with connection.cursor() as cursor:
        rows = cursor.stream(ALL) if users is None else cursor.stream(NAMED, [users])
        for user_id, raw in rows:
            found = in_force(raw)
            yield str(user_id), len(found.rules.rules), found.faults


def count_invalid(faults: list[Fault]) -> int:
    """How many rules the faults are about."""
    return len({fault["path"].split(".")[1] for fault in faults if "." in fault["path"]}) or bool(faults)


class RulesReport:
    """Looks at rules, in the thread of the listener, and has answers for the thread that publishes."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, str]] = {}  # by user: how many are invalid, and the faults
        self._invalid: int | None = None
        self._answers: SimpleQueue[tuple[str, Answer]] = SimpleQueue()
        metrics.RULES_INVALID.read_from(lambda: self._invalid)

    def look(self, connection: Connection, users: list[str] | None) -> None:
        """Takes note of what is invalid now, of these users or of all. Raises `psycopg.Error`."""
        gone = self._known.keys() & (self._known.keys() if users is None else users)
        for user_id, valid, faults in invalid_rules(connection, users):
            gone -= {user_id}
            self._note(user_id, valid, faults)
        for user_id in gone:
            self._note(user_id, 0, [])
        self._invalid = sum(count for count, _ in self._known.values())

    def answers(self) -> Iterator[tuple[str, Answer]]:
        """The answers to publish since the last call, each with its user."""
        while True:
            try:
                yield self._answers.get_nowait()
            except Empty:
                return

    def _note(self, user_id: str, valid: int, faults: list[Fault]) -> None:
        known = (count_invalid(faults), json.dumps(faults)) if faults else None
        told = user_id != EVERYONE  # the operator has `sluice rules check --stored` and the metric
        if known == self._known.get(user_id):
            return
        if known is None:
            del self._known[user_id]
            if told:
                self._answers.put((user_id, Answer(ok=True, rules=valid)))
            log.info("rules_valid_again", user_id=user_id, rules=valid)
        else:
            self._known[user_id] = known
            if told:
                self._answers.put((user_id, Answer(ok=False, rules=valid, errors=faults)))
            log.error("rules_invalid", user_id=user_id, errors=faults[:5], in_force=valid)
