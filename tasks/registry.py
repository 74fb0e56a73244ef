"""The domains of this deployment: the modules that `DOMAINS` names, imported and checked together."""

import sys
from functools import lru_cache
from importlib import import_module
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from tasks.errors import NotNow
from tasks.settings import settings

if TYPE_CHECKING:
    from tasks.domain.domain import AnyDomain

Domains: TypeAlias = "tuple[AnyDomain, ...]"


class InvalidDomains(Exception):
    """DOMAINS names something that is not a domain, or domains that conflict. Its text is a sentence."""


class UnknownDomain(NotNow):
    """Another process has a domain that this one does not: start both with the same DOMAINS."""


def domains() -> Domains:
    """The domains, the default one first. Raises `InvalidDomains`."""
    return load(settings().domains)


def default() -> "AnyDomain":
    """The domain of rules and commands that do not name one."""
    return domains()[0]


def by_name(name: str) -> "AnyDomain":
    """The domain of this name; without a name the default one. Raises `UnknownDomain`."""
    if not name:
        return default()
    for domain in domains():
        if domain.name == name:
            return domain
    raise UnknownDomain(f"the domain {name} is not among DOMAINS={settings().domains}")


def of_device(device_id: str) -> "AnyDomain | None":
    """The domain that an alert's `device_id` belongs to; None if this deployment does not have it."""
    return next((domain for domain in domains() if domain.owns(device_id)), None)


def kafka_topic(domain: "AnyDomain") -> str:
    """The Kafka topic of a domain's messages."""
    return domain.qualified(settings().kafka_topic)


def of_kafka_topic(topic: object) -> "AnyDomain | None":
    """The domain whose messages are in this Kafka topic, if there is one."""
    return next((domain for domain in domains() if kafka_topic(domain) == topic), None)


def kafka_dlq_topic(domain: "AnyDomain") -> str:
    """The Kafka topic of a domain's dead letters."""
    return domain.qualified(settings().kafka_dlq_topic)


@lru_cache
def load(names: str) -> Domains:
    """The domains of these modules, comma-separated, each importable from the working directory too.

    Raises `InvalidDomains`.
    """
    found = tuple(_import(name.strip()) for name in names.split(",") if name.strip())
    if not found:
        raise InvalidDomains("DOMAINS names no domain; tasks.telemetry comes with Sluice.")
    for one, other in combinations(found, 2):
        for what in ("name", "namespace", "table"):
            if getattr(one, what) == getattr(other, what):
                raise InvalidDomains(
                    f"The domains {one.name} and {other.name} have the same {what},"
                    f" {getattr(one, what)!r}; give one of them another."
                )
        if one.conflicts(other):
            raise InvalidDomains(
                f"A topic could belong to {one.name} ({one.topic}) and to {other.name} ({other.topic});"
                " one of their levels must differ."
            )
    return found


def _import(name: str) -> "AnyDomain":
    here = str(Path.cwd())
    if here not in sys.path:
        # As `python -m` does; an installed command does not look there.
        sys.path.insert(0, here)
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        raise InvalidDomains(f"DOMAINS names {name}, which cannot be imported: {error}.") from error
    except TypeError as error:
        raise InvalidDomains(f"The domain {name} is not declared correctly: {error}.") from error
    # Callers that only need names and topics must not load what declares a domain.
    from tasks.domain.domain import Domain  # noqa: PLC0415 - see above

    domain = getattr(module, "DOMAIN", None)
    if not isinstance(domain, Domain):
        raise InvalidDomains(f"The module {name} has no Domain by the name DOMAIN.")
    return domain
