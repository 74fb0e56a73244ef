"""The two kinds of failure: *not now* (wait and try again) and *never* (`Refused`, in `tasks.payload`)."""

import psycopg
import redis
from celery.exceptions import SoftTimeLimitExceeded
from confluent_kafka import KafkaException
from kombu.exceptions import OperationalError


class NotNow(Exception):
    """A server does not answer at the moment. The work is handed back and done again later."""


class DatabaseAway(NotNow):
    """The database did not take the rows in time; check DATABASE_URL and the server."""


class TableOutdated(NotNow):
    """The table or a column of it is not there yet: the workers are newer than it. Run `sluice migrate`."""


class DeadLettersUnconfirmed(NotNow):
    """Kafka did not confirm every dead letter in time; check KAFKA_BOOTSTRAP_SERVERS and the brokers."""


class OutOfMemory(Exception):
    """The messages need more memory than the process may have."""


def is_not_now(error: BaseException) -> bool:
    """Whether the error says something about servers, the network or this process's end.

    What is left is a bug: it says something about the messages, and a repetition will not mend it.
    """
    servers = (NotNow, redis.RedisError, psycopg.Error, KafkaException, OperationalError, OSError)
    # What is no `Exception` ends the process: somebody wants it to stop.
    return isinstance(error, (*servers, SoftTimeLimitExceeded)) or not isinstance(error, Exception)
