"""Messages that kill the workers that work on them, and messages that no code can digest."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from confluent_kafka import Producer

from compose.local.preparation import process_environment
from compose.local.stack import Stack
from ingest.lanes.lane import STRIKES_TO_CONDEMN
from tests.conftest import PROCESSES, PROJECT, DeadLetters
from tests.integration import fleet
from tests.integration.lag import wait_for_no_lag
from tests.integration.production import row_count, sequence_ids


class Workers:
    """Worker main processes that can be killed by messages; each is started again when it dies."""

    def __init__(self, stack: Stack, log: Path, count: int) -> None:
        self.starts = 0
        self._settings = {"PROCESS_CPU_SECONDS": "1.5"}
        self._stack = stack
        self._log = log
        self._stopping = False
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._threads = [threading.Thread(target=self._keep, args=(number,)) for number in range(count)]
        for thread in self._threads:
            thread.start()

    def log(self) -> str:
        """The workers' log."""
        return self._log.read_text(errors="replace")

    def kill(self) -> None:
        """SIGKILL of every main process and its children."""
        for process in self._processes.values():
            # One that the last kill ended is gone until it is started again.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    @contextmanager
    def having(self, **settings: str) -> Iterator[None]:
        """The workers are killed, and have these settings, too, until the end of the block."""
        before = self._settings
        self._settings = before | settings
        self.kill()
        try:
            yield
        finally:
            self._settings = before
            self.kill()

    def close(self) -> None:
        """Stops them gently."""
        self._stopping = True
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        for thread in self._threads:
            thread.join(60)

    def _keep(self, number: int) -> None:
        command = [
            *(str(Path(sys.executable).with_name("celery")), "-A", "tasks", "worker"),
            *("--queues=process,db", "--concurrency=4", "--without-mingle", "--without-gossip"),
            *("--include=tests.integration.deadly", f"--hostname=deadly{number}@%h"),
        ]
        while not self._stopping:
            self.starts += 1
            environment = {**os.environ, **process_environment(self._stack.env), **self._settings}
            with self._log.open("ab") as log:
                self._processes[number] = subprocess.Popen(
                    command, cwd=PROJECT, env=environment, stderr=log, stdout=log, start_new_session=True
                )
            self._processes[number].wait()


@pytest.fixture(scope="module")
def workers(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """The pipeline with a worker that messages can kill in the place of its own, for all tests here."""
    stack.up([name for name in PROCESSES if name != "worker"], prepare=not stack.running())
    stack.stop("worker")
    own = Workers(stack, tmp_path_factory.mktemp("deadly") / "worker.log", 1)
    wait_for_no_lag(stack)
    yield own
    own.close()


def produce(stack: Stack, run: str, deeds: Sequence[str]) -> None:
    """One reading of one of ten devices for each deed; an empty one is a good reading."""
    producer = Producer({"bootstrap.servers": stack.env["KAFKA_BOOTSTRAP_SERVERS"], "linger.ms": 50})
    for number, deed in enumerate(deeds):
        device = f"dev-{number % 10}"
        value = {"sequence_id": number, "time": "2026-03-01T10:00:00Z", **({"deadly": deed} if deed else {})}
        headers: list[tuple[str, str | bytes | None]] = [
            ("mqtt_topic", f"users/{run}/devices/{device}/telemetry".encode())
        ]
        producer.produce(
            "iot-stream", json.dumps(value).encode(), f"{run}/{device}".encode(), headers=headers
        )
    assert producer.flush(30) == 0


def assert_condemned(letters: DeadLetters, run: str, deeds: Sequence[str], error_type: str) -> None:
    """Exactly the messages with deeds are dead letters, each once, with the error type and a reason."""
    found = {
        key: letter for key, letter in letters.read() if letter["original_topic"].startswith(f"users/{run}/")
    }
    assert len(found) == sum(bool(deed) for deed in deeds)
    assert {letter["error_type"] for letter in found.values()} == {error_type}
    assert all(letter["error"] and letter["kafka_offset"] is not None for letter in found.values())


def check(
    stack: Stack,
    database: psycopg.Connection[tuple[Any, ...]],
    letters: DeadLetters,
    deeds: Sequence[str],
    error_type: str,
) -> str:
    """Sends the readings; the good ones are stored, the others condemned, and nothing is left over."""
    run = uuid4().hex[:8]
    produce(stack, run, deeds)
    good = [number for number, deed in enumerate(deeds) if not deed]
    fleet.wait_until(lambda: row_count(database, run) >= len(good), 150, "the rows")
    wait_for_no_lag(stack)
    assert sequence_ids(database, run) == good
    assert_condemned(letters, run, deeds, error_type)
    return run


@pytest.mark.usefixtures("workers")
def test_a_message_that_kills_its_worker_is_isolated(
    stack: Stack, database: psycopg.Connection[tuple[Any, ...]], dead_letters: DeadLetters
) -> None:
    """The message that gets its process killed becomes a dead letter; all of its neighbours are stored."""
    deeds = [""] * 400
    deeds[137] = "kill"
    check(stack, database, dead_letters, deeds, "WorkerLost")


@pytest.mark.usefixtures("workers")
def test_a_crash_in_c_is_isolated(
    stack: Stack, database: psycopg.Connection[tuple[Any, ...]], dead_letters: DeadLetters
) -> None:
    """A segmentation fault is not an exception that anybody could catch."""
    check(stack, database, dead_letters, ["", "", "crash", ""], "WorkerLost")


@pytest.mark.usefixtures("workers")
def test_a_message_that_kills_the_worker_that_stores_it_is_isolated(
    stack: Stack, database: psycopg.Connection[tuple[Any, ...]], dead_letters: DeadLetters
) -> None:
    """The second stage is watched like the first."""
    check(stack, database, dead_letters, ["", "kill in store", ""], "WorkerLost")


@pytest.mark.usefixtures("workers")
def test_a_message_whose_workers_die_after_they_stored_it_is_a_row_and_no_dead_letter(
    stack: Stack, database: psycopg.Connection[tuple[Any, ...]], dead_letters: DeadLetters
) -> None:
    """It is condemned as one that kills; that its row is there is found before it becomes a dead letter."""
    run = uuid4().hex[:8]
    condemned = stack.log("bridge").count("message_condemned")
    produce(stack, run, ["", "kill after store", ""])
    fleet.wait_until(
        lambda: stack.log("bridge").count("message_condemned") > condemned, 150, "the message's verdict"
    )
    wait_for_no_lag(stack)
    assert sequence_ids(database, run) == [0, 1, 2]
    assert not [letter for _, letter in dead_letters.read() if run in letter["original_topic"]]


def test_a_message_that_kills_the_whole_worker_is_isolated(
    stack: Stack,
    database: psycopg.Connection[tuple[Any, ...]],
    dead_letters: DeadLetters,
    workers: Workers,
) -> None:
    """Also when the main process dies with its children, and good batches of other lanes with them."""
    deeds = [""] * 12
    deeds[5] = "kill worker"
    starts = workers.starts
    # Nobody is left to report on the batch: each time its lease must end.
    with workers.having(LEASE_SECONDS="3"):
        check(stack, database, dead_letters, deeds, "WorkerLost")
        assert workers.starts >= starts + 1 + STRIKES_TO_CONDEMN


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize("deed", ["loop", "match"])
def test_a_message_that_hangs_its_worker_is_isolated(
    stack: Stack, database: psycopg.Connection[tuple[Any, ...]], dead_letters: DeadLetters, deed: str
) -> None:
    """It becomes a dead letter within a bounded CPU time, also where it loops in C; the others are stored."""
    check(stack, database, dead_letters, ["", deed, "", ""], "WorkerHung")


@pytest.mark.usefixtures("workers")
def test_a_message_that_needs_too_much_memory_is_isolated(
    stack: Stack, database: psycopg.Connection[tuple[Any, ...]], dead_letters: DeadLetters
) -> None:
    """A process with a limit of its own reports it; its worker continues."""
    check(stack, database, dead_letters, ["", "memory", "", ""], "Unexpected")


@pytest.mark.usefixtures("workers")
def test_messages_that_meet_a_bug_become_dead_letters_with_the_exception(
    stack: Stack, database: psycopg.Connection[tuple[Any, ...]], dead_letters: DeadLetters
) -> None:
    """Only those that cause it, after a bounded number of tries, with its type and its text."""
    deeds = [""] * 1000
    deeds[1] = deeds[500] = deeds[999] = "bug"
    run = check(stack, database, dead_letters, deeds, "Unexpected")
    (reason,) = {letter["error"] for _, letter in dead_letters.read() if run in letter["original_topic"]}
    assert reason == "ZeroDivisionError: nobody thought of this reading"


def test_a_message_whose_workers_are_killed_in_an_outage_is_stored(
    stack: Stack, dead_letters: DeadLetters, workers: Workers
) -> None:
    """While the database is away, the death of a worker that waits for it is not evidence, however often."""
    run = uuid4().hex[:8]
    lost = stack.log("bridge").count("batch_lost")
    stack.stop("postgres")
    produce(stack, run, ["", ""])
    for kills in range(1, STRIKES_TO_CONDEMN + 2):
        fleet.wait_until(partial(sent_again, stack, lost + kills), 60, "a batch that comes again")
        workers.kill()
    stack.start("postgres")
    with psycopg.connect(stack.env["DATABASE_DIRECT_URL"], autocommit=True) as again:
        fleet.wait_until(lambda: sequence_ids(again, run) == [0, 1], 90, "the rows")
    wait_for_no_lag(stack)
    assert not [letter for _, letter in dead_letters.read() if run in letter["original_topic"]]


def sent_again(stack: Stack, count: int) -> bool:
    """Whether the bridge has lost so many batches."""
    return stack.log("bridge").count("batch_lost") >= count
