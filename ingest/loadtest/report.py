"""The result of a load test: as data, and as a page for people."""

from dataclasses import dataclass
from itertools import islice
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ingest.loadtest.fleet.fleet import Totals
from ingest.loadtest.latency import Latency
from ingest.loadtest.ledger import Id, Ledger, Outcome, Seen

EXAMPLES = 10
SHOWN = 4


@dataclass(frozen=True)
class Options:
    """The options of the test."""

    users: int
    devices_per_user: int
    rate: float
    duration: float
    qos: int
    bad_ratio: float
    violating_ratio: float
    seed: int
    settle: float


@dataclass(frozen=True)
class Timing:
    """How long it took."""

    publish_seconds: float
    settle_seconds: float
    cpu_seconds: float


def as_data(
    run: str,
    options: Options,
    totals: Totals,
    timing: Timing,
    ledger: Ledger,
    outcome: Outcome,
    latency: Latency,
    lag: int | None,
) -> dict[str, Any]:
    """The result as JSON-able data; `ok` is whether nothing is lost and nothing is doubled."""
    return {
        "ok": not outcome.lost and not outcome.doubled,
        "run": run,
        "options": vars(options),
        "published": totals.published,
        "acknowledged": totals.acknowledged,
        "refused_by_broker": totals.refused,
        "published_again": totals.published_again,
        "reconnects": totals.reconnects,
        "acknowledged_without_subscriber": totals.no_subscriber,
        "not_made": totals.not_made,
        "achieved_rate": round(totals.published / timing.publish_seconds, 1),
        "publish_seconds": round(timing.publish_seconds, 3),
        "settle_seconds": round(timing.settle_seconds, 3),
        "cpu_us_per_message": round(1e6 * timing.cpu_seconds / max(totals.published, 1), 1),
        "rows": {"expected": ledger.good, "stored": outcome.stored},
        "dead_letters": {
            "expected": ledger.bad,
            "found": outcome.dead_lettered,
            "envelopes": outcome.envelopes,
            "repeated_envelopes": outcome.repeated_envelopes,
            "error_types": dict(outcome.error_types.most_common()),
            "kinds_published": dict(ledger.kinds.most_common()),
        },
        "lost": outcome.lost,
        "missing": {seen.value: _count(outcome, seen) for seen in Seen if _count(outcome, seen)},
        "missing_examples": _examples(outcome),
        "refused_examples": [_named(message) for message in outcome.refused[:EXAMPLES]],
        "doubled": outcome.doubled,
        "doubled_rows": [_named(message) for message in outcome.doubled_rows[:EXAMPLES]],
        "doubled_dead_letters": [
            {**_named(message), "dead_letters": count}
            for message, count in islice(outcome.doubled_letters.items(), EXAMPLES)
        ],
        "rows_nobody_published": [_named(message) for message in outcome.strange_rows[:EXAMPLES]],
        "dead_letters_of_good_messages": [
            {"topic": letter.topic, "sequence_id": letter.sequence_id, "error_type": letter.error_type}
            for letter in outcome.strange_letters[:EXAMPLES]
        ],
        "latency_ms": {
            name: round(value, 2) if isinstance(value, float) else value
            for name, value in latency._asdict().items()
        },
        "lag": lag,
    }


def _count(outcome: Outcome, seen: Seen) -> int:
    return sum(1 for where in outcome.missing.values() if where is seen)


def _examples(outcome: Outcome) -> list[dict[str, Any]]:
    by_place: dict[Seen, list[Id]] = {}
    for message, seen in outcome.missing.items():
        by_place.setdefault(seen, []).append(message)
    return [
        {**_named(message), "seen": seen.value}
        for seen, messages in by_place.items()
        for message in messages[:EXAMPLES]
    ]


def _named(message: Id) -> dict[str, Any]:
    return {"user_id": message.user, "device_id": message.device, "sequence_id": message.sequence_id}


def show(result: dict[str, Any], console: Console) -> None:
    """Prints the result for people."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_column(style="dim")
    for row in _lines(result):
        table.add_row(*row)
    console.print()
    console.print(table)
    console.print(_verdict(result))


def _lines(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    letters, rows, latency = result["dead_letters"], result["rows"], result["latency_ms"]
    target = result["options"]["rate"]
    behind = f"{result['not_made']:,} due and not made" if result["not_made"] else ""
    again = f"{result['published_again']:,} again after {result['reconnects']:,} broken connections"
    lines = [
        ("published", f"{result['published']:,}", again if result["reconnects"] else ""),
        ("acknowledged", f"{result['acknowledged']:,}", ""),
        ("rate", f"{result['achieved_rate']:,}/s", f"of {target:,g}/s {behind}".strip()),
        ("stored", f"{rows['stored']:,}", f"of {rows['expected']:,}"),
        ("dead-lettered", f"{letters['found']:,}", f"of {letters['expected']:,} {_repeats(letters)}".strip()),
        ("duplicates", f"{result['doubled']:,}", ""),
        ("lost", f"{result['lost']:,}", ""),
    ]
    if latency["samples"]:
        spread = ", ".join(f"{name} {latency[name]:,.0f}" for name in ("p95", "p99", "max"))
        lines.append(
            (
                "latency p50",
                f"{latency['p50']:,.0f} ms",
                f"{spread} ms; {latency['samples']:,} samples,"
                f" up to {latency['resolution_p50']:.0f} ms too long",
            )
        )
    return lines


def _names(messages: list[dict[str, Any]], count: int = 0) -> str:
    names = [f"{m['user_id']}/{m['device_id']} #{m['sequence_id']}" for m in messages[:SHOWN]]
    return ", ".join(names) + (" …" if max(count, len(messages)) > SHOWN else "")


def _repeats(letters: dict[str, Any]) -> str:
    repeated = letters["repeated_envelopes"]
    return f"({repeated:,} envelopes sent twice, same key)" if repeated else ""


def _verdict(result: dict[str, Any]) -> Text:
    if result["ok"]:
        return Text(
            f"\n0 lost, 0 doubled: each of {result['published']:,} messages has exactly one outcome.",
            style="green",
        )
    text = Text(f"\n{result['lost']:,} lost, {result['doubled']:,} doubled.", style="bold red")
    for seen, count in result["missing"].items():
        examples = [message for message in result["missing_examples"] if message["seen"] == seen]
        text.append(f"\n  {count:,} {seen}: {_names(examples, count)}", style="not bold")
    if result["refused_by_broker"]:
        count = result["refused_by_broker"]
        text.append(
            f"\n  {count:,} refused by the broker: {_names(result['refused_examples'], count)}",
            style="not bold",
        )
    for title in ("doubled_rows", "doubled_dead_letters", "rows_nobody_published"):
        if result[title]:
            text.append(f"\n  {title.replace('_', ' ')}: {_names(result[title])}", style="not bold")
    for letter in result["dead_letters_of_good_messages"]:
        text.append(f"\n  dead letter of a good message: {letter}", style="not bold")
    if result["acknowledged_without_subscriber"]:
        text.append(
            f"\n  {result['acknowledged_without_subscriber']:,} were acknowledged though nobody subscribes"
            " to them: has the gateway ever connected?",
            style="not bold",
        )
    if result["trouble"]:
        text.append(f"\n  {result['trouble']}", style="not bold")
    if result["lag"]:
        text.append(
            f"\n  {result['lag']:,} records wait in Kafka: the bridge or the workers are behind or away;"
            " a longer --settle gives them more time.",
            style="not bold",
        )
    return text
