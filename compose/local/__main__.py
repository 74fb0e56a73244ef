"""`python -m compose.local`: the local stack's commands."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from compose.local import ground
from compose.local.errors import StackError
from compose.local.report import ConsoleReport
from compose.local.stack import Stack

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

Directory = Annotated[Path, typer.Option("--dir", help="Folder of the stack: its data, logs and env file.")]
FreePorts = Annotated[bool, typer.Option("--free-ports", help="Take free ports, not the usual ones.")]
DEFAULT = Path(".local")


@app.command()
def up(
    directory: Directory = DEFAULT,
    free_ports: FreePorts = False,
    servers_only: Annotated[
        bool, typer.Option("--servers-only", help="Bare servers, nothing of Sluice.")
    ] = False,
) -> None:
    """Start what does not run yet, and return when all is healthy."""
    stack = Stack(directory, free_ports, environ=os.environ, report=ConsoleReport())
    stack.up([] if servers_only else None, prepare=not servers_only)


@app.command()
def down(directory: Directory = DEFAULT) -> None:
    """Stop everything gently; data stays."""
    report = ConsoleReport()
    if not Stack(directory, report=report).down():
        report.line("Nothing was running")


@app.command("ground")
def make_ground() -> None:
    """Make the servers' root file system and fetch Kafka, once."""
    ground.ensure(ConsoleReport())


def main() -> None:
    """Runs the command; what a user can set right is told without a traceback, exit code 1."""
    try:
        app()
    except StackError as error:
        ConsoleReport().line(f"Error: {error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
