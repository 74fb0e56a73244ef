"""The table of a chaos run: for the terminal, and as JSON under `.local/chaos`."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from tests.chaos.judge import Verdict

FOLDER = Path(__file__).resolve().parents[2] / ".local" / "chaos"
COLUMNS = (
    "fault",
    "lasted s",
    "worst latency s",
    "recovery s",
    "messages",
    "rows",
    "dead letters",
    "alert changes",
    "lost",
    "doubled",
    "verdict",
)


def cells(verdict: Verdict) -> list[str]:
    """A line of the table."""
    return [
        verdict.fault,
        f"{verdict.seconds:.1f}",
        f"{verdict.worst_latency_seconds:.1f}",
        f"{verdict.recovery_seconds:.1f}",
        f"{verdict.messages:,}",
        f"{verdict.rows:,}",
        str(verdict.dead_letters),
        f"{verdict.alert_changes:,}",
        str(verdict.lost),
        str(verdict.doubled),
        "kept" if verdict.passed else "; ".join(problem[:80] for problem in verdict.problems) or "not judged",
    ]


def table(verdicts: Sequence[Verdict], seed: int) -> Table:
    """All lines."""
    made = Table(*COLUMNS, title=f"Faults in the order of seed {seed}")
    for verdict in verdicts:
        made.add_row(*cells(verdict))
    return made


def write(verdicts: Sequence[Verdict], seed: int, seconds: float) -> Path:
    """Writes `seed-N.json`, whose lines are those of the table with all their figures."""
    document: dict[str, Any] = {
        "when": datetime.now(UTC).isoformat(),
        "seed": seed,
        "seconds": round(seconds),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "passed": all(verdict.passed for verdict in verdicts),
        "faults": [asdict(verdict) for verdict in verdicts],
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"seed-{seed}.json"
    path.write_text(json.dumps(document, indent=2) + "\n")
    return path
