"""The way of a message as one look at everything has it: broker, gateway, Kafka, lanes, workers, database."""

from typing import Any, NamedTuple

from ingest.admin.servers.status import RATE_SECONDS
from ingest.console.render import DASH

UNKNOWN = "not known at present"
SINCE = "counted_since"


class Step(NamedTuple):
    """One step; `wrong` says what is wrong with it, and is empty where nothing is known to be."""

    name: str
    what: str
    figures: list[tuple[str, str]]
    wrong: str


def steps(look: dict[str, Any]) -> list[Step]:
    """The steps in the order in which a message takes them, by `ingest.admin.servers.status.look`."""
    kafka, pipeline = look["kafka"], look["pipeline"]
    processes, breaker = look["processes"], look["breaker"]
    database_away = look["alerts"].get("away", "")
    gateway = processes.get("gateway", "")
    return [
        Step("Broker", "MQTT", [("seen by the gateway", UNKNOWN if gateway else "yes")], ""),
        Step("Gateway", "MQTT to Kafka", _figures(kafka, _GATEWAY), gateway),
        Step("Kafka", "keeps the messages", _kafka(kafka), kafka.get("away", "")),
        Step("Lanes", "the bridge", _figures(pipeline, _LANES), processes.get("bridge", "")),
        Step(
            "Workers",
            "validate, judge, store",
            [*_figures(pipeline, _WORKERS), ("breaker", breaker)],
            processes.get("worker", "") or pipeline.get("away", ""),
        ),
        Step("Database", "rows and alerts", _figures(pipeline, _DATABASE), database_away),
    ]


_GATEWAY = {"records_per_second": "messages/s"}
_LANES = {
    "batches": "batches",
    "resent": "sent again",
    "latency_ms_last": "age of the last batch, ms",
    SINCE: "counted since",
}
_WORKERS = {"stored_per_second": "rows/s"}
_DATABASE = {"stored": "rows written", "duplicate": "there already", SINCE: "counted since"}


def beside(look: dict[str, Any]) -> list[tuple[str, str]]:
    """The parts that belong to no step, each with its problem or its amount."""
    outbox = look["outbox"]
    waiting = (
        UNKNOWN if "away" in outbox else f"{outbox['entries']:,}, the oldest for {outbox['oldest_seconds']} s"
    )
    kafka = look["kafka"]
    refused = UNKNOWN if "away" in kafka else f"{kafka['dead_letters_per_second']:,}/s"
    found = [("changes of alerts not yet published", waiting), ("dead letters", refused)]
    steps = {"gateway", "bridge", "worker"}
    found += [
        (process, wrong or "ready") for process, wrong in look["processes"].items() if process not in steps
    ]
    return found


class Row(NamedTuple):
    """One domain's messages on their way; `draining` says when they are done, or that there will be more."""

    domain: str
    rate: str
    dead_letters: str
    waiting: str
    oldest: str
    draining: str


def domains(look: dict[str, Any]) -> list[Row]:
    """The figures of each domain where there are several; none while Kafka is away."""
    rows = []
    for name, figures in look.get("domains", {}).items():
        oldest = figures.get("oldest_seconds")
        rows.append(
            Row(
                name,
                f"{figures['records_per_second']:,}",
                f"{figures['dead_letters_per_second']:,}",
                f"{figures['lag']:,}",
                DASH if not figures["lag"] else UNKNOWN if oldest is None else f"{oldest:,} s",
                "; ".join(f"{what} {value}" for what, value in _draining(figures)) or DASH,
            )
        )
    return rows


def _kafka(kafka: dict[str, Any]) -> list[tuple[str, str]]:
    if "away" in kafka:
        return [("waiting", UNKNOWN)]
    return [("waiting", f"{kafka['lag']:,}"), *_draining(kafka)]


def _draining(kafka: dict[str, Any]) -> list[tuple[str, str]]:
    fewer = -kafka["lag_change"] / RATE_SECONDS
    if kafka["lag"] and fewer > 0:
        return [("done in about", f"{kafka['lag'] / fewer:,.0f} s")]
    if kafka["lag"] and fewer < 0:
        return [("more each second", f"{-fewer:,.0f}")]
    return []


def _figures(part: dict[str, Any], names: dict[str, str]) -> list[tuple[str, str]]:
    if "away" in part:
        return [(label, UNKNOWN) for label in names.values()]
    found = {label: part.get(name, 0) for name, label in names.items() if name in part or name != SINCE}
    return [(label, value if isinstance(value, str) else f"{value:,}") for label, value in found.items()]
