"""The progress of a long command: a line for each finished step, a spinner for the current one."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

Say = Callable[[str], None]
"""Takes how far the current step is: often, for only some of it is shown."""

# Between two lines about one step, where there is no terminal.
_LINE_SECONDS = 20.0


class Report:
    """Prints nothing: for tests and scripts."""

    def line(self, text: str) -> None:
        """Something is done, or worth knowing."""

    @contextmanager
    def working(self, text: str) -> Iterator[Say]:
        """Something goes on while the block runs; it may say how far it is."""
        del text
        yield lambda _: None


class ConsoleReport(Report):
    """Tells a person, on stderr: with a spinner on a terminal, in plain lines elsewhere."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)

    def line(self, text: str) -> None:
        """One line."""
        self._console.print(text, markup=False)

    @contextmanager
    def working(self, text: str) -> Iterator[Say]:
        """A spinner with the text, or the text as a line without a terminal, and now and then one more."""
        if self._console.is_terminal:
            with self._console.status(text) as status:
                yield lambda far: status.update(f"{text}: {far}")
        else:
            self.line(text)
            yield self._lines()

    def _lines(self) -> Say:
        next_at = time.monotonic() + _LINE_SECONDS

        def say(far: str) -> None:
            nonlocal next_at
            if far and time.monotonic() >= next_at:
                next_at = time.monotonic() + _LINE_SECONDS
                self.line(f"  {far}")

        return say
