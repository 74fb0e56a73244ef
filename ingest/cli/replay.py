"""The commands `sluice replay …`. Parses and prints; the work is in `ingest.admin.letters.dlq_replay`."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from ingest.cli.arguments import Domain, domain_named, moment
from ingest.cli.printing import AsJson, counted, progress_bar, to_stderr, to_stdout

if TYPE_CHECKING:
    pass

replay_app = typer.Typer(
    help="A range of a topic once more, for rows that are missing: each record becomes its row or its dead"
    " letter, and what is there stays. For dead letters there is `sluice dlq replay`.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Alerts = Annotated[
    bool, typer.Option("--alerts", help="Apply the alert rules to the readings, as if they came now.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count the records.")]


@replay_app.command()
def offsets(
    partition: Annotated[int, typer.Argument(help="The partition.", min=0)],
    start: Annotated[int, typer.Argument(help="The first offset.", min=0)],
    end: Annotated[int, typer.Argument(help="The offset behind the last one.", min=1)],
    *,
    domain: Domain = None,
    dry_run: DryRun = False,
    alerts: Alerts = False,
    as_json: AsJson = False,
) -> None:
    """Run the records of one partition again, from START up to END, excluding END.

    Records that Kafka no longer has, or that the bridge has not committed yet, are left out.
    """
    from ingest.admin.letters import dlq_replay as work  # noqa: PLC0415

    chosen = domain_named(domain)
    _follow(
        lambda: work.start_offsets(chosen, partition, start, end, alerts=alerts, dry_run=dry_run),
        {"domain": chosen.name, "partition": partition, "start": start, "end": end},
        dry_run=dry_run,
        as_json=as_json,
    )


# A range of offsets is what people look for by this name.
replay_app.command("range", help="Run a range of offsets again: another name of `offsets`.")(offsets)


@replay_app.command("times")
def times_(
    *,
    since: Annotated[str, typer.Option(help="Records that came since then: 90m, 12h, 7d; or a time.")],
    until: Annotated[str | None, typer.Option(help="And before then; by default up to now.")] = None,
    domain: Domain = None,
    dry_run: DryRun = False,
    alerts: Alerts = False,
    as_json: AsJson = False,
) -> None:
    """Run the records of every partition again that came to Kafka between two times.

    Records that Kafka no longer has, or that the bridge has not committed yet, are left out.
    """
    from ingest.admin.letters import dlq_replay as work  # noqa: PLC0415

    chosen, begin = domain_named(domain), moment("--since", since)
    end = datetime.now(UTC) if until is None else moment("--until", until)
    _follow(
        lambda: work.start_times(chosen, begin, end, alerts=alerts, dry_run=dry_run),
        {"domain": chosen.name, "since": begin.isoformat(), "until": end.isoformat()},
        dry_run=dry_run,
        as_json=as_json,
    )


def _follow(start: Callable[[], str], arguments: dict[str, object], *, dry_run: bool, as_json: bool) -> None:
    """Starts a run, and shows its counts when it has ended."""
    from ingest.admin.audit import note  # noqa: PLC0415
    from ingest.admin.letters import dlq_replay as work  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415

    with session() as connection, progress_bar(as_json=as_json) as progress:
        run_id = start()
        if not dry_run:
            note(connection, "REPLAY", "replays", run_id, arguments)
        try:
            run = work.follow(connection, run_id, progress)
        except KeyboardInterrupt:
            to_stderr(f"The replay {run_id} goes on in the workers.")
            raise SystemExit(130) from None
    if as_json:
        to_stdout(json.dumps(run.report))
        return
    counts = run.counts
    if dry_run or not counts.get("messages"):
        to_stdout(f"{counted(counts.get('messages', 0), 'record')} {'would be ' if dry_run else ''}replayed")
        return
    to_stdout(f"{counted(counts.get('done', 0), 'record')} replayed")
    for name, meaning in _MEANINGS.items():
        if counts.get(name):
            to_stdout(f"{counts[name]:>9}  {meaning}")


_MEANINGS = {
    "inserted": "rows that were missing",
    "there_already": "rows that were there",
    "dead_lettered": "new dead letters",
    "dead_before": "dead letters before",
    "no_longer_dead": "no longer dead letters: they are rows now",
}
