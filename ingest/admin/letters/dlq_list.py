"""The work of `sluice dlq list` and `sluice dlq show`."""

import base64
import json
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from ingest.admin.errors import OperatorError, ServerAway
from ingest.admin.letters.dlq_outcome import Outlook, Standing, State, envelope, printable
from tasks import registry
from tasks.batch.kafka_record import readable
from tasks.dead_letters.letter import Filters
from tasks.dead_letters.read import letter_of
from tasks.domain.domain import AnyDomain
from tasks.errors import NotNow
from tasks.servers.topic_reader import TopicReader
from tasks.settings import settings
from tasks.text.times import in_utc
from tasks.text.wording import safe

_PLACE = re.compile(r"([0-9]{1,9})/([0-9]{1,18})")


class NoDeadLetter(OperatorError):
    """There is no dead letter of that key."""

    def __init__(self, key: str) -> None:
        super().__init__(
            f"There is no dead letter {key}. `sluice dlq list` shows which there are;"
            f" Kafka may have dropped an old one."
        )


class Listing(NamedTuple):
    """The newest letters of a selection, and how many there are of each error type and state."""

    newest: list[Standing]
    counts: Counter[tuple[str, State]]
    database_away: str

    @property
    def total(self) -> int:
        """How many letters the selection has."""
        return self.counts.total()


@contextmanager
def reading(make: Callable[[], TopicReader] = TopicReader) -> Iterator[TopicReader]:
    """A reader for one command. Raises `ServerAway` when Kafka does not answer."""
    try:
        with make() as reader:
            yield reader
    except NotNow as error:
        raise kafka_away(error) from error


def kafka_away(error: NotNow) -> ServerAway:
    """The error when Kafka does not answer."""
    return ServerAway(
        f"Kafka at {settings().kafka_bootstrap_servers} does not answer: {error}."
        " Check KAFKA_BOOTSTRAP_SERVERS, and the topics by `sluice topics`."
    )


def select(domain: AnyDomain, filters: Filters, limit: int, *, handled: bool) -> Listing:
    """The letters that match; with `handled` also those that are no longer open."""
    newest: deque[Standing] = deque(maxlen=2 * limit)
    counts: Counter[tuple[str, State]] = Counter()
    with reading() as reader, Outlook(reader, domain) as outlook:
        for standing in outlook.standings(filters):
            if handled or standing.state.is_open:
                counts[standing.letter.error_type, standing.state] += 1
                newest.append(standing)
                if len(newest) == newest.maxlen:
                    newest = deque(_newest(newest, limit), maxlen=2 * limit)
    return Listing(_newest(newest, limit), counts, outlook.database_away)


def _newest(standings: "deque[Standing]", limit: int) -> list[Standing]:
    ordered = sorted(standings, key=lambda standing: standing.letter.refused_at)
    return ordered[-limit:]


def as_json(listing: Listing) -> dict[str, Any]:
    """The listing for machines, oldest letter first."""
    return {
        "total": listing.total,
        "counts": [
            {"error_type": error_type, "state": str(state), "letters": count}
            for (error_type, state), count in sorted(listing.counts.items())
        ],
        "letters": [envelope(standing) for standing in listing.newest],
    }


def as_lines(listing: Listing) -> Iterator[str]:
    """Two lines for each letter, oldest first: what it is, and why it was refused."""
    for letter, state in listing.newest:
        times = f"  refused {letter.attempts} times" if letter.attempts > 1 else ""
        yield (f"{in_utc(letter.refused_at)}  {safe(letter.id.key)}  {letter.error_type}  {state}{times}")
        yield f"    {safe(readable(letter.topic))}: {safe(letter.error)}"


def as_summary(listing: Listing) -> Iterator[str]:
    """One line for each error type and state, the most frequent first."""
    width = max((len(error_type) for error_type, _ in listing.counts), default=0)
    for (error_type, state), count in listing.counts.most_common():
        yield f"{count:>9}  {error_type:<{width}}  {state}"


def key_of(domain: AnyDomain, wanted: str) -> str:
    """The key that is meant by a key, or by `partition/offset` of a message in the domain's topic."""
    return f"{registry.kafka_topic(domain)}/{wanted}" if _PLACE.fullmatch(wanted) else wanted


def outcome_unknown(reason: str) -> ServerAway:
    """The error when nobody knows what became of a letter."""
    return ServerAway(f"The database could not be asked for its outcome: {reason}")


def find(
    domain: AnyDomain,
    wanted: str,
    filters: Filters | None = None,
    make: Callable[[], TopicReader] = TopicReader,
) -> tuple[bytes, Standing]:
    """The letter of this key, or of the message at `partition/offset` of the domain's topic, as it was sent
    and how it stands; of several with one key that match the newest. Raises `NoDeadLetter`, `OperatorError`.
    """
    key = key_of(domain, wanted)
    found: tuple[bytes, Any] | None = None
    with reading(make) as reader:
        topic = registry.kafka_dlq_topic(domain)
        for record in reader.records(topic, reader.ranges(topic)):
            if record.key() == key.encode() and (letter := letter_of(record)):
                if filters is not None and not filters.match(letter):
                    continue
                found = (record.value() or b"", letter)
        if found is None:
            raise NoDeadLetter(key)
        value, letter = found
        with Outlook(reader, domain) as outlook:
            known = outlook.replayed([letter.id]).get(letter.id)
            if outlook.database_away:
                raise outcome_unknown(outlook.database_away)
            if known and known.place:
                outlook.outcomes([known.place], letter.refused_at)
            return value, Standing(letter, outlook.state(letter, known))


def whole(value: bytes, standing: Standing) -> dict[str, Any]:
    """The envelope as it was sent, with how it stands, and the payload as text where it is printable."""
    sent: dict[str, Any] = json.loads(value)
    return {
        **sent,
        "key": standing.letter.id.key,
        "state": str(standing.state),
        "payload": printable(base64.b64decode(sent["payload_base64"])),
    }
