"""The local stack: real servers and Sluice's processes on this machine, without Docker."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from compose.local import foreground, root_filesystem, summary
from compose.local.console import ConsoleReport
from compose.local.errors import StackError
from compose.local.stack import Stack

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help=f"{__doc__} Usual ports, each changed by its variable: KAFKA_PORT, KAFKA_CONTROLLER_PORT,"
    " REDIS_PORT, POSTGRES_PORT, PGBOUNCER_PORT, MQTT_PORT, FLOWER_PORT, METRICS_PORT (the worker's),"
    " GATEWAY_METRICS_PORT, BRIDGE_METRICS_PORT, CONTROL_METRICS_PORT, BEAT_METRICS_PORT,"
    " NOTIFY_METRICS_PORT, WEB_PORT (the HTTP API), WEB_METRICS_PORT."
    " To use a server of your own, set KAFKA_BOOTSTRAP_SERVERS, REDIS_URL, DATABASE_URL,"
    " or MQTT_HOST with MQTT_USERNAME and MQTT_PASSWORD."
    " KAFKA_HEAP_OPTS is Kafka's memory (-Xms512m -Xmx1g)."
    " A stack that runs keeps its ports and servers until it is stopped.",
)

Directory = Annotated[Path, typer.Option("--dir", help="Folder of the stack: data, logs and settings.")]
FreePorts = Annotated[bool, typer.Option("--free-ports", help="Use free ports instead of the usual ones.")]
ServersOnly = Annotated[bool, typer.Option("--servers-only", help="Only the servers, without Sluice.")]
DEFAULT = Path(".local")


@app.command()
def up(
    directory: Directory = DEFAULT, free_ports: FreePorts = False, servers_only: ServersOnly = False
) -> None:
    """Start what is not running, return when all is healthy, and print the addresses."""
    report = ConsoleReport()
    stack = Stack(directory, free_ports, environ=os.environ, report=report)
    before = _running(stack)
    not_applied = summary.not_applied(stack.env, os.environ) if before else []
    stack.up([] if servers_only else None, prepare=not servers_only)
    if not_applied:
        report.line(
            f"A running stack keeps its settings: {', '.join(not_applied)} not applied."
            " Stop it (`make down`) and start it again to apply them."
        )
    if before and _running(stack) == before:
        report.line("Everything was running; `make status` shows what is where")
        return
    for line in summary.where(stack):
        report.line(line)


@app.command()
def down(directory: Directory = DEFAULT) -> None:
    """Stop the processes, then the servers, gently. Data stays."""
    report = ConsoleReport()
    if not Stack(directory, report=report).down():
        report.line("Nothing was running")


@app.command()
def restart(name: str, directory: Directory = DEFAULT) -> None:
    """Stop and start one server or process of a running stack, and return when it is ready."""
    report = ConsoleReport()
    stack = Stack(directory, report=report)
    known = [program.name for program in stack.status()]
    if name not in known:
        raise StackError(
            f"{name} is not part of the stack; it has {', '.join(known)}" if known else "it is down"
        )
    with report.working(f"Restarting {name}"):
        stack.restart(name)
    report.line(f"Restarted {name}")


@app.command()
def status(directory: Directory = DEFAULT) -> None:
    """Show what is running and where. Exit code 3 if any part of the stack is not."""
    report = ConsoleReport()
    stack = Stack(directory, report=report)
    if not stack.running():
        report.line("The stack is down")
        raise typer.Exit(3)
    for line in (*summary.states(stack), *summary.where(stack)):
        report.line(line)
    if any(program.state != "RUNNING" for program in stack.status()):
        raise typer.Exit(3)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def run(context: typer.Context, directory: Directory = DEFAULT, free_ports: FreePorts = False) -> None:
    """Start everything and a simulated fleet, show a live view, and stop everything at Ctrl-C.

    A stack that ran before is left running. Further options go to the live view (`python -m compose.watch`).
    """
    report = ConsoleReport()
    stack = Stack(directory, free_ports, environ=os.environ, report=report)
    raise typer.Exit(foreground.run(stack, context.args, report))


@app.command()
def clean(
    directory: Directory = DEFAULT,
    with_ground: Annotated[
        bool,
        typer.Option(
            "--ground",
            help="Also the root file system and Kafka, of all stacks here and in the cache of this user.",
        ),
    ] = False,
) -> None:
    """Stop the stack and remove its data, logs, passwords and settings, without asking."""
    report = ConsoleReport()
    if Stack(directory, report=report).clean():
        report.line(f"Removed the stack's files in {directory}")
    if with_ground:
        root_filesystem.remove(report)


@app.command("ground")
def make_ground() -> None:
    """Make the servers' root file system and fetch Kafka, once."""
    root_filesystem.ensure(ConsoleReport())


def _running(stack: Stack) -> set[str]:
    return {program.name for program in stack.status() if program.state == "RUNNING"}


def main() -> None:
    """Runs the command; an error that a user can fix is printed without a traceback, exit code 1."""
    try:
        app()
    except StackError as error:
        ConsoleReport().line(f"Error: {error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
