"""The commands `sluice export` and `sluice import`. Parses and prints; the work is in `ingest.admin`."""

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from ingest.admin.errors import OperatorError
from ingest.cli.arguments import Domain, domain_named, moment
from ingest.cli.printing import AsJson, counted, json_text, progress_bar, to_stderr, to_stdout

if TYPE_CHECKING:
    from ingest.admin.rows.import_rows import RefusedRow

MOST_SHOWN = 20
Format = Annotated[
    str | None, typer.Option("--format", help="csv or parquet; by default as the file's name ends.")
]


def export(
    *,
    begin: Annotated[
        str, typer.Option("--from", help="Rows of this time or later: 90m, 12h, 7d; or a time.")
    ],
    end: Annotated[str | None, typer.Option("--to", help="And before then; by default up to now.")] = None,
    out: Annotated[str, typer.Option(help="The file, which appears when it is whole; - is stdout, for CSV.")],
    user: Annotated[str | None, typer.Option(help="Only rows of this user.")] = None,
    device: Annotated[str | None, typer.Option(help="Only rows of this device.")] = None,
    domain: Domain = None,
    format_: Format = None,
) -> None:
    """Write the rows of a domain between two times to a file, as CSV or Parquet, by their time."""
    from ingest.admin.postgres import session  # noqa: PLC0415
    from ingest.admin.rows import export as work  # noqa: PLC0415

    chosen, since = domain_named(domain), moment("--from", begin)
    until = datetime.now(UTC) if end is None else moment("--to", end)
    wanted = work.Wanted(chosen, since, until, user, device)
    kind = work.format_of("out.csv" if out == "-" else out, format_)
    if out == "-" and kind != "csv":
        raise OperatorError("Only CSV goes to stdout; name a file for Parquet.")
    with session() as connection, progress_bar(as_json=False) as progress:
        if out == "-":
            count = work.export(connection, wanted, sys.stdout.buffer, kind, progress)
            sys.stdout.buffer.flush()
        else:
            with work.written_whole(out) as output:
                count = work.export(connection, wanted, output, kind, progress)
    to_stderr(counted(count, "row"))


def import_(
    file: Annotated[str, typer.Argument(help="An export of the domain, CSV or Parquet.")],
    *,
    domain: Domain = None,
    format_: Format = None,
    refused: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write all refused rows there, as CSV, with the reasons."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only validate the rows.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring history in from a file: rows as readings, without alerts; those that are there stay.

    Repeat it after an interruption. Exit code 1: some rows were refused; all others are imported.
    """
    from ingest.admin.postgres import session  # noqa: PLC0415
    from ingest.admin.rows import import_rows as work  # noqa: PLC0415
    from ingest.admin.rows.export import format_of  # noqa: PLC0415
    from tasks.text.wording import safe  # noqa: PLC0415

    chosen, kind = domain_named(domain), format_of(file, format_)
    shown: list[RefusedRow] = []

    def show(row: "RefusedRow") -> None:
        if len(shown) < MOST_SHOWN:
            shown.append(row)

    with (
        work.opened(file) as source,
        work.refusals(refused, show) as refuse,
        progress_bar(as_json=as_json) as progress,
    ):
        if dry_run:
            found = work.import_rows(None, chosen, source, kind, refuse, progress)
        else:
            with session() as connection:
                found = work.import_rows(connection, chosen, source, kind, refuse, progress)
    if as_json:
        first = [one._asdict() for one in shown]
        to_stdout(json_text({**found._asdict(), "dry_run": dry_run, "first_refused": first}))
    else:
        to_stdout(f"{counted(found.rows, 'row')} in the file")
        if not dry_run:
            to_stdout(f"{found.inserted:>9,}  imported")
            to_stdout(f"{found.there_already:>9,}  there already")
        to_stdout(f"{found.refused:>9,}  refused")
        for one in shown:
            to_stderr(safe(f"line {one.line}: {one.error_type}: {one.reason}"))
        if found.refused > len(shown):
            to_stderr("--refused FILE has all of them")
        if found.old:
            to_stderr(
                f"{counted(found.old, 'row')} older than the retention of {chosen.name}, at whose next run"
                " they go."
            )
    if found.refused:
        raise SystemExit(1)
