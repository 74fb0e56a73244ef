"""The commands `sluice domain …`. Parses and prints; the work is in `domain_table` and `domain_template`."""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ingest.admin.errors import OperatorError
from ingest.cli.printing import AsJson, to_stderr, to_stdout

if TYPE_CHECKING:
    from tasks.domain.domain import AnyDomain

domain_app = typer.Typer(
    help="The domains of the setting DOMAINS: kinds of messages, each with a topic and a table.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Names = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME]...", help="Domains, or modules that have one.")
]


@domain_app.command()
def new(
    name: str,
    *,
    folder: Annotated[Path, typer.Option(help="Target folder; it must be importable.")] = Path("domains"),
    sample: Annotated[
        Path | None,
        typer.Option("--from", help="A file with a sample of its messages as JSON, or one in each line."),
    ] = None,
) -> None:
    """Write the module of a new domain, with comments, and a test of it."""
    from ingest.admin.domains import domain_sample  # noqa: PLC0415
    from ingest.admin.domains import domain_template as work  # noqa: PLC0415
    from tasks.settings import settings  # noqa: PLC0415

    try:
        samples = None if sample is None else domain_sample.split(sample.read_bytes())
    except OSError as error:
        raise OperatorError(f"The sample cannot be read: {error}.") from error
    module, test = work.write(name, folder, samples, time.time_ns() // 1_000_000)
    to_stdout(f"{module}\n{test}")
    to_stderr(
        f"Fill in the first, and run the second: pytest {test}\n"
        f"Then set DOMAINS={settings().domains},{work.module_of(module)} for every process,"
        " run `sluice migrate`, `sluice topics` and `sluice provision rights` (accounts that exist get the"
        " new topic), and start them."
    )


@domain_app.command()
def ddl(names: Names = None) -> None:
    """Print the migration of each domain: its table, a hypertable where the server has TimescaleDB."""
    from ingest.admin.domains import domain_table as work  # noqa: PLC0415

    to_stdout("\n".join(work.ddl(domain) for domain in _chosen(names)).rstrip())


@domain_app.command()
def check(names: Names = None) -> None:
    """Show how each domain's table differs from its declaration. Exit code 1 if one does."""
    from ingest.admin.domains import domain_table as work  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415

    differ = []
    for domain in _chosen(names):
        with session() as connection:
            found = work.differences(connection, domain)
        for difference in found:
            to_stdout(f"{domain.name}: {difference}")
        if found:
            differ.append(domain.table)
        else:
            to_stdout(f"{domain.name}: {domain.table} is as declared")
    if differ:
        raise OperatorError(f"not as declared: {', '.join(differ)}")


@domain_app.command()
def vector(
    file: Annotated[Path, typer.Argument(help="Vector's configuration, such as vector.toml.")],
    *,
    write: Annotated[bool, typer.Option("--write", help="Make its marked places for the domains.")] = False,
) -> None:
    """Show which domains Vector would not serve in place of the gateway. Exit code 1 if there is one."""
    from ingest.admin.domains import domain_vector as work  # noqa: PLC0415
    from tasks import registry  # noqa: PLC0415
    from tasks.settings import settings  # noqa: PLC0415

    chosen, text = settings(), work.read(file)
    able = work.served(registry.domains())
    if write and able:
        text = work.written(text, able, chosen)
        work.write(file, text)
        to_stdout(f"{file} is made for {', '.join(domain.name for domain in able)}")
    found = work.unserved(registry.domains(), text, chosen)
    for sentence in found:
        to_stdout(sentence)
    if found:
        raise typer.Exit(1)


@domain_app.command(name="try")
def try_(
    file: Annotated[str, typer.Argument(help="A file with a domain, or a module that has one.")],
    *,
    payload: Annotated[str, typer.Option(help="A file with the payload of one message; - reads stdin.")],
    topic: Annotated[str, typer.Option(help="The MQTT topic of the message.")],
    content_type: Annotated[str, typer.Option(help="Its content type, as MQTT 5 has it.")] = "",
    owner: Annotated[
        str, typer.Option(help="The user whose account publishes it, where no topic names one.")
    ] = "owner",
    as_json: AsJson = False,
) -> None:
    """Show the rows that a domain makes of a message, or why it is refused. Exit code 1 if anything is.

    No server is needed. The message arrives now.
    """
    from ingest.admin.domains import domain_try as work  # noqa: PLC0415
    from tasks.domain.routing import limits  # noqa: PLC0415

    try:
        content = sys.stdin.buffer.read() if payload == "-" else Path(payload).read_bytes()
    except OSError as error:
        raise OperatorError(f"The payload cannot be read: {error}.") from error
    domain = work.load(file)
    tried = work.attempt(domain, topic, content, time.time_ns() // 1_000_000, limits(), content_type, owner)
    if as_json:
        to_stdout(json.dumps(tried._asdict(), ensure_ascii=False))
    else:
        for row in tried.rows:
            to_stdout(json.dumps(row, ensure_ascii=False))
        for refused in tried.refused:
            which = "refused" if refused["index"] is None else f"refused [{refused['index']}]"
            to_stderr(f"{which}: {refused['error_type']}: {refused['reason']}")
        if tried.ignored:
            to_stderr("ignored: the message holds no reading")
    if tried.refused:
        raise typer.Exit(1)


def _chosen(names: list[str] | None) -> "list[AnyDomain]":
    from tasks import registry  # noqa: PLC0415

    configured = {domain.name: domain for domain in registry.domains()}
    if not names:
        return list(configured.values())
    return [configured[name] if name in configured else registry.load(name)[0] for name in names]
