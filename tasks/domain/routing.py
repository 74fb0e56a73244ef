"""Which domain an MQTT topic belongs to, and the limits of its payloads."""

from functools import lru_cache

from tasks.domain.declaration import KNOWN_SOURCES
from tasks.domain.domain import AnyDomain
from tasks.domain.payload import Limits, Refused
from tasks.registry import Domains, match
from tasks.settings import settings
from tasks.text.wording import describe


def limits() -> Limits:
    """The limits of a payload, from the settings of this process."""
    chosen = settings()
    return Limits(chosen.payload_max_bytes, chosen.payload_max_depth)


@lru_cache(KNOWN_SOURCES)
def domain_of(topic: str, among: Domains) -> AnyDomain:
    """The domain whose MQTT topics have the form of this one. Raises `Refused` (`InvalidTopic`)."""
    levels = topic.split("/")
    for domain in among:
        if match(domain.filter.split("/"), levels):
            return domain
    forms = " or ".join(domain.topic for domain in among)
    raise Refused("InvalidTopic", f"the topic must be {forms}, got {describe(topic)}")
