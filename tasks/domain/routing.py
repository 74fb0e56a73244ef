"""Finds the domain that an MQTT topic belongs to, and the limits of its payloads."""

from functools import lru_cache

from tasks.domain.domain import AnyDomain
from tasks.domain.payload import Limits, Refused
from tasks.domain.template import Template
from tasks.domain.topics import KNOWN_SOURCES
from tasks.registry import Domains
from tasks.settings import settings
from tasks.text.wording import describe


def limits() -> Limits:
    """The limits of a payload, from the settings of this process."""
    chosen = settings()
    return Limits(chosen.payload_max_bytes, chosen.payload_max_depth)


@lru_cache(KNOWN_SOURCES)
def domain_of(topic: str, among: Domains) -> AnyDomain:
    """The domain whose MQTT topics have the form of this one. Raises `Refused` (`InvalidTopic`)."""
    for template, domain in _ranked(among):
        if template.match(topic) is not None:
            return domain
    forms = " or ".join(domain.topic for domain in among)
    raise Refused("InvalidTopic", f"the topic must be {forms}, got {describe(topic)}")


@lru_cache
def _ranked(among: Domains) -> list[tuple[Template, AnyDomain]]:
    """The templates of the domains, also of topics that they ignore, in the order that decides."""
    every = [(template, domain) for domain in among for template in domain.ranked]
    return sorted(every, key=lambda pair: pair[0].rank)
