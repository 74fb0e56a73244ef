"""*Not now*: temporary failures, after which the work is repeated. *Never* is `Refused`."""


class NotNow(Exception):
    """The work cannot be done now, and the messages are not the reason: it is repeated later."""


class DatabaseAway(NotNow):
    """The database did not take the rows in time; check DATABASE_URL and the server."""


class TableOutdated(NotNow):
    """The table or a column of it is not there yet: the workers are newer than it. Run `sluice migrate`."""


class DeadLettersUnconfirmed(NotNow):
    """Kafka did not confirm every dead letter in time; check KAFKA_BOOTSTRAP_SERVERS and the brokers."""


class OutOfMemory(Exception):
    """The messages need more memory than the process may have."""
