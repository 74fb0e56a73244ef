"""The values of the open dead letters, for a filter that matches none of them."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC
from typing import Any

from ingest.admin.known import Known, values
from ingest.admin.letters.dlq_list import reading
from ingest.admin.letters.dlq_outcome import Outlook
from tasks.dead_letters.letter import Filters, Letter
from tasks.domain.domain import AnyDomain
from tasks.text.wording import safe

MOST_NAMED = 10


def of_open(domain: AnyDomain, filters: Filters) -> str:
    """The same as `instead` about the domain's open letters; empty without a filter.

    Raises `ServerAway`.
    """
    if not filters.as_json():
        return ""
    with reading() as reader, Outlook(reader, domain) as outlook:
        return instead(filters, (one.letter for one in outlook.standings(Filters()) if one.state.is_open))


def instead(filters: Filters, letters: Iterable[Letter]) -> str:
    """A sentence for each filter that is set: the most frequent values of the letters, and their times."""
    types, users, devices = Counter[str](), Counter[str](), Counter[str]()
    times = []
    for letter in letters:
        times.append(letter.refused_at)
        types[letter.error_type] += 1
        if source := letter.source:
            users[source.user_id] += 1
            devices[source.device_id] += 1
    if not times:
        return "There is no open dead letter."
    said = [
        f"{name}: {_most(found)}."
        for name, found, wanted in (
            ("Error types", types, filters.error_type),
            ("Users", users, filters.user),
            ("Devices", devices, filters.device),
        )
        if wanted is not None
    ]
    if filters.since or filters.until:
        first, last = (f"{at(times).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" for at in (min, max))
        said.append(f"They were refused from {first} to {last}.")
    return " ".join([f"No open dead letter matches, of {len(times)}.", *said])


def known(tenant: str | None, filters: Filters, letters: Iterable[Letter]) -> Known | None:
    """The same as values by the name of the filter, from the tenant's letters; None without a filter.

    `refused_at` is the first and the last refusal.
    """
    wanted = {
        "user": None if tenant else filters.user,
        "device": filters.device,
        "error_type": filters.error_type,
        "refused_at": filters.since or filters.until,
    }
    names = [name for name, value in wanted.items() if value is not None]
    return values([_row(one) for one in letters], names, filters.user) if names else None


def _row(letter: Letter) -> dict[str, Any]:
    user, device = letter.source or ("", "")
    return {
        "user": user,
        "device": device,
        "error_type": letter.error_type,
        "refused_at": letter.refused_at,
    }


def _most(found: Counter[str]) -> str:
    named = [safe(value) for value, _ in found.most_common(MOST_NAMED)]
    more = len(found) - len(named)
    return ", ".join([*named, *([f"and {more} more"] if more else [])]) or "none"
