"""The operator's commands: `sluice --help`. Parses and prints; the work is in the module of each command."""

import json
import os
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

# Everything heavy is imported where it is used, so that --help answers at once.
from ingest.admin.audit import audit
from ingest.admin.errors import OperatorError
from ingest.cli.dlq import dlq_app, verify
from ingest.cli.domain import domain_app

if TYPE_CHECKING:
    from ingest.admin.accounts import Account

app = typer.Typer(
    help="Sluice: MQTT telemetry to TimescaleDB by way of Kafka and Celery. Settings come from the"
    " environment, else from the file that SLUICE_ENV_FILE names (default: .local/env of the"
    " checkout that the working directory is in).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
provision_app = typer.Typer(
    help="Credentials of the MQTT broker. Provisioning an account again gives it a new password and ends the"
    " old one. A change reaches the broker in well under a second; a client that is quicker tries again.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(provision_app, name="provision")
rules_app = typer.Typer(
    help="Alert rules in a file, as they are published on users/USER/config; a file named - is stdin.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(rules_app, name="rules")
alerts_app = typer.Typer(
    help="Alerts as they stand in the database.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(alerts_app, name="alerts")
app.add_typer(dlq_app, name="dlq")
app.command()(verify)
app.command()(audit)
app.add_typer(domain_app, name="domain")

# Commands that work without a server, or find out by themselves.
_NEEDS_NO_SERVER = {"settings", "metrics", "domain", "rules"}
_SAYS_WHERE = ("KAFKA_BOOTSTRAP_SERVERS", "REDIS_URL", "DATABASE_URL", "MQTT_HOST", "SLUICE_SECRETS_DIR")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, to stdout.")]
PasswordStdin = Annotated[
    bool,
    typer.Option("--password-stdin", help="Take the password from stdin (one line) instead of making one."),
]


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
            _tell(f"{'.'.join(map(str, problem['loc'])).upper()}: {problem['msg']}")
        _fail("The settings are wrong; see above.")


def _show_version(wanted: bool) -> None:
    if wanted:
        _print(f"sluice {version('sluice')}")
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
            f"Nothing says where the servers are: {Path.cwd()} is not in a checkout whose stack was started"
            f" (`make up`), SLUICE_ENV_FILE names no file, and none of {', '.join(_SAYS_WHERE)} is set."
        )


@app.command()
def migrate(
    *,
    status: Annotated[bool, typer.Option("--status", help="Show what has run and what is pending.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and run nothing.")] = False,
) -> None:
    """Bring the database to the schema of sql/ and of the domains. Safe to run twice, by several at once."""
    from ingest.admin import domain_table  # noqa: PLC0415
    from ingest.admin import migrate as work  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415
    from tasks import registry  # noqa: PLC0415

    migrations = work.together(work.load(), domain_table.migrations(registry.domains()))
    with session() as connection:
        if status:
            for line in work.status(migrations, work.applied(connection)):
                _print(line)
            return
        if dry_run:
            for migration in work.pending(migrations, work.applied(connection)):
                _print(f"would run {migration.label}")
            return
        ran = work.migrate(connection, migrations, _tell)
        differ = [
            f"{domain.table}: {difference}"
            for domain in registry.domains()
            for difference in domain_table.differences(connection, domain)
        ]
    if differ:
        raise OperatorError("\n".join(["tables are not as their domains declare them:", *differ]))
    _tell(f"the database is up to date; {ran} migration{'' if ran == 1 else 's'} applied")


@app.command()
def roles(
    *,
    password_stdin: Annotated[
        str, typer.Option(metavar="ROLE", help="Give this role the password on stdin (one line).")
    ] = "",
) -> None:
    """Make the database's least-privileged roles, of the workers and of EMQX, with their rights."""
    from ingest.admin import migrate as migrations  # noqa: PLC0415
    from ingest.admin import roles as work  # noqa: PLC0415
    from ingest.admin.audit import note  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415

    if password_stdin and password_stdin not in work.ROLES:
        _fail(f"There is no role {password_stdin}; the roles are {', '.join(work.ROLES)}.")
    with session() as connection:
        made = work.create(connection)
        for name in made:
            _tell(f"made the role {name}, for {work.ROLES[name]}")
        if password_stdin:
            work.set_password(connection, password_stdin, sys.stdin.readline().rstrip("\r\n"))
            _tell(f"{password_stdin} has its password")
        migrations.migrate(connection, migrations.load(), _tell)
        # Only now there surely is a table for it.
        for name in made:
            note(connection, "CREATE", "role", name, {})
        if password_stdin:
            note(connection, "ALTER", "role", password_stdin, {"password": "new"})


@app.command()
def topics(*, as_json: AsJson = False) -> None:
    """Create the Kafka topics by the settings. Existing ones are compared, never altered."""
    from ingest.admin import topics as work  # noqa: PLC0415
    from tasks.settings import settings  # noqa: PLC0415

    outcomes = work.ensure(settings())
    if as_json:
        _print(
            json.dumps(
                [
                    {"topic": o.topic.name, "created": o.created, "differences": o.differences}
                    for o in outcomes
                ]
            )
        )
        return
    for outcome in outcomes:
        _print(f"{outcome.topic.name}: {'created' if outcome.created else 'exists'}")
        for difference in outcome.differences:
            _print(f"{outcome.topic.name}: differs from the settings and is left as it is: {difference}")


@app.command()
def settings() -> None:
    """Print every setting, its default and its meaning, as a Markdown page."""
    from ingest.cli.settings_table import markdown  # noqa: PLC0415

    _print(markdown().rstrip())


@app.command()
def metrics() -> None:
    """Print every metric, its meaning and what to do about it, as a Markdown page."""
    from ingest.cli.metrics_table import markdown  # noqa: PLC0415

    _print(markdown().rstrip())


@app.command()
def status(*, as_json: AsJson = False) -> None:
    """Show on one screen what comes and goes, what waits, who works, and what is wrong."""
    from ingest.admin import status as work  # noqa: PLC0415
    from tasks.settings import settings  # noqa: PLC0415

    found = work.look(settings())
    if as_json:
        _print(json.dumps(found))
        return
    for line in work.as_text(found):
        _print(line)


@app.command()
def health(
    process: Annotated[str, typer.Argument(help="gateway, bridge, control, worker, beat or flower.")],
    *,
    ready: Annotated[bool, typer.Option("--ready", help="Also ask whether it does its work now.")] = False,
) -> None:
    """Ask a process on this machine whether it is well; exit code 1 if it is not, with the reason."""
    from ingest.admin import probe as work  # noqa: PLC0415
    from tasks.settings import settings  # noqa: PLC0415

    chosen = next((name for name in work.PROCESSES if name == process), None)
    if chosen is None:
        raise typer.BadParameter(f"the processes are {', '.join(work.PROCESSES)}")
    _print(work.ask(settings(), chosen, ready=ready))


@provision_app.command()
def device(user: str, device: str, *, as_json: AsJson = False, password_stdin: PasswordStdin = False) -> None:
    """A device: may publish its own messages, in every domain, and nothing else."""
    from ingest.admin import accounts as work  # noqa: PLC0415

    _provision(work.device(user, device), as_json=as_json, password_stdin=password_stdin)


@provision_app.command()
def user(user: str, *, as_json: AsJson = False, password_stdin: PasswordStdin = False) -> None:
    """A user's own programs: receive the user's alerts, send rules and SNOOZE, DISABLE, ENABLE."""
    from ingest.admin import accounts as work  # noqa: PLC0415

    _provision(work.user(user), as_json=as_json, password_stdin=password_stdin)


@provision_app.command()
def service(name: str, *, as_json: AsJson = False, password_stdin: PasswordStdin = False) -> None:
    """A process of Sluice: receives everybody's messages, publishes everybody's alerts."""
    from ingest.admin import accounts as work  # noqa: PLC0415

    _provision(work.service(name), as_json=as_json, password_stdin=password_stdin)


@provision_app.command()
def rights() -> None:
    """Give all accounts the rights that they lack, after DOMAINS was changed. Passwords stay."""
    from ingest.admin import accounts as work  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415

    with session() as connection:
        given = work.grant(connection)
    _tell(f"{given} right{'' if given == 1 else 's'} given")


@provision_app.command()
def remove(username: str) -> None:
    """Remove an account; the broker ends its connection."""
    from ingest.admin import accounts as work  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415

    with session() as connection:
        work.remove(connection, username)
    _tell(f"removed {username}")


@provision_app.command("list")
def list_accounts(*, as_json: AsJson = False) -> None:
    """List the accounts, without secrets."""
    from ingest.admin import accounts as work  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415

    with session() as connection:
        accounts = work.accounts(connection)
    if as_json:
        _print(json.dumps([account._asdict() for account in accounts], default=datetime.isoformat))
        return
    width = max((len(account.username) for account in accounts), default=0)
    for account in accounts:
        rotated = f"{account.rotated_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        state = "" if account.enabled else "  disabled"
        _print(f"{account.username:<{width}}  {account.kind:<7}  password of {rotated}{state}")
    _tell(f"{len(accounts)} account{'' if len(accounts) == 1 else 's'}")


@rules_app.command()
def check(
    file: Annotated[str | None, typer.Argument()] = None,
    *,
    stored: Annotated[bool, typer.Option("--stored", help="Those of all users in the table.")] = False,
) -> None:
    """Check rules and say what they mean. Every error is named; exit code 1 if there is any."""
    from ingest.admin import rules as work  # noqa: PLC0415

    if (file is None) != stored:
        raise typer.BadParameter("give either a file or --stored")
    if file is None:
        _tell(work.check_stored())
        return
    rules = work.load(file)
    for line in work.explain(rules):
        _print(line)
    _tell(f"{len(rules.rules)} valid rule{'' if len(rules.rules) == 1 else 's'}")


@rules_app.command("test")
def try_rules(
    file: str,
    *,
    user: Annotated[str, typer.Option(help="The user whose readings are judged.")],
    device: Annotated[str | None, typer.Option(help="One device; without it all of the user's.")] = None,
    domain: Annotated[
        str | None, typer.Option(help="Whose readings; without it the first of DOMAINS.")
    ] = None,
    since: Annotated[str, typer.Option(help="How far back, as in 45s, 90m, 12h, 7d; or a time.")] = "7d",
    as_json: AsJson = False,
) -> None:
    """Say when rules would have fired on the readings that are stored. Nobody is told, nothing is changed."""
    from ingest.admin import rules as work  # noqa: PLC0415

    now = datetime.now(UTC)
    chosen = work.domain_named(domain)
    rules, begin = work.about(chosen, work.load(file)), work.parse_since(since, now)
    history = work.try_out(chosen, rules, user, device, begin, now)
    if as_json:
        _print(json.dumps(work.as_json(rules, history, now), ensure_ascii=False))
        return
    for line in work.as_text(rules, history, now):
        _print(line)


@alerts_app.command("list")
def list_alerts(
    *,
    user: Annotated[str | None, typer.Option(help="One user; without it all users.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the alerts that are open, pending, snoozed or disabled."""
    from ingest.admin import alerts as work  # noqa: PLC0415

    rows = work.active(user)
    if as_json:
        _print(json.dumps(rows, default=datetime.isoformat, ensure_ascii=False))
        return
    for line in work.as_text(rows):
        _print(line)
    _tell(f"{len(rows)} alert{'' if len(rows) == 1 else 's'}")


def _provision(account: "Account", *, as_json: bool, password_stdin: bool) -> None:
    from ingest.admin import accounts as work  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415

    password = sys.stdin.readline().rstrip("\r\n") if password_stdin else None
    with session() as connection:
        credential = work.provision(connection, account, password)
    if as_json:
        _print(json.dumps(credential._asdict()))
        return
    _print(f"username: {credential.username}\npassword: {credential.password}")
    _tell("The password is shown this once; provisioning again makes a new one and ends this one.")


def _print(text: str) -> None:
    typer.echo(text)


def _tell(text: str) -> None:
    typer.echo(text, err=True)


def _fail(text: str) -> None:
    _tell(f"sluice: {text}")
    raise SystemExit(1)
