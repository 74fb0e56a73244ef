"""Some errors mean *not now*, and others are bugs."""

import psycopg
import pytest
import redis
from celery.exceptions import SoftTimeLimitExceeded
from confluent_kafka import KafkaError, KafkaException
from kombu.exceptions import OperationalError

from tasks.batch.lease import LeaseLost
from tasks.batch.marks import is_not_now
from tasks.errors import DeadLettersUnconfirmed, NotNow, OutOfMemory


@pytest.mark.parametrize(
    "error",
    [
        NotNow("later"),
        LeaseLost("batch"),
        DeadLettersUnconfirmed("1 unanswered"),
        redis.ConnectionError("refused"),
        redis.exceptions.OutOfMemoryError("maxmemory"),
        psycopg.OperationalError("refused"),
        psycopg.errors.UndefinedTable("not migrated yet"),
        KafkaException(KafkaError(KafkaError._ALL_BROKERS_DOWN)),
        OperationalError("no broker"),
        ConnectionResetError(),
        TimeoutError(),
        SoftTimeLimitExceeded(),
        SystemExit(0),
        KeyboardInterrupt(),
    ],
)
def test_servers_networks_and_ends_are_not_now(error: BaseException) -> None:
    """Whatever such an error says, it says nothing about the messages."""
    assert is_not_now(error)


@pytest.mark.parametrize(
    "error",
    [ZeroDivisionError(), KeyError("x"), RecursionError(), MemoryError(), OutOfMemory(), ValueError()],
)
def test_everything_else_is_a_bug(error: Exception) -> None:
    """A repetition does not mend it."""
    assert not is_not_now(error)
