"""The progress of a long command: a line for each finished step, a spinner for the current one."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


class Report:
    """Tells nothing: for tests and scripts."""

    def line(self, text: str) -> None:
        """Something is done, or worth knowing."""

    @contextmanager
    def working(self, text: str) -> Iterator[None]:
        """Something goes on while the block runs."""
        del text
        yield


class ConsoleReport(Report):
    """Tells a person, on stderr: with a spinner on a terminal, in plain lines elsewhere."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)

    def line(self, text: str) -> None:
        """One line."""
        self._console.print(text, markup=False)

    @contextmanager
    def working(self, text: str) -> Iterator[None]:
        """A spinner with the text, or the text as a line without a terminal."""
        if self._console.is_terminal:
            with self._console.status(text):
                yield
        else:
            self.line(text)
            yield
