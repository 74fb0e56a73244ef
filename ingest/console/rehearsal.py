"""Rules tried on what is stored, as a page shows it: how often each would have fired, and when."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, NamedTuple

from ingest.admin.errors import ServerAway
from ingest.admin.rows import series
from ingest.admin.rows.series_wanted import Wanted
from ingest.admin.rulesets import rules as work
from ingest.admin.rulesets.rules_picture import heights
from ingest.admin.rulesets.rules_rehearsal import Firing
from ingest.api import inputs
from ingest.api.callers import Caller
from ingest.api.connections import Connections
from ingest.api.problems import Refused
from ingest.api.routes.rules import Rehearsed, rehearsed
from ingest.console import chart, render
from ingest.console.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart, Mark
from tasks.domain.domain import AnyDomain

BY_DEFAULT = "7d"
_WORDS = {BY_DEFAULT: "in the last week", "1d": "in the last day", "24h": "in the last day"}

MOST_FIRINGS = work.MAX_SHOWN
# Each is a query.
MOST_FIELDS = 5
# The parts of a picture: each is five units wide.
PARTS = (WIDTH - LEFT - RIGHT) // 5
# The height of a picture without a chart.
FLAT = 40
ABOUT_BUCKETS = 168
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


class Chosen(NamedTuple):
    """On which readings the rules are tried, as it was typed."""

    since: str = BY_DEFAULT
    device: str = ""
    domain: str = ""


class Bar(NamedTuple):
    """A time in which alerts would have been open: the more of them together, the higher."""

    x: float
    y: float
    width: float
    height: float


class Tried(NamedTuple):
    """The outcome of one rule. `chart` is the field that it judges, of the chosen device."""

    rule_id: str
    outcome: str
    bars: list[Bar]
    key: str
    chart: Chart | None
    firings: list[dict[str, Any]]
    more: int


class View(NamedTuple):
    """The whole of it. `others` are rules of other domains, which were not tried."""

    judged: str
    during: str
    rules: list[Tried]
    others: int
    columns: list[Mark]
    flat: int


def look(caller: Caller, database: Connections, user: str, document: str, chosen: Chosen) -> View:
    """Tries the document's rules on the user's readings; nothing is stored, and nobody is notified.

    Raises `Refused` as the route of the HTTP API does, and `ServerAway`.
    """
    if any(len(one) > inputs.MOST_CHARACTERS for one in chosen):
        raise Refused(
            422, f"A device, a time and a domain have at most {inputs.MOST_CHARACTERS} characters each."
        )
    domain = inputs.domain_named(chosen.domain or None)
    source = domain.source_id(chosen.device) or None
    done = rehearsed(caller, database, user, document.encode(), chosen.since, source, domain.name)
    begin = max(done.begin, done.history.first or done.begin)
    span = _span(begin, done.end)
    found = work.by_rule(done.rules, done.history)
    charts = _charts(database, done, user, source, span) if source else {}
    rules = []
    for rule, firings in found:
        drawn = charts.get(rule.key)
        top, bottom = (0, FLAT) if drawn is None else (TOP, HEIGHT - BOTTOM)
        spans = [(one.begin, one.end) for one in firings]
        rules.append(
            Tried(
                rule.rule_id,
                work.outcome(firings, done.end),
                bars(heights(spans, begin, done.end, PARTS), top, bottom),
                rule.key,
                drawn,
                [_row(domain, one, done.end) for one in firings[:MOST_FIRINGS]],
                max(0, len(firings) - MOST_FIRINGS),
            )
        )
    return View(
        work.judged(done.history),
        _WORDS.get(chosen.since, f"since {render.moment(done.begin)}"),
        rules,
        done.others,
        chart.times(begin, done.end, span.form) if begin < done.end else [],
        FLAT,
    )


def bars(open_together: Sequence[int], top: float, bottom: float) -> list[Bar]:
    """Bars between the top and the bottom for the parts of a time; equal neighbours are one bar."""
    most = max(open_together, default=0)
    part = (WIDTH - LEFT - RIGHT) / (len(open_together) or 1)
    found, at = [], 0
    for count, run in groupby(open_together):
        first, at = at, at + sum(1 for _ in run)
        if count:
            height = round(count / most * (bottom - top), 1)
            x, width = round(LEFT + first * part, 1), round((at - first) * part, 1)
            found.append(Bar(x, round(bottom - height, 1), width, height))
    return found


def _charts(
    database: Connections, done: Rehearsed, user: str, source: str, span: chart.Span
) -> dict[str, Chart]:
    """The fields that the rules judge, over time, as far as they have numbers."""
    keys = list(dict.fromkeys(rule.key for rule in done.rules.by_id.values() if rule.key))
    begin = done.end - span.length
    found: dict[str, Chart] = {}
    if begin == done.end:
        return found
    for key in keys[:MOST_FIELDS]:
        wanted = Wanted(key, begin, done.end, span.bucket, "avg")
        try:
            with database.reading() as connection:
                device = f"{done.domain.prefix}{source}"
                points = series.read(connection, done.domain, user, device, wanted)
        except (series.BadSeries, Refused, ServerAway):
            # The outcome of the rules is known; it is shown without the chart.
            continue
        if points:
            found[key] = chart.draw(points, begin, done.end, span)
    return found


def _span(begin: datetime, end: datetime) -> chart.Span:
    length = max(timedelta(), end - begin)
    bucket = -(-length // (ABOUT_BUCKETS * MINUTE)) * MINUTE
    return chart.Span("", length, max(MINUTE, bucket), "%H:%M" if length <= DAY else "%d %b")


def _row(domain: AnyDomain, one: Firing, now: datetime) -> dict[str, Any]:
    return {
        "begin": one.begin,
        "device": f"{domain.prefix}{one.device_id}",
        "lasted": work.span(one.lasted(now)),
        "open": one.end is None,
        "value": one.value,
        "flap": work.flap_of(one),
    }
