"""One look at everything: what comes and goes, what waits, who works, and what is wrong. `sluice status`."""

import time
import urllib.request
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import psycopg
import redis
from confluent_kafka import KafkaException
from prometheus_client.parser import text_string_to_metric_families

from ingest.admin import postgres
from ingest.admin.errors import OperatorError
from ingest.admin.servers import probe
from ingest.admin.servers.flow import Flow, domain_flows, oldest_waiting, total
from ingest.requests.rules_report import count_invalid, invalid_rules
from tasks import dead_letter_share
from tasks.channels import wake
from tasks.dead_letters import unhandled
from tasks.outbox import stream
from tasks.servers import counters
from tasks.settings import Settings

T = TypeVar("T")

RATE_SECONDS = 2.0
# A table that somebody has locked must not keep the operator from reading the rest.
STATEMENT_SECONDS = 5.0
DAY_SECONDS = 86_400
ALERTS = (
    "SELECT status, count(*) FROM active_alerts WHERE status <> 'RESOLVED' GROUP BY status ORDER BY status"
)
BREAKER = {0.0: "closed", 0.5: "half open", 1.0: "open"}
SERVERS = {
    "kafka": "Kafka",
    "pipeline": "Redis",
    "outbox": "Redis",
    "letters": "Redis",
    "alerts": "the database",
    "rules": "the database",
    "channels": "Redis",
}
# The entries of the runbook.
AWAY = {"Kafka": "Process down", "Redis": "Redis refuses", "the database": "Breaker open"}
# Processes that are not part of the pipeline.
BESIDES = {"flower", "notify", "web"}

# The limits of the alert rules in compose/observability/prometheus.
MOST_LAG = 10_000
MOST_OUTBOX_SECONDS = 120
MOST_UNTAKEN_SECONDS = 120
EXPIRING = 0.75  # of the retention


class Wrong(NamedTuple):
    """A problem, and the entry of the runbook that is about it."""

    text: str
    entry: str


def look(chosen: Settings) -> dict[str, Any]:
    """The state of everything, as JSON can hold it, with `problems`; takes about `RATE_SECONDS`.

    A server that does not answer is an object with `away`, the reason, in place of its values. Where there
    are several domains, `domains` has the figures of each, unless Kafka is away.
    """
    with ThreadPoolExecutor(8) as pool:
        flow = pool.submit(_known, lambda: _measured(chosen))
        pipeline = pool.submit(_known, _pipeline)
        waiting = pool.submit(_known, _outbox)
        letters = pool.submit(_known, lambda: _letters(chosen))
        alerts = pool.submit(_known, _alerts)
        rules = pool.submit(_known, _rules)
        channels = pool.submit(_known, _channels)
        processes = pool.submit(_said, chosen)
        measured = flow.result()
        status: dict[str, Any] = {
            "kafka": measured.growth(measured.last) if isinstance(measured, Measured) else measured,
            "pipeline": pipeline.result(),
            "outbox": waiting.result(),
            "letters": letters.result(),
            "alerts": alerts.result(),
            "rules": rules.result(),
            "channels": channels.result(),
            "breaker": _breaker(chosen),
            "processes": {process: one.problem for process, one in processes.result().items()},
            "remarks": {process: one.remark for process, one in processes.result().items() if one.remark},
        }
        if isinstance(measured, Measured) and len(measured.last) > 1:
            status["domains"] = measured.by_domain()
    return {"problems": problems(status), **status}


def problems(status: dict[str, Any]) -> list[str]:
    """The problems that a status shows, the worst first; empty when all is well."""
    return [one.text for one in wrong_with(status)]


def wrong_with(status: dict[str, Any]) -> list[Wrong]:
    """The same, with the entries of the runbook.

    Flower, `web` and the worker of the channels are not part of the pipeline: without them nothing is wrong,
    unless alerts wait for a channel.
    """
    away = {SERVERS[part]: status[part]["away"] for part in SERVERS if "away" in status.get(part, {})}
    found = [Wrong(f"{server} does not answer: {reason}", AWAY[server]) for server, reason in away.items()]
    found += [
        Wrong(text, "Process down")
        for process, text in status["processes"].items()
        if text and process not in BESIDES
    ]
    if status["breaker"] in {"open", "half open"}:
        text = f"the database failed, and access to it pauses: the breaker is {status['breaker']}"
        found.append(Wrong(text, "Breaker open"))
    return found + [Wrong(text, entry) for text, entry, wrong in _limits(status) if wrong]


def _limits(status: dict[str, Any]) -> Iterator[tuple[str, str, bool]]:
    letters, kafka = status.get("letters", {}), status.get("kafka", {})
    yield (
        "a large share of the messages is refused: sluice dlq list --summary",
        "Dead-letter share",
        bool(letters.get("share_high", 0)),
    )
    lag, grown = kafka.get("lag", 0), kafka.get("lag_change", 0)
    yield (
        f"{_number(lag)} records wait in Kafka, and they get more",
        "Lag growing",
        lag > MOST_LAG and grown > 0,
    )
    oldest = status.get("outbox", {}).get("oldest_seconds", 0)
    yield (
        f"changes of alerts wait for delivery, the oldest for {oldest} s",
        "Outbox age",
        oldest > MOST_OUTBOX_SECONDS,
    )
    untaken = status.get("channels", {}).get("untaken_seconds", 0)
    yield (
        f"nobody has sent alerts to channels for {untaken:.0f} s: a worker of the queue `notify` must run",
        "Channels not served",
        untaken > MOST_UNTAKEN_SECONDS,
    )
    days, kept = letters.get("oldest_unhandled_days", 0), letters.get("kept_days", 0)
    yield (
        f"Kafka drops an unhandled dead letter within {round(kept - days, 1)} days: sluice dlq list",
        "Dead letters expire",
        days > EXPIRING * kept,
    )
    invalid = status.get("rules", {}).get("invalid", 0)
    yield (
        f"{invalid} stored rules are not in force: sluice rules check --stored",
        "Rules invalid",
        invalid > 0,
    )


def as_text(status: dict[str, Any]) -> Iterator[str]:
    """The same for people: first what is wrong, then one line for each item."""
    for problem in status["problems"]:
        yield f"WRONG      {problem}"
    if not status["problems"]:
        yield "all well"
    for title in SERVERS:
        if title not in status:
            continue
        found = status[title]
        if "away" in found:
            yield f"{title:<10} does not answer: {found['away']}"
        else:
            yield f"{title:<10} {_line(found)}{_counted(title, found)}"
        if title == "kafka":
            for domain, figures in status.get("domains", {}).items():
                yield f"  {domain:<8} {_line(figures)}"
    yield f"{'breaker':<10} {status['breaker']}"
    for process, problem in status["processes"].items():
        remark = status.get("remarks", {}).get(process, "")
        yield f"{process:<10} {problem or '; '.join(filter(None, ('ready', remark)))}"


class Said(NamedTuple):
    """What is wrong with a process, and what a process that is ready remarks; each may be empty."""

    problem: str
    remark: str


class Measured(NamedTuple):
    """Kafka by domain, twice, and how many seconds apart; the age (s) of what has waited longest."""

    first: dict[str, Flow]
    last: dict[str, Flow]
    seconds: float
    oldest: dict[str, float]

    def growth(self, names: Collection[str]) -> dict[str, float]:
        """The figures of these domains together."""
        first, last = total(self.first[name] for name in names), total(self.last[name] for name in names)
        return {
            "lag": last.lag,
            "lag_change": last.lag - first.lag,
            "records_per_second": round((last.records - first.records) / self.seconds, 1),
            "dead_letters_per_second": round((last.dead_letters - first.dead_letters) / self.seconds, 1),
            "records": last.records,
            "dead_letters": last.dead_letters,
        }

    def by_domain(self) -> dict[str, dict[str, float]]:
        """The figures of each, with `oldest_seconds` where something waits."""
        return {
            name: self.growth([name]) | ({"oldest_seconds": self.oldest[name]} if name in self.oldest else {})
            for name in self.last
        }


def _measured(chosen: Settings) -> Measured:
    flows = domain_flows(chosen)
    first, began = flows(), time.monotonic()
    time.sleep(RATE_SECONDS)
    last, seconds = flows(), time.monotonic() - began
    waiting = [name for name, flow in last.items() if flow.lag]
    return Measured(first, last, seconds, oldest_waiting(chosen, waiting) if len(last) > 1 else {})


def _pipeline() -> dict[str, float | str]:
    first, began = counters.read(), time.monotonic()
    time.sleep(RATE_SECONDS)
    (last, since), seconds = counters.read_since(), time.monotonic() - began
    grown = max(0, last.get("stored", 0) - first.get("stored", 0))
    # Kafka counts since its topics were made, these since Redis was empty: untold they contradict.
    counted = {"counted_since": f"{since:%Y-%m-%dT%H:%M:%SZ}"} if since else {}
    return {"stored_per_second": round(grown / seconds, 1), **last, **counted}


def _outbox() -> dict[str, float]:
    return {"entries": stream.backlog(), "oldest_seconds": round(stream.oldest_seconds(), 1)}


def _letters(chosen: Settings) -> dict[str, float]:
    found = unhandled.oldest_seconds()
    oldest = {} if found is None else {"oldest_unhandled_days": round(max(found.values()) / DAY_SECONDS, 1)}
    high = {"share_high": 1} if dead_letter_share.is_high() else {}
    return {**high, **oldest, "kept_days": chosen.dead_letter_retention_days}


def _alerts() -> dict[str, float]:
    with postgres.session(STATEMENT_SECONDS) as connection:
        return {str(status): int(str(count)) for status, count in connection.execute(ALERTS).fetchall()}


def _rules() -> dict[str, float]:
    users = valid = invalid = 0
    with postgres.session(STATEMENT_SECONDS) as connection:
        for _, own, faults in invalid_rules(connection, None):
            users, valid, invalid = users + 1, valid + own, invalid + count_invalid(faults)
    return {"users": users, "in_force": valid, **({"invalid": invalid} if invalid else {})}


def _channels() -> dict[str, float]:
    look = wake.seen()
    if look is None or not look.waiting:
        return {}
    untaken = 0.0 if look.untaken is None else max(0.0, time.time() - look.untaken)
    return {"waiting": look.waiting, "untaken_seconds": round(untaken, 1)}


def _breaker(chosen: Settings) -> str:
    try:
        url = probe.address(chosen, "worker", ready=True, host=chosen.process_host).replace(
            "readyz", "metrics"
        )
        with urllib.request.urlopen(url, timeout=probe.ANSWER_SECONDS) as answer:  # noqa: S310 - our own
            families = list(text_string_to_metric_families(answer.read().decode()))
    except (OperatorError, OSError):
        return "unknown: no worker answers"
    states = [s.value for f in families if f.name == "db_circuit_breaker_state" for s in f.samples]
    return BREAKER.get(max(states), "unknown") if states else "unknown: no worker has used the database yet"


def _said(chosen: Settings) -> dict[str, Said]:
    """What each process says; a process without a port cannot be asked, and is left out."""
    found: dict[str, Said] = {}
    for process in [one for one in probe.PROCESSES if probe.port_of(chosen, one)]:
        try:
            text = probe.ask(chosen, process, ready=True, host=chosen.process_host)
            found[process] = Said("", text.partition("; ")[2])
        except OperatorError as error:
            found[process] = Said(str(error), "")
    return found


def _known(read: Callable[[], T]) -> T | dict[str, str]:
    try:
        return read()
    except (OperatorError, KafkaException, redis.RedisError, psycopg.Error, OSError) as error:
        return {"away": " ".join(str(error).split()) or type(error).__name__}


def _line(figures: dict[str, float | str]) -> str:
    return (
        "   ".join(f"{name.replace('_', ' ')} {_number(value)}" for name, value in figures.items()) or "none"
    )


def _counted(title: str, figures: dict[str, float | str]) -> str:
    """From when the totals of a line count, where it does not say."""
    if title == "kafka" and "records" in figures:
        return "   (both since the topics were made)"
    if title == "pipeline" and "received" not in figures:
        return "   (Redis has counted no batch yet)"
    return ""


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:,}"
