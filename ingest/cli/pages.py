"""Every command of `sluice` with its help, as a page: `python -m ingest.cli.pages > docs/commands.md`."""

import re
import sys
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from ingest import cli

HEADER = """# Commands

Made by `python -m ingest.cli.pages` from what each command tells by `--help`. Besides these there are
`make help`, `python -m compose.local --help`, `python -m ingest.loadtest --help` and
`python -m compose.watch --help`.
"""
_WIDTH = 100


def markdown() -> str:
    """The page."""
    return "\n".join([HEADER, *_sections(get_command(cli.app), "sluice", None)])


def _sections(command: Any, name: str, parent: Any) -> Iterator[str]:
    context = command.context_class(
        command, info_name=name, parent=parent, terminal_width=_WIDTH, max_content_width=_WIDTH
    )
    yield f"## `{context.command_path}`\n\n```\n{_plain(command.get_help(context))}\n```\n"
    for child, one in getattr(command, "commands", {}).items():
        yield from _sections(one, child, context)


def _plain(text: str) -> str:
    """Without colours and blanks at the ends of lines."""
    return re.sub(r"\x1b\[[0-9;]*m|[ \t]+(?=\n|\Z)", "", text).strip()


if __name__ == "__main__":
    sys.stdout.write(markdown())
