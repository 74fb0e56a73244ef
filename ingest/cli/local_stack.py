"""The commands `sluice up`, `down` and `run`: the local stack, which is a program of its own."""

import os
import sys
from importlib.util import find_spec

import typer

from ingest.admin.errors import OperatorError

_NEEDED = ("compose", "compose.local", "supervisor")


def up(context: typer.Context) -> None:
    """Start servers and processes on this machine, without Docker, in the folder .local."""
    _become("up", context.args)


def down(context: typer.Context) -> None:
    """Stop them all; the data stays."""
    _become("down", context.args)


def run(context: typer.Context) -> None:
    """Start everything and a simulated fleet, and show what happens; Ctrl-C ends it all."""
    _become("run", context.args)


def add(app: typer.Typer) -> None:
    """Adds the commands. Their arguments go to the stack's own program: `sluice up -- --help`."""
    for command in (up, down, run):
        app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(command)


def _become(command: str, arguments: list[str]) -> None:
    if missing := next((name for name in _NEEDED if find_spec(name) is None), None):
        raise OperatorError(
            f"{missing} is not installed here. The local stack comes with the extra `local`, as in"
            " pip install 'sluice-….whl[local]'."
        )
    argv = [sys.executable, "-m", "compose.local", command, *arguments]
    os.execv(sys.executable, argv)  # noqa: S606 - there is nothing for a shell in it
