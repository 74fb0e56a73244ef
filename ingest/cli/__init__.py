"""The operator's commands: `sluice --help`. Parses and prints; the work is in the module of each command."""

import json
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from ingest.admin.errors import OperatorError
from ingest.cli.alerts import alerts_app

# Everything heavy is imported where it is used, so that --help answers at once.
from ingest.cli.audit import audit
from ingest.cli.channels import channels_app
from ingest.cli.data import export, import_
from ingest.cli.devices import devices_app
from ingest.cli.dlq import dlq_app, verify
from ingest.cli.domain import domain_app
from ingest.cli.erase import erase_app
from ingest.cli.groups import groups_app
from ingest.cli.local_stack import add as add_local_stack
from ingest.cli.printing import AsJson, counted, to_stderr, to_stdout
from ingest.cli.provision import provision_app
from ingest.cli.quiet import quiet_app
from ingest.cli.replay import replay_app
from ingest.cli.rules import rules_app
from ingest.cli.tokens import tokens_app

app = typer.Typer(
    help="Sluice: MQTT telemetry to TimescaleDB by way of Kafka and Celery. Settings come from the"
    " environment, else from the file that SLUICE_ENV_FILE names (default: .local/env of the"
    " checkout that the working directory is in).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(provision_app, name="provision")
app.add_typer(rules_app, name="rules")
app.add_typer(alerts_app, name="alerts")
app.add_typer(channels_app, name="channels")
app.add_typer(quiet_app, name="quiet")
app.add_typer(devices_app, name="devices")
app.add_typer(groups_app, name="groups")
app.add_typer(dlq_app, name="dlq")
app.add_typer(replay_app, name="replay")
app.command("export")(export)
app.command("import")(import_)
app.add_typer(erase_app, name="erase")
app.add_typer(tokens_app, name="tokens")
app.command()(verify)
app.command()(audit)
app.add_typer(domain_app, name="domain")
add_local_stack(app)

# Commands that work without a server, or find out by themselves.
_NEEDS_NO_SERVER = {"settings", "metrics", "domain", "rules", "up", "down", "run"}
_SAYS_WHERE = ("KAFKA_BOOTSTRAP_SERVERS", "REDIS_URL", "DATABASE_URL", "MQTT_HOST", "SLUICE_SECRETS_DIR")


def main() -> None:
    """Runs a command. Exit code 1: it could not do its work; 2: it was called wrongly."""
    from pydantic import ValidationError  # noqa: PLC0415

    from tasks.registry import InvalidDomains  # noqa: PLC0415

    try:
        app()
    except (OperatorError, InvalidDomains) as error:
        _fail(str(error))
    except ValidationError as error:
        if error.title != "Settings":
            raise
        for problem in error.errors(include_input=False):
            to_stderr(f"{'.'.join(map(str, problem['loc'])).upper()}: {problem['msg']}")
        _fail("The settings are wrong; see above.")


def _show_version(wanted: bool) -> None:
    if wanted:
        to_stdout(f"sluice {version('sluice')}")
        raise typer.Exit


@app.callback()
def begin(
    context: typer.Context,
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Refuses to address servers of which nothing says where they are."""
    from tasks.settings import env_file  # noqa: PLC0415

    if context.invoked_subcommand in _NEEDS_NO_SERVER or "--help" in sys.argv:
        return
    if env_file() is None and not any(os.environ.get(name) for name in _SAYS_WHERE):
        raise OperatorError(
            f"The servers are not configured: {Path.cwd()} is not in a checkout whose stack was started"
            f" (`make up`), SLUICE_ENV_FILE names no file, and none of {', '.join(_SAYS_WHERE)} is set."
        )


@app.command()
def migrate(
    *,
    status: Annotated[bool, typer.Option("--status", help="Show what has run and what is pending.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would run, and run nothing.")] = False,
) -> None:
    """Bring the database to the schema of sql/ and of the domains. Safe to run twice, by several at once."""
    from ingest.admin.domains import domain_table  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415
    from ingest.admin.servers import migrate as work  # noqa: PLC0415
    from tasks import registry  # noqa: PLC0415

    migrations = work.together(work.load(), domain_table.migrations(registry.domains()))
    with session() as connection:
        if status:
            for line in work.status(migrations, work.applied(connection)):
                to_stdout(line)
            return
        if dry_run:
            for migration in work.pending(migrations, work.applied(connection)):
                to_stdout(f"would run {migration.label}")
            return
        ran = work.migrate(connection, migrations, to_stderr)
        differ = [
            f"{domain.table}: {difference}"
            for domain in registry.domains()
            for difference in domain_table.differences(connection, domain)
        ]
    if differ:
        raise OperatorError("\n".join(["tables are not as their domains declare them:", *differ]))
    to_stderr(f"the database is up to date; {counted(ran, 'migration')} applied")


@app.command()
def roles(
    *,
    password_stdin: Annotated[
        str, typer.Option(metavar="ROLE", help="Give this role the password on stdin (one line).")
    ] = "",
) -> None:
    """Create the least-privileged database roles of the workers, of EMQX and of `web`, with their rights."""
    from ingest.admin.audit import note  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415
    from ingest.admin.servers import migrate as migrations  # noqa: PLC0415
    from ingest.admin.servers import roles as work  # noqa: PLC0415

    if password_stdin and password_stdin not in work.ROLES:
        _fail(f"There is no role {password_stdin}; the roles are {', '.join(work.ROLES)}.")
    with session() as connection:
        made = work.create(connection)
        for name in made:
            to_stderr(f"created the role {name}, for {work.ROLES[name]}")
        if password_stdin:
            work.set_password(connection, password_stdin, sys.stdin.readline().rstrip("\r\n"))
            to_stderr(f"{password_stdin} has its password")
        migrations.migrate(connection, migrations.load(), to_stderr)
        # Only now there surely is a table for it.
        for name in made:
            note(connection, "CREATE", "role", name, {})
        if password_stdin:
            note(connection, "ALTER", "role", password_stdin, {"password": "new"})


@app.command()
def topics(*, as_json: AsJson = False) -> None:
    """Create the Kafka topics by the settings. Existing ones are compared, never altered."""
    from ingest.admin.servers import topics as work  # noqa: PLC0415
    from tasks.settings import settings  # noqa: PLC0415

    outcomes = work.ensure(settings())
    if as_json:
        to_stdout(
            json.dumps(
                [
                    {"topic": o.topic.name, "created": o.created, "differences": o.differences}
                    for o in outcomes
                ]
            )
        )
        return
    for outcome in outcomes:
        to_stdout(f"{outcome.topic.name}: {'created' if outcome.created else 'exists'}")
        for difference in outcome.differences:
            to_stdout(f"{outcome.topic.name}: differs from the settings and is left as it is: {difference}")


@app.command()
def settings() -> None:
    """Print every setting, its default and its meaning, as a Markdown page."""
    from ingest.cli import pages  # noqa: PLC0415

    to_stdout(pages.settings_page().rstrip())


@app.command()
def metrics() -> None:
    """Print every metric, its meaning and what to do about it, as a Markdown page."""
    from ingest.cli import pages  # noqa: PLC0415

    to_stdout(pages.metrics_page().rstrip())


@app.command()
def status(*, as_json: AsJson = False) -> None:
    """Show on one screen what is wrong, the traffic, the backlogs and the processes.

    Exit code 1: something is wrong.
    """
    from ingest.admin.servers import status as work  # noqa: PLC0415
    from tasks.settings import settings  # noqa: PLC0415

    found = work.look(settings())
    if as_json:
        to_stdout(json.dumps(found))
    else:
        for line in work.as_text(found):
            to_stdout(line)
    if found["problems"]:
        raise SystemExit(1)


@app.command()
def health(
    process: Annotated[
        str, typer.Argument(help="gateway, bridge, control, worker, notify, beat, flower or web.")
    ],
    *,
    ready: Annotated[
        bool, typer.Option("--ready", help="Also ask whether it is ready: doing its work now.")
    ] = False,
) -> None:
    """Ask a process on this machine whether it is well; exit code 1 if it is not, with the reason."""
    from ingest.admin.servers import probe as work  # noqa: PLC0415
    from tasks.settings import settings  # noqa: PLC0415

    chosen = next((name for name in work.PROCESSES if name == process), None)
    if chosen is None:
        raise typer.BadParameter(f"the processes are {', '.join(work.PROCESSES)}")
    to_stdout(work.ask(settings(), chosen, ready=ready))


def _fail(text: str) -> None:
    to_stderr(f"sluice: {text}")
    raise SystemExit(1)
