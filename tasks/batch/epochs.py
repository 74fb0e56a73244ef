"""How often the offsets of each topic have begun again, after which an offset alone does not name a record.

They begin again when the topic is deleted and made again, and when Kafka loses records that were read.

The number is in Postgres, beside the alerts whose positions it completes.
"""

import psycopg
import structlog

from tasks.errors import NotNow, TableOutdated
from tasks.observe.metrics import worker as metrics
from tasks.servers import database

log = structlog.get_logger()

# The offset's bits, below the epoch; Kafka would need thousands of years to fill them in one partition.
_BITS = 48

NOTE = """
INSERT INTO kafka_topics (topic, topic_id, epoch)
SELECT %(topic)s, %(topic_id)s, coalesce(max(epoch) + 1, %(first)s) FROM kafka_topics WHERE topic = %(topic)s
ON CONFLICT DO NOTHING
"""
FIND = "SELECT epoch FROM kafka_topics WHERE topic = %(topic)s AND topic_id = %(topic_id)s"
LATEST = "SELECT coalesce(max(epoch), 0) FROM kafka_topics WHERE topic = %s"

_known: dict[str, int] = {}


def of(incarnation: str) -> int:
    """The epoch of a topic, given as NAME@ID: 0 for the first id that was seen, and without an id.

    Each process queries it once. Raises `psycopg.Error`, `NotNow`.
    """
    topic, _, topic_id = incarnation.partition("@")
    if not topic_id:
        return 0
    if incarnation not in _known:
        _known[incarnation] = _ask(topic, topic_id)
    return _known[incarnation]


def latest(topic: str) -> int:
    """The present epoch of the topic. Raises `psycopg.Error`."""
    with database.access() as connection:
        found = connection.execute(LATEST, [topic]).fetchone()
    return int(str(found[0])) if found else 0


def position(epoch: int, offset: int) -> int:
    """The offset with its epoch, as used in alert positions: greater than any of an earlier epoch."""
    return (epoch << _BITS) + offset


def _ask(topic: str, topic_id: str) -> int:
    # Without ids only the later incarnations have a name.
    named = {"topic": topic, "topic_id": topic_id, "first": int(topic_id.startswith("~"))}
    try:
        with database.access() as connection, connection.transaction():
            found = connection.execute(FIND, named).fetchone()
            if found is None:
                noted = connection.execute(NOTE, named).rowcount == 1
                found = connection.execute(FIND, named).fetchone()
                if noted and found and found[0]:
                    log.error("topic_made_again", topic=topic, epoch=found[0])
                    metrics.TOPICS_MADE_AGAIN.add(1)
    except psycopg.errors.UndefinedTable as error:
        raise TableOutdated(f"kafka_topics: {error.diag.message_primary}") from error
    if found is None:
        raise NotNow(f"another worker is recording another incarnation of topic {topic}")
    return int(str(found[0]))
