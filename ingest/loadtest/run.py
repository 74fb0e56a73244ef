"""The course of a load test: enroll, publish, wait until all has arrived, compare."""

import asyncio
import resource
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import psycopg
from pydantic import SecretStr
from rich.console import Console

from ingest.admin.errors import OperatorError, ServerAway
from ingest.admin.servers.positions import KafkaAway
from ingest.loadtest import report
from ingest.loadtest.findings import KafkaEvidence, Rows
from ingest.loadtest.fleet.device import Device, PendingMessage
from ingest.loadtest.fleet.enroll import dismiss, enroll, run_name
from ingest.loadtest.fleet.fleet import Fleet, Login, Mix
from ingest.loadtest.latency import Sampler
from ingest.loadtest.ledger import Ledger, Letter, Outcome, locate, reconcile
from ingest.loadtest.progress import Progress
from ingest.loadtest.publish_spans import PublishSpans
from tasks.observe import tracing
from tasks.settings import settings
from tasks.telemetry import DOMAIN

CONNECT_SECONDS = 20.0


class Servers(NamedTuple):
    """Where everything is."""

    mqtt_host: str
    mqtt_port: int
    database_url: SecretStr
    bootstrap_servers: str


class NotPublished(OperatorError):
    """The devices could not connect."""


class Notes:
    """Records what the fleet does, for the comparison and for the latency."""

    def __init__(self, ledger: Ledger, sampler: Sampler) -> None:
        self._ledger, self._sampler = ledger, sampler
        self._spans = PublishSpans()

    def published(self, device: Device, message: PendingMessage, microseconds: int, bad: str | None) -> None:
        """Called by the fleet."""
        self._spans.published(device, message)
        if bad is None:
            self._ledger.published(device.user, device.name, message.sequence_id)
            self._sampler.offer(device.user, device.name, message.sequence_id, microseconds)
        else:
            spoiled = (bad, device.topic, message.payload)
            self._ledger.published(device.user, device.name, message.sequence_id, bad=spoiled)

    def acknowledged(self, device: Device, sequence_id: int) -> None:
        """Called by the fleet."""
        self._spans.acknowledged(device, sequence_id)
        self._ledger.acknowledged(device.user, device.name, sequence_id)

    def refused(self, device: Device, sequence_id: int, reason: str) -> None:  # noqa: ARG002
        """Called by the fleet."""
        self._ledger.refused(device.user, device.name, sequence_id)


async def run(
    options: report.Options, servers: Servers, samples_per_second: float, console: Console
) -> dict[str, Any]:
    """Runs the whole test and returns its result. Raises `OperatorError` when it cannot be run.

    Ctrl-C ends the publishing early and goes on to the comparison; a second one ends the test.
    """
    name = run_name("load")
    url = servers.database_url.get_secret_value()
    logins = enroll(url, name, options.users, options.devices_per_user)
    try:
        return await _test(name, options, servers, logins, samples_per_second, console)
    finally:
        try:
            dismiss(url, logins)
        except OperatorError as error:
            console.print(f"The credentials of {name} could not be removed: {error}", markup=False)


async def _test(
    name: str,
    options: report.Options,
    servers: Servers,
    logins: list[Login],
    samples_per_second: float,
    console: Console,
) -> dict[str, Any]:
    chosen = settings()
    url = servers.database_url.get_secret_value()
    fleet_topics = {f"users/{login.user}/devices/{login.device}/telemetry" for login in logins}
    evidence = KafkaEvidence(
        servers.bootstrap_servers,
        DOMAIN.qualified(chosen.kafka_topic),
        DOMAIN.qualified(chosen.kafka_dlq_topic),
        chosen.kafka_group,
        fleet_topics,
    )
    # The devices' clock is this machine's, the rows' is theirs: an hour covers every difference.
    users = sorted({login.user for login in logins})
    rows = Rows(url, users, datetime.now(UTC) - timedelta(hours=1))
    ledger = Ledger((login.user, login.device) for login in logins)
    sampler = Sampler(samples_per_second, options.seed)
    mix = Mix(
        options.bad_ratio,
        options.violating_ratio,
        chosen.payload_max_bytes,
        chosen.payload_max_depth,
        options.seed,
    )
    fleet = Fleet(
        logins,
        rate=options.rate,
        qos=options.qos,
        mix=mix,
        recorder=Notes(ledger, sampler),
        trace_ratio=chosen.trace_sample_ratio if tracing.on() else 0,
    )
    looking = asyncio.create_task(sampler.look(url))
    try:
        with Progress(console, options.duration) as progress:
            try:
                await fleet.connect(servers.mqtt_host, servers.mqtt_port, CONNECT_SECONDS)
            except ConnectionError as error:
                raise NotPublished(
                    f"{error}. Check MQTT_HOST, MQTT_PORT, and that new logins reach the broker."
                ) from error
            cpu = _cpu_seconds()
            with _stop_at_first_interrupt(fleet.stop):
                publish_seconds = await fleet.run(
                    options.duration, on_tick=lambda: progress.publishing(fleet.totals, sampler.pending)
                )
            cpu = _cpu_seconds() - cpu
            began = time.monotonic()
            await fleet.drain(options.settle)
            settling = Settling(ledger, rows, evidence, options.settle - (time.monotonic() - began))
            await settling.wait(progress)
            await sampler.finish(1.0)
            if looking.done():
                looking.result()
            timing = report.Timing(publish_seconds, time.monotonic() - began, cpu)
            progress.comparing()
            outcome = await asyncio.to_thread(settling.outcome)
        result = report.as_data(
            name, options, fleet.totals, timing, ledger, outcome, sampler.result(), settling.lag
        )
        return {**result, "trouble": settling.trouble}
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        await fleet.close()
        evidence.close()


class Settling:
    """Waits for everything to arrive, and then compares."""

    def __init__(self, ledger: Ledger, rows: Rows, evidence: KafkaEvidence, seconds: float) -> None:
        self.lag: int | None = None
        self.trouble = ""
        self._ledger, self._rows, self._evidence = ledger, rows, evidence
        self._end = time.monotonic() + seconds
        self._letters: list[Letter] = []
        self._stored = self._dead_lettered = 0
        self._ends: dict[int, int] | None = None

    async def wait(self, progress: Progress) -> None:
        """Returns when all rows and dead letters are there and the bridge has committed, or time is up.

        A server that is away in between is waited for.
        """
        while True:
            trouble = ""
            began = time.monotonic()
            complete = False
            try:
                complete = await asyncio.to_thread(self._look)
            except (KafkaAway, psycopg.OperationalError) as error:
                trouble = " ".join(str(error).split())
            progress.settling(
                self._stored, self._ledger.good, self._dead_lettered, self._ledger.bad, self.lag, trouble
            )
            if complete or time.monotonic() > self._end:
                return
            # Counting may not become a load of its own.
            await asyncio.sleep(max(0.3, 4 * (time.monotonic() - began)))

    def _look(self) -> bool:
        self._stored = self._rows.count()
        self._letters += self._evidence.new_letters()
        self._dead_lettered = len({letter.fingerprint for letter in self._letters})
        arrived = self._stored >= self._ledger.good and self._dead_lettered >= self._ledger.bad
        if arrived and self._ends is None:
            # Messages after these offsets are not the test's, and it does not wait for them.
            self._ends = self._evidence.ends()
        self.lag = self._evidence.lag(self._ends or self._evidence.ends())
        return arrived and not self.lag

    def outcome(self) -> Outcome:
        """The outcome of every message. Raises `ServerAway` when the database does not answer now.

        Without Kafka the missing messages stay where they were seen last; `trouble` says so.
        """
        try:
            outcome = reconcile(self._ledger, self._rows.all(), self._letters)
        except psycopg.OperationalError as error:
            raise ServerAway(f"The rows could not be read: {' '.join(str(error).split())}") from error
        if outcome.missing or outcome.doubled_letters:
            try:
                locate(self._ledger, outcome, self._evidence.records())
            except KafkaAway as error:
                self.trouble = f"The missing could not be looked for in Kafka: {error}"
        return outcome


class _stop_at_first_interrupt:  # noqa: N801 - reads as the function that it is to its caller
    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()

        def stop() -> None:
            loop.remove_signal_handler(signal.SIGINT)
            self._stop()

        loop.add_signal_handler(signal.SIGINT, stop)

    def __exit__(self, *_: object) -> None:
        with suppress(RuntimeError):
            asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
