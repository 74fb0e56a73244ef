"""The commands `sluice domain …`. Parses and prints; the work is in `domain_table` and `domain_template`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ingest.admin.errors import OperatorError
from ingest.cli.printing import to_stderr, to_stdout

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
) -> None:
    """Write the module of a new domain, with comments, and a test of it."""
    from ingest.admin import domain_template as work  # noqa: PLC0415
    from tasks.settings import settings  # noqa: PLC0415

    module, test = work.write(name, folder)
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
    from ingest.admin import domain_table as work  # noqa: PLC0415

    to_stdout("\n".join(work.ddl(domain) for domain in _chosen(names)).rstrip())


@domain_app.command()
def check(names: Names = None) -> None:
    """Show how each domain's table differs from its declaration. Exit code 1 if one does."""
    from ingest.admin import domain_table as work  # noqa: PLC0415
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


def _chosen(names: list[str] | None) -> "list[AnyDomain]":
    from tasks import registry  # noqa: PLC0415

    configured = {domain.name: domain for domain in registry.domains()}
    if not names:
        return list(configured.values())
    return [configured[name] if name in configured else registry.load(name)[0] for name in names]
