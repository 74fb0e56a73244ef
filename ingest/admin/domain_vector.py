"""Which domains Vector serves in place of the gateway, by its subscriptions and by what it can read."""

import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path

from ingest.admin.errors import OperatorError
from tasks.domain.domain import AnyDomain
from tasks.domain.template import filter_covers


def subscriptions(file: Path) -> list[str]:
    """The MQTT filters that a configuration of Vector subscribes to. Raises `OperatorError`."""
    try:
        sources = tomllib.loads(file.read_text()).get("sources", {})
        topics = [one["topic"] for one in sources.values() if one.get("type") == "mqtt"]
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise OperatorError(f"{file} cannot be read as a configuration of Vector: {error}.") from error
    return [one for topic in topics for one in ([topic] if isinstance(topic, str) else topic)]


def unserved(domains: Iterable[AnyDomain], subscribed: Sequence[str]) -> list[str]:
    """A sentence for each domain that Vector with these subscriptions does not serve."""
    found = []
    for domain in domains:
        missing = [one for one in domain.filters if not any(filter_covers(own, one) for own in subscribed)]
        if domain.access_owner:
            why = "Vector does not read the access lists, which have its owner"
        elif domain.form is not None:
            why = "Vector reads neither the templates of its topics nor MQTT 5's content type"
        elif missing:
            why = f"Vector does not subscribe to {', '.join(missing)}"
        else:
            continue
        found.append(f"{domain.name}: {why}; the gateway does")
    return found
