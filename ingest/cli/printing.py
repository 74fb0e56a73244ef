"""Printing, as all commands do it: results to stdout, remarks to stderr."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any

import typer

Rows = list[dict[str, Any]]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, to stdout.")]


def to_stdout(text: str) -> None:
    """Prints a result."""
    typer.echo(text)


def to_stderr(text: str) -> None:
    """Prints a remark, which a program that reads the results does not see."""
    typer.echo(text, err=True)


def counted(number: int, noun: str) -> str:
    """The number with its noun, as in `1 alert` and `2 alerts`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def json_text(value: Any) -> str:
    """A result as JSON: times as RFC 3339 has them, other values of the database as their text."""
    return json.dumps(value, default=_plain, ensure_ascii=False)


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def print_rows(
    rows: Rows, lines: Callable[[Rows], Iterable[str]], noun: str | None = None, *, as_json: bool
) -> None:
    """Prints rows as one JSON list, or as lines for a person; with a noun, their number as a remark."""
    if as_json:
        to_stdout(json_text(rows))
        return
    from tasks.text.wording import safe  # noqa: PLC0415

    for line in lines(rows):
        to_stdout(safe(line))
    if noun is not None:
        to_stderr(counted(len(rows), noun))


@contextmanager
def progress_bar(*, as_json: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr, if that is a terminal and a person reads: `progress(label, done, total)`."""
    if as_json or not sys.stderr.isatty():
        yield lambda _what, _done, _total: None
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def show_progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what)
            bar.update(tasks[what], completed=done, total=total)

        yield show_progress
