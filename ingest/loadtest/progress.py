"""Says how far the test is: a bar on a terminal, else a line every few seconds."""

import time
from types import TracebackType

from rich import progress
from rich.console import Console

from ingest.loadtest.fleet.fleet import Totals

LINE_SECONDS = 5.0


class Progress:
    """Cheap to call at any rate: it draws and prints only now and then."""

    def __init__(self, console: Console, seconds: float) -> None:
        self._console = console
        self._seconds = seconds
        self._began = self._printed = self._drawn = time.monotonic()
        self._bar: progress.Progress | None = None
        if console.is_terminal:
            self._bar = progress.Progress(
                progress.TextColumn("{task.description}"),
                progress.BarColumn(bar_width=30),
                progress.TextColumn("{task.fields[detail]}", style="dim"),
                console=console,
                transient=True,
                refresh_per_second=4,
            )
            self._task = self._bar.add_task("connecting", total=None, detail="")

    def __enter__(self) -> "Progress":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def publishing(self, totals: Totals, pending: int) -> None:
        """The fleet publishes; `pending` samples wait for their rows."""
        now = time.monotonic()
        if now - self._drawn < 0.25:
            return
        self._drawn = now
        if not totals.published:
            self._began = now
        waiting = totals.published - totals.acknowledged - totals.refused
        detail = (
            f"{totals.published:,} published, {waiting:,} unacknowledged, {pending:,} samples on their way"
        )
        self._show("publishing", detail, now - self._began, self._seconds)

    def settling(self, stored: int, good: int, letters: int, bad: int, lag: int | None, trouble: str) -> None:
        """All is published; rows and dead letters arrive."""
        detail = f"{stored:,} of {good:,} rows, {letters:,} of {bad:,} dead letters"
        behind = f", {lag:,} records to go in Kafka" if lag else ""
        self._show("settling", f"{detail}{behind} {trouble}".strip(), stored + letters, good + bad)

    def comparing(self) -> None:
        """Everything that came is compared with what was published."""
        self._show("comparing", "", 1, 1)

    def _show(self, what: str, detail: str, done: float, total: float) -> None:
        if self._bar is not None:
            self._bar.update(self._task, description=what, detail=detail, completed=done, total=total)
            return
        now = time.monotonic()
        if now - self._printed >= LINE_SECONDS:
            self._printed = now
            self._console.print(f"{what}: {detail}", markup=False, soft_wrap=True)
