"""The commands `sluice dlq …` and `sluice verify`. Parses and prints; the work is in the module of each."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import typer

from ingest.admin.errors import OperatorError
from ingest.cli.arguments import Domain, domain_named, moment
from ingest.cli.printing import AsJson, counted, progress_bar, to_stderr, to_stdout

if TYPE_CHECKING:
    from ingest.admin.letters.dlq_with import Change
    from tasks.dead_letters.letter import Filters
    from tasks.domain.domain import AnyDomain

MOST_SHOWN = 20

dlq_app = typer.Typer(
    help="Dead letters: messages that cannot become a row, whole, with the reason.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

ErrorType = Annotated[str | None, typer.Option(help="Only this error type, such as `MissingField`.")]
Since = Annotated[str | None, typer.Option(help="Refused since then: 45s, 90m, 12h, 7d; or a time.")]
Until = Annotated[str | None, typer.Option(help="Refused before then, in the same forms.")]
Hour = Annotated[
    str | None, typer.Option(help="Refused in the hour (UTC) of this time, such as 2026-05-01T10Z.")
]
User = Annotated[str | None, typer.Option(help="Only messages of this user.")]
Device = Annotated[str | None, typer.Option(help="Only messages of devices with this name.")]


@dlq_app.command("list")
def list_letters(
    *,
    domain: Domain = None,
    error_type: ErrorType = None,
    since: Since = None,
    until: Until = None,
    hour: Hour = None,
    user: User = None,
    device: Device = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Show at most this many, the newest.")] = 20,
    handled: Annotated[bool, typer.Option("--all", help="Include handled ones, with their outcome.")] = False,
    summary: Annotated[bool, typer.Option("--summary", help="Only the number of each kind.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the open dead letters, then their number by error type.

    A letter is open until it has been replayed or acknowledged. One whose message was refused again is not:
    a newer letter, with one more attempt, stands in its place.
    """
    from ingest.admin.letters import dlq_list as work  # noqa: PLC0415

    filters = _filters(error_type, since, until, hour, user, device)
    chosen = domain_named(domain)
    listing = work.select(chosen, filters, limit, handled=handled)
    if listing.database_away:
        to_stderr(
            f"The database could not be asked which were replayed, so all count as open:"
            f" {listing.database_away}"
        )
    if as_json:
        document = work.as_json(listing)
        if summary:
            del document["letters"]
        to_stdout(json.dumps(document, ensure_ascii=False))
        return
    if not summary:
        for line in work.as_lines(listing):
            to_stdout(line)
        if listing.total > len(listing.newest):
            to_stderr(f"the newest {len(listing.newest)} of {listing.total}; --limit shows more")
    for line in work.as_summary(listing):
        to_stdout(line)
    to_stderr(counted(listing.total, "dead letter"))
    if not listing.total:
        _say_which_there_are(chosen, filters)


@dlq_app.command()
def show(
    letter: Annotated[
        str, typer.Argument(help="Key of the letter, or PARTITION/OFFSET of its message in the topic.")
    ],
    *,
    domain: Domain = None,
) -> None:
    """Show one dead letter whole, as JSON; the payload also as text, where it is printable."""
    from ingest.admin.letters import dlq_list as work  # noqa: PLC0415

    value, standing = work.find(domain_named(domain), letter)
    to_stdout(json.dumps(work.whole(value, standing), ensure_ascii=False, indent=2))


@dlq_app.command()
def replay(
    *,
    domain: Domain = None,
    error_type: ErrorType = None,
    since: Since = None,
    until: Until = None,
    hour: Hour = None,
    user: User = None,
    device: Device = None,
    limit: Annotated[int, typer.Option(help="Replay at most this many, the oldest first.")] = 10_000,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be replayed.")] = False,
    alerts: Annotated[
        bool, typer.Option("--alerts", help="Apply the alert rules to the readings, as if they came now.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Include letters that were refused three times.")
    ] = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Do not wait for the outcome of the messages.")
    ] = False,
    file: Annotated[
        str | None,
        typer.Option("--with", metavar="FILE", help="Read the payloads as the domain in this file declares."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send open dead letters through the pipeline again, and show their outcome.

    The workers do it, also when this command is interrupted; with `--with`, this command does it, and
    `--dry-run` shows the rows of each letter or why it is left out. Exit code 1: a message was refused again,
    or has no outcome yet.
    """
    from ingest.admin.audit import note  # noqa: PLC0415
    from ingest.admin.letters import dlq_replay as work  # noqa: PLC0415
    from ingest.admin.letters import dlq_with  # noqa: PLC0415
    from ingest.admin.letters.dlq_outcome import State  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415

    filters = _filters(error_type, since, until, hour, user, device)
    chosen = domain_named(domain)
    work.check_limit(limit)
    change = None if file is None else _change(chosen, file)
    if change is not None and dry_run:
        _rehearse(chosen, filters, limit, change, force=force, as_json=as_json)
        return
    with session() as connection, progress_bar(as_json=as_json) as progress:
        arguments = {"domain": chosen.name, **filters.as_json(), "limit": limit}
        goes_on = "goes on in the workers."
        if change is None:
            run_id = work.start(chosen, filters, limit, alerts=alerts, force=force, dry_run=dry_run)
        else:
            run_id, arguments["with"] = str(uuid4()), file
            goes_on = "was interrupted. A worker notes what was sent; run it again for the rest."
        if not dry_run:
            note(connection, "REPLAY", "replays", run_id, arguments)
        try:
            if change is not None:
                dlq_with.replay(run_id, chosen, filters, limit, change, alerts=alerts, force=force)
            run = work.follow(connection, run_id, progress)
            outcomes = None if no_wait or dry_run else work.await_outcomes(connection, run, progress)
        except KeyboardInterrupt:
            to_stderr(f"The replay {run_id} {goes_on}")
            raise SystemExit(130) from None
    counts = run.counts
    if as_json:
        to_stdout(json.dumps(run.report if outcomes is None else work.Replay(run, outcomes).as_json()))
    else:
        done = counts.get("selected", 0) if dry_run else counts.get("replayed", 0)
        to_stdout(f"{counted(done, 'dead letter')} {'would be ' if dry_run else ''}replayed")
        for state, count in (outcomes or {}).items():
            to_stdout(f"{count:>9}  {state}")
        for line in _left_out(counts):
            to_stderr(line)
        if not any(counts.values()):
            _say_which_there_are(chosen, filters)
    if outcomes and (outcomes[State.REFUSED_AGAIN] or outcomes[State.IN_FLIGHT]):
        raise SystemExit(1)


def _change(domain: "AnyDomain", file: str) -> "Change":
    from ingest.admin.letters import dlq_with  # noqa: PLC0415
    from tasks.observe import logs  # noqa: PLC0415

    # The replay runs in this process, and its log does not belong among the results.
    logs.configure()
    return dlq_with.load(domain, file)


def _rehearse(
    domain: "AnyDomain", filters: "Filters", limit: int, change: "Change", *, force: bool, as_json: bool
) -> None:
    from ingest.admin.letters import dlq_with  # noqa: PLC0415
    from tasks.text.wording import safe  # noqa: PLC0415

    counts = {"selected": 0, "still_refused": 0}
    shown = []
    for letter, found in dlq_with.rehearse(domain, filters, limit, change, force=force):
        counts["still_refused" if found.letter is None else "selected"] += 1
        if as_json:
            shown.append({"key": letter.id.key, "rows": found.rows, "refused": found.refused})
            continue
        for row in found.rows if found.letter else ():
            to_stdout(safe(f"{letter.id.key}  {json.dumps(row, ensure_ascii=False)}"))
        for one in found.refused:
            which = "" if one["index"] is None else f" [{one['index']}]"
            to_stdout(safe(f"{letter.id.key}{which}  {one['error_type']}: {one['reason']}"))
    if as_json:
        to_stdout(json.dumps({**counts, "letters": shown}, ensure_ascii=False))
        return
    to_stdout(f"{counted(counts['selected'], 'dead letter')} would be replayed")
    for line in _left_out(counts):
        to_stderr(line)


@dlq_app.command()
def acknowledge(
    letter: Annotated[
        str | None,
        typer.Argument(help="One letter, by its key or by PARTITION/OFFSET of its message in the topic."),
    ] = None,
    *,
    domain: Domain = None,
    error_type: ErrorType = None,
    since: Since = None,
    until: Until = None,
    hour: Hour = None,
    user: User = None,
    device: Device = None,
    everything: Annotated[bool, typer.Option("--all", help="All open letters, without a filter.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only count what would be acknowledged.")
    ] = False,
) -> None:
    """Close open dead letters about which nothing is to be done; no replay takes them.

    They stay in Kafka until its retention takes them. Who did it is in `sluice audit`.
    """
    from ingest.admin.letters import dlq_acknowledge as work  # noqa: PLC0415

    chosen, filters = domain_named(domain), _filters(error_type, since, until, hour, user, device)
    what: dict[str, Any] = {"letter": letter} if letter else filters.as_json()
    if bool(what) == everything or (letter and filters.as_json()):
        raise OperatorError("Name one letter, or give filters such as --error-type, or --all.")
    letters = work.select_one(chosen, letter) if letter else work.select(chosen, filters)
    if not letters and not letter:
        _say_which_there_are(chosen, filters)
    if dry_run:
        to_stdout(f"{counted(len(letters), 'dead letter')} would be acknowledged")
        return
    count, run_id = work.acknowledge(chosen, letters, what) if letters else (0, "")
    to_stdout(f"{counted(count, 'dead letter')} acknowledged")
    if count:
        to_stderr(f"In `sluice audit` as {run_id}.")


# The console has this name for it.
dlq_app.command("close", help="Close open dead letters: another name of `acknowledge`.")(acknowledge)


def verify(
    *,
    domain: Domain = None,
    since: Annotated[
        str | None,
        typer.Option(help="Only records since then: 90m, 12h, 7d; or a time. Default: all in Kafka."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check that every record in Kafka has become a row or a dead letter, or is ignored; name all others.

    Looks at what the bridge has committed; the rest is in flight. Exit code 1: something is missing.
    """
    from ingest.admin.letters import verify as work  # noqa: PLC0415

    begin = None if since is None else moment("--since", since)
    with progress_bar(as_json=as_json) as progress:
        balance = work.verify(
            domain_named(domain), begin, lambda done, total: progress("verified", done, total)
        )
    if as_json:
        to_stdout(json.dumps(balance.as_json(), ensure_ascii=False))
    else:
        recovered = f", {balance.recovered} of them after they were dead letters" if balance.recovered else ""
        to_stdout(f"{balance.received:>12}  committed by the bridge")
        to_stdout(f"{balance.rows:>12}  with their row{recovered}")
        partly = f", {balance.partly} of them about some of their readings alone" if balance.partly else ""
        to_stdout(f"{balance.dead_lettered:>12}  with a dead letter{partly}")
        if balance.ignored:
            to_stdout(f"{balance.ignored:>12}  without a reading")
        if balance.expired:
            to_stdout(f"{balance.expired:>12}  older than rows are kept")
        to_stdout(f"{balance.missing:>12}  missing")
        to_stdout(f"{balance.in_flight:>12}  in flight, not counted above")
        for one in balance.named[:MOST_SHOWN]:
            which = "" if one.sequence_id is None else f", sequence_id {one.sequence_id} at {one.time}"
            to_stdout(f"{one.partition}/{one.offset}  {json.dumps(one.topic)}{which}: {one.reason}")
        for gap in balance.skipped:
            to_stdout(
                f"{gap.partition}/{gap.first}..{gap.last}  dropped by Kafka's retention before they were read"
            )
        if balance.missing > MOST_SHOWN:
            to_stderr(f"and {balance.missing - MOST_SHOWN} more; --json names the first {work.MOST_NAMED}")
    if balance.missing or balance.skipped:
        raise SystemExit(1)


def _filters(
    error_type: str | None,
    since: str | None,
    until: str | None,
    hour: str | None,
    user: str | None,
    device: str | None,
) -> "Filters":
    from tasks.dead_letters.letter import Filters  # noqa: PLC0415

    begin = None if since is None else moment("--since", since)
    end = None if until is None else moment("--until", until)
    filters = Filters(error_type, begin, end, user, device)
    if hour is None:
        return filters
    try:
        return filters.in_hour_of(moment("--hour", hour))
    except OverflowError:
        raise OperatorError("--hour is the first or the last one that there is.") from None


def _say_which_there_are(domain: "AnyDomain", filters: "Filters") -> None:
    from ingest.admin.letters import dlq_values  # noqa: PLC0415

    if said := dlq_values.of_open(domain, filters):
        to_stderr(said)


def _left_out(counts: dict[str, int]) -> Iterator[str]:
    reasons = {
        "left": "above --limit; run it again",
        "too_many_attempts": "refused three times already; --force takes them, too",
        "no_coordinates": "cannot be replayed: cut, or never in the topic",
        "still_refused": "not readable by the file, or of other rows; --dry-run says why",
        "not_written": "changes of alerts that the tables still refuse; see the workers' log",
    }
    for name, reason in reasons.items():
        if counts.get(name):
            yield f"{counted(counts[name], 'dead letter')} left out: {reason}"
