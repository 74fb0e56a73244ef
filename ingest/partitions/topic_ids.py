"""The id of the topic that Kafka's client reads. A topic that is deleted and made again has another id; the
client continues with the name, from its current offset, and reports that in its log, and nowhere else.
"""

import logging
import re
from collections.abc import Mapping

import structlog

log = structlog.get_logger()

# The debug context under which the client logs its topics' ids.
DEBUG = "metadata"
_CHANGED = re.compile(r"Topic (\S+) changed id from (\S+) to (\S+)$")


class TopicIds(logging.Filter):
    """The id of each topic, as the client's log has it; to be added to its logger, at level DEBUG.

    The client hands an entry over before the first record that it reads under the new id. Where it logs no
    ids, as of brokers that have none, nothing is doubted.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ids: dict[str, str] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Takes what the entry says, and lets through what is worth a line."""
        if record.levelno <= logging.DEBUG:
            if found := _CHANGED.search(record.getMessage()):
                self._take(*found.groups())
            return False
        return record.levelno >= logging.getLogger().level

    def others(self, known: Mapping[str, str]) -> set[str]:
        """The topics that the client reads under another id than the one by which they are known."""
        return {name for name, one in self._ids.items() if known.get(name) and known[name] != one}

    def _take(self, topic: str, before: str, now: str) -> None:
        self._ids[topic] = now
        if before.strip("A"):
            log.error("topic_has_another_id", topic=topic, before=before, now=now)
