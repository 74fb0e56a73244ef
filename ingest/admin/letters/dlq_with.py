"""The work of `sluice dlq replay --with FILE`: letters as a changed declaration reads them.

The workers know the installed domain alone. So a letter is replayed only if that domain makes of what is
produced exactly the rows that the file's domain makes of the original payload. The file's code runs in the
command.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg
from confluent_kafka import KafkaException
from pydantic_core import to_jsonable_python
from redis import RedisError

from ingest.admin.domains import domain_try
from ingest.admin.errors import OperatorError, ServerAway
from ingest.admin.letters.dlq_list import reading
from ingest.admin.letters.dlq_outcome import Outlook, State
from tasks.dead_letters.letter import ABOUT_ALERTS, Filters, Letter
from tasks.domain import routing
from tasks.domain.declaration import Reading
from tasks.domain.domain import AnyDomain
from tasks.domain.outcome import Outcome
from tasks.domain.payload import Refused
from tasks.errors import NotNow
from tasks.replays import dead_letters, runs
from tasks.servers import database

Rows = list[dict[str, Any]]


class Changed(NamedTuple):
    """A letter as it is to be replayed, with its rows; None, and what is wrong, if it is left out."""

    letter: Letter | None
    rows: Rows
    refused: list[dict[str, Any]]  # `index`, `error_type`, `reason`, as `sluice domain try` has them


class Change:
    """Reads letters of the installed domain by a file's domain.

    Raises `OperatorError` if the two do not have the same columns.
    """

    def __init__(self, installed: AnyDomain, given: AnyDomain, file: str = "") -> None:
        if differing := sorted(set(given.columns) ^ set(installed.columns)):
            raise OperatorError(
                f"The file's domain must have the columns of {installed.name}; these are in one of the two"
                f" alone: {', '.join(differing)}."
            )
        self.file = file
        self._installed, self._given = installed, given
        self._members = {name: member for member, name in installed.members.items()}

    def letter(self, letter: Letter) -> Letter | None:
        """The letter to be replayed in this one's place; None if there is none."""
        return self.of(letter).letter

    def of(self, letter: Letter) -> Changed:
        """The outcome of a letter: always the same for the same letter."""
        if letter.error_type in ABOUT_ALERTS:
            return _left_out("NoMessage", "the letter is about an alert, and holds no message")
        try:
            return self._of(letter)
        except Refused as refused:
            return Changed(None, [], [domain_try.refusal(None, refused)])
        except Exception as error:  # noqa: BLE001 - the file's own code; the other letters go on
            return _left_out("InternalError", f"the file's domain fails: {type(error).__name__}: {error}")

    def _of(self, letter: Letter) -> Changed:
        found = _read(self._given, letter)
        rows = _rows(self._given, letter, found)
        if found.wrong:
            return Changed(None, rows, [domain_try.refusal(*one) for one in found.wrong])
        if found.is_ignored:
            return _left_out("NoReading", "by the file's domain, the message holds no reading")
        reason = ""
        for candidate in (letter, *self._flat(letter, found)):
            try:
                stored = _rows(self._installed, candidate, _read(self._installed, candidate))
            except Refused as refused:
                reason = f"it refuses: {refused.reason}"
            else:
                if stored == rows:
                    return Changed(candidate, rows, [])
                reason = f"it would store {json.dumps(stored, ensure_ascii=False)}"
        return _left_out("NotInstalled", f"the installed domain does not make these rows; {reason}", rows)

    def _flat(self, letter: Letter, found: Outcome[Reading[Any, Any]]) -> list[Letter]:
        """The one reading of the letter as one JSON object, with its time; nothing for several readings."""
        if len(found.readings) != 1:
            return []
        reading = found.readings[0][1]
        whole = self._given.whole(letter.topic, reading)
        values = {
            self._members[name]: to_jsonable_python(value)
            for name in self._given.columns
            if name in self._members and (value := getattr(whole, name, None)) is not None
        }
        text = json.dumps(values, ensure_ascii=False)
        if self._given.extra is not None:
            # As text, in which every digit is kept.
            extra = domain_try.extra_of(reading).strip()
            text = text if extra == "{}" else f"{text[:-1]}{', ' if values else ''}{extra[1:]}"
        return [letter._replace(payload=text.encode(), content_type="")]


def load(installed: AnyDomain, file: str) -> Change:
    """The change that a file declares. Raises `OperatorError`, `InvalidDomains`."""
    return Change(installed, domain_try.load(file), file)


def rehearse(
    domain: AnyDomain, filters: Filters, limit: int, change: Change, *, force: bool
) -> Iterator[tuple[Letter, Changed]]:
    """The open letters that match, in Kafka's order, each with its outcome, until `limit` would be replayed.

    Raises `OperatorError`.
    """
    open_states = {State.OPEN, State.EXHAUSTED} if force else {State.OPEN}
    with reading() as reader, Outlook(reader, domain) as outlook:
        for standing in outlook.standings(filters):
            if limit <= 0:
                return
            if outlook.database_away:
                raise ServerAway(f"It is unknown which letters are open: {outlook.database_away}")
            if standing.state in open_states:
                changed = change.of(standing.letter)
                limit -= changed.letter is not None
                yield standing.letter, changed


def replay(
    run_id: str,
    domain: AnyDomain,
    filters: Filters,
    limit: int,
    change: Change,
    *,
    alerts: bool,
    force: bool,
) -> None:
    """Replays letters as the file's domain reads them, in this process, as a new run that then has ended.

    If this process dies, a worker notes what was sent, and gives the run up. Raises `OperatorError`.
    """
    arguments = {
        "domain": domain.name,
        "filters": filters.as_json(),
        "limit": limit,
        "with": change.file,
        "force": force,
        "alerts": alerts,
    }
    with _servers():
        with database.access() as connection:
            runs.begin(connection, run_id, "dead_letters", arguments)
        held = runs.take(run_id, run_id)
        if held is None:
            raise OperatorError(f"The replay {run_id} was given up; run it again.")
        try:
            dead_letters.replay(held, change.letter)
            held.end()
        except BaseException:
            held.release()
            raise


@contextmanager
def _servers() -> Iterator[None]:
    try:
        yield
    except (NotNow, psycopg.Error, KafkaException, RedisError) as error:
        raise ServerAway(
            f"The replay stopped: {' '.join(str(error).split())}. Run it again: nothing is sent twice."
        ) from error


def _read(domain: AnyDomain, letter: Letter) -> Outcome[Reading[Any, Any]]:
    place = letter.origin or (letter.partition or 0, letter.offset or 0)
    return domain.read(
        letter.topic,
        letter.payload,
        letter.timestamp_ms,
        routing.limits(),
        place=place,
        content_type=letter.content_type,
        owner=letter.owner,
    )


def _rows(domain: AnyDomain, letter: Letter, found: Outcome[Reading[Any, Any]]) -> Rows:
    return [domain_try.row_of(domain, letter.topic, reading) for _, reading in found.readings]


def _left_out(error_type: str, reason: str, rows: Rows | None = None) -> Changed:
    return Changed(None, rows or [], [{"index": None, "error_type": error_type, "reason": reason}])
