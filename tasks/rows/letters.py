"""Dead letters of messages some of whose readings are rows: one for each message, for all that is wrong."""

from collections.abc import Iterable, Mapping

from tasks.batch.messages import Message
from tasks.dead_letters.sender import DeadLetter
from tasks.domain import routing
from tasks.domain.domain import AnyDomain
from tasks.domain.outcome import Wrong, summary
from tasks.domain.payload import Limits
from tasks.rows.validate import read
from tasks.rows.write import Unstored

Position = tuple[int, int]


def letters(
    domain: AnyDomain,
    messages: Mapping[Position, Message],
    partial: Iterable[Position],
    unstored: Iterable[Unstored],
) -> list[DeadLetter]:
    """The letters of messages that are partly refused, and of those with rows that cannot be stored.

    `messages` are by partition and offset.
    """
    refused: dict[Position, list[Unstored]] = {position: [] for position in partial}
    for one in unstored:
        refused.setdefault((one.row.partition, domain.offset_of(one.row.offset)), []).append(one)
    limits = routing.limits()
    return [_letter(domain, messages[position], some, limits) for position, some in refused.items()]


def _letter(domain: AnyDomain, message: Message, unstored: list[Unstored], limits: Limits) -> DeadLetter:
    if domain.form is None:
        (_, reason, error_type, stored) = unstored[0]
        return DeadLetter(message, error_type, reason, stored)
    # Reading it again gives the same: it is cheaper than to hand on what is rarely needed.
    outcome = read(domain, message, limits)
    wrong = [Wrong(index, refused.error_type, refused.reason) for index, refused in outcome.wrong]
    wrong += [Wrong(domain.index_of(one.row.offset), one.error_type, one.reason) for one in unstored]
    wrong.sort()
    error_type, reason = summary(wrong, outcome.total)
    stored = unstored[0].stored if len(unstored) == 1 else None
    elements = tuple(one.number for one in wrong) if outcome.total > 1 else ()
    return DeadLetter(message, error_type, reason, stored, elements)
