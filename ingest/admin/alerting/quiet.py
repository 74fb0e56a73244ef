"""The work of `sluice quiet`: windows in which channels are silent."""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import psycopg
from psycopg.rows import dict_row

from ingest.admin.accounts.accounts import check_id
from ingest.admin.errors import OperatorError
from ingest.admin.postgres import Connection
from tasks.channels.quiet import window_of
from tasks.channels.windows import WEEKDAYS, days_of, instant, minutes_of, open_until
from tasks.text.times import in_utc, parse_span

MOST_DAYS = 366
# In two weeks and a day, a weekly window opens even if the clock leaves it out once.
AHEAD = timedelta(days=15)
_TIME_OF_DAY = re.compile(r"[0-9]{1,2}:[0-9]{2}")

_ADD = """
INSERT INTO quiet_windows (user_id, name, device_id, rule_id, severities, starts_at, ends_at, time_zone,
    weekdays, from_time, until_time)
VALUES (%(user_id)s, %(name)s, %(device_id)s, %(rule_id)s, %(severities)s, %(starts_at)s, %(ends_at)s,
    %(time_zone)s, %(weekdays)s, %(from_time)s, %(until_time)s)
"""
_LIST = """
SELECT user_id, name, device_id, rule_id, severities, starts_at, ends_at, time_zone, weekdays, from_time,
       until_time, enabled, now() AS now
FROM quiet_windows WHERE %(user_id)s::text IS NULL OR user_id = %(user_id)s OR user_id IS NULL
ORDER BY user_id NULLS FIRST, name
"""


def when(
    begin: str | None, end: str | None, length: str | None, days: str | None, zone: str | None, now: datetime
) -> dict[str, Any]:
    """When a window is open, as columns of the table; every fault is a sentence. Pure.

    Times of day begin a recurring window, anything else one that comes once: from now without `begin`, to
    `end` or for a `length` such as 2h. Raises `OperatorError`.
    """
    if begin and _TIME_OF_DAY.fullmatch(begin):
        return _recurring(begin, end, length, days, zone)
    if days is not None:
        raise OperatorError("With --days a window needs times of day, such as --from 22:00 --until 06:00.")
    starts = now if begin is None else _moment("--from", begin, zone, last=False)
    if (end is None) == (length is None):
        raise OperatorError(
            "A window that comes once needs its end: --until a time, or --for a span such as 2h."
        )
    if length is not None:
        try:
            ends = starts + parse_span(length)
        except (ValueError, OverflowError):
            raise OperatorError(f"--for must be a span such as 45m, 12h or 7d; got {length}.") from None
    else:
        assert end is not None
        ends = _moment("--until", end, zone, last=True)
    if ends <= starts:
        raise OperatorError(f"The window ends ({in_utc(ends)}) before it starts ({in_utc(starts)}).")
    if ends <= now:
        raise OperatorError(f"The window is over already: it ended at {in_utc(ends)}.")
    if ends - starts > timedelta(days=MOST_DAYS):
        raise OperatorError(
            f"A window lasts {MOST_DAYS} days at most; `sluice channels` can disable a channel."
        )
    return _columns(starts_at=starts, ends_at=ends)


def _recurring(
    begin: str, end: str | None, length: str | None, days: str | None, zone: str | None
) -> dict[str, Any]:
    if end is None or length is not None or not _TIME_OF_DAY.fullmatch(end):
        raise OperatorError(
            "A window that starts at a time of day ends at one: --until 06:00, next day's if earlier."
        )
    if zone is None:
        raise OperatorError("Times of day need their time zone: --zone, such as Europe/Berlin, or UTC.")
    check_zone(zone)
    begin, end = begin.zfill(5), end.zfill(5)
    try:
        weekdays = days_of(",".join(WEEKDAYS) if days is None else days)
        start, until = minutes_of(begin), minutes_of(end)
    except ValueError as error:
        sentence = str(error)
        raise OperatorError(f"{sentence[0].upper()}{sentence[1:]}.") from None
    if start == until or begin == "24:00":
        raise OperatorError(
            "A window starts and ends at different times; --from 00:00 --until 24:00 is all day."
        )
    return _columns(time_zone=zone, weekdays=weekdays, from_time=begin, until_time=end)


def _columns(**given: Any) -> dict[str, Any]:
    names = ("starts_at", "ends_at", "time_zone", "weekdays", "from_time", "until_time")
    return dict.fromkeys(names) | given


def check_zone(name: str) -> None:
    """Raises `OperatorError` with the nearest names for a time zone that there is not."""
    known = available_timezones()
    if name in known:
        return
    # A zone's city is what people remember of it.
    by_part = {part.lower(): zone for zone in sorted(known) for part in (zone, zone.rpartition("/")[2])}
    near = [by_part[one] for one in get_close_matches(name[:64].lower().replace(" ", "_"), by_part, n=5)]
    found = list(dict.fromkeys(near))[:3]
    raise OperatorError(
        f"There is no time zone {name}; "
        + (f"did you mean {' or '.join(found)}?" if found else "they are named as in Europe/Berlin, and UTC.")
    )


def _moment(option: str, text: str, zone: str | None, *, last: bool) -> datetime:
    """A time with an offset, or by the clock of the zone, else in UTC."""
    if zone is not None:
        check_zone(zone)
    try:
        time = datetime.fromisoformat(text)
        return time if time.tzinfo else instant(time, ZoneInfo(zone or "UTC"), last=last)
    except (ValueError, OverflowError):
        raise OperatorError(
            f"{option} must be a time such as 2026-12-24T18:00, or a time of day such as 22:00; got {text}."
        ) from None


def add(
    connection: Connection,
    name: str,
    user_id: str | None,
    device_id: str | None,
    rule_id: str | None,
    severities: list[str] | None,
    times: dict[str, Any],
) -> None:
    """Adds a window, of a user or, without one, of the operator for every user. Raises `OperatorError`."""
    if user_id is not None:
        check_id(user_id, "user id")
    given = {"name": name, "user_id": user_id, "device_id": device_id, "rule_id": rule_id}
    try:
        connection.execute(_ADD, given | times | {"severities": severities or None})
    except psycopg.errors.UniqueViolation as error:
        raise OperatorError(
            f"{_owner(user_id)} has a window {name}; `sluice quiet remove {name} {_option(user_id)}`"
            " removes it."
        ) from error
    except psycopg.errors.CheckViolation as error:
        raise OperatorError(_check(error)) from error


def remove(connection: Connection, name: str, user_id: str | None) -> None:
    """Removes a window; deliveries that only it holds back are sent now. Raises `OperatorError`."""
    statement = "DELETE FROM quiet_windows WHERE name = %s AND user_id IS NOT DISTINCT FROM %s"
    if not connection.execute(statement, [name, user_id]).rowcount:
        raise OperatorError(f"{_owner(user_id)} has no window {name}; see `sluice quiet list`.")


def listed(connection: Connection, user_id: str | None) -> list[dict[str, Any]]:
    """The windows of all users, or those that concern one; with each until when it is open, or opens next."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(_LIST, {"user_id": user_id}).fetchall()
    return [_with_state(row) for row in rows]


def _with_state(row: dict[str, Any]) -> dict[str, Any]:
    now: datetime = row.pop("now")
    problem, until, following = None, None, None
    try:
        window = window_of(row)
    except (ValueError, OSError):
        problem = f"the time zone {row['time_zone']} is not known here"
    else:
        until = open_until(window, now) if row["enabled"] else None
        horizon = now + AHEAD if row["starts_at"] is None else max(now, row["starts_at"])
        following = next((span.start for span in window.spans(now, horizon) if span.start > now), None)
    return row | {"open_until": until, "opens_at": following if until is None else None, "problem": problem}


def as_text(rows: list[dict[str, Any]]) -> Iterator[str]:
    """One line for each window: whose, what it is about, when, and whether it is open."""
    for row in rows:
        about = [
            f"{name} {row[key]}" for name, key in (("device", "device_id"), ("rule", "rule_id")) if row[key]
        ]
        if row["severities"]:
            about.append(f"severity {', '.join(row['severities'])}")
        if row["time_zone"] is None:
            times = f"{in_utc(row['starts_at'])} to {in_utc(row['ends_at'])}"
        else:
            times = f"{','.join(row['weekdays'])} {row['from_time']}-{row['until_time']} {row['time_zone']}"
        owner = row["user_id"] or "(everyone)"
        yield f"{owner}/{row['name']}  {', '.join(about) or 'all'}  {times}  {_state(row)}"


def _state(row: dict[str, Any]) -> str:
    if not row["enabled"]:
        return "off"
    if row["problem"]:
        return f"ignored: {row['problem']}"
    if row["open_until"]:
        return f"open until {in_utc(row['open_until'])}"
    return f"opens {in_utc(row['opens_at'])}" if row["opens_at"] else "over"


def _owner(user_id: str | None) -> str:
    return "The operator" if user_id is None else f"The user {user_id}"


def _option(user_id: str | None) -> str:
    return "--everyone" if user_id is None else f"--user {user_id}"


def _check(error: psycopg.errors.CheckViolation) -> str:
    sentences = {
        "quiet_windows_name_check": "A window's name has 1 to 64 letters, digits, dots, dashes and"
        " underscores.",
        "quiet_windows_device_id_check": "A device's id has 1 to 300 characters.",
        "quiet_windows_rule_id_check": "A rule's id has 1 to 256 characters.",
        "quiet_windows_severities_check": "A window has 16 severities at most.",
    }
    return sentences.get(
        error.diag.constraint_name or "", f"The database refuses: {error.diag.message_primary}."
    )
