"""Samples of stored readings, when the database is slow or away."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from tasks import registry
from tasks.alerts import recent
from tasks.servers import database


class Failing:
    """A connection whose transactions fail."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def transaction(self) -> Any:
        """Fails at once."""
        raise self.error


@pytest.mark.parametrize(
    ("error", "counted"), [(psycopg.errors.QueryCanceled(), False), (psycopg.OperationalError(), True)]
)
def test_a_sample_that_takes_too_long_is_not_a_failure_of_the_database(
    monkeypatch: pytest.MonkeyPatch, error: Exception, counted: bool
) -> None:
    """A user with few readings in a large table must not open the circuit breaker of all workers."""
    failures: list[Exception] = []

    @contextmanager
    def access() -> Iterator[Any]:
        try:
            yield Failing(error)
        except psycopg.Error as failure:
            failures.append(failure)
            raise

    monkeypatch.setattr(database, "access", access)
    assert recent.payloads(registry.default(), "u") == []
    assert bool(failures) is counted
