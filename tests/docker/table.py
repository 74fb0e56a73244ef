"""The proofs of a run, one line each, and the table of them."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import psycopg

from compose.local.console import Report
from tests.docker.command import Failed


@dataclass(frozen=True)
class Line:
    """One proof: what was wanted, what was found, whether that is it, and how long it took."""

    name: str
    found: str
    holds: bool
    seconds: float


@dataclass
class Table:
    """The lines in the order in which they were proved."""

    report: Report
    only: tuple[str, ...] = ()
    """Parts of names: without any all proofs are run."""
    lines: list[Line] = field(default_factory=list)

    def wants(self, name: str) -> bool:
        """Whether this proof is asked for."""
        return not self.only or any(part.lower() in name.lower() for part in self.only)

    def prove(self, name: str, work: Callable[[], str], *, needed: bool = False) -> bool:
        """Runs the proof, which returns what it found; a failed one is a line, too. False when it fails.

        One that is not asked for is left out, unless the others need it.
        """
        if not needed and not self.wants(name):
            return True
        began = time.monotonic()
        with self.report.working(name):
            try:
                found, holds = work(), True
            except (Failed, OSError, ValueError, LookupError, psycopg.Error) as error:
                found, holds = " ".join(str(error).split()) or type(error).__name__, False
        line = Line(name, found, holds, time.monotonic() - began)
        self.lines.append(line)
        self.report.line(f"  {'holds' if holds else 'FAILS'} after {line.seconds:.0f} s: {found[:1000]}")
        return holds

    @property
    def holds(self) -> bool:
        """Whether there is a proof, and all hold."""
        return bool(self.lines) and all(line.holds for line in self.lines)

    def markdown(self) -> str:
        """The table for the terminal and the docs."""
        rows = [
            f"| {_cell(line.name)} | {'' if line.holds else '**fails**: '}{_cell(line.found[:300])} "
            f"| {line.seconds:.0f} |"
            for line in self.lines
        ]
        return "\n".join(["| proof | found | s |", "|---|---|---|", *rows])


def dated(table: str, versions: str) -> str:
    """The table with the day of the run and what it ran on."""
    return f"The last run, on {datetime.now(UTC):%Y-%m-%d}, with {versions}:\n\n{table}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
