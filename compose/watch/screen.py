"""Draws the live view: pure, from what was read to what is shown."""

import io
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.layout import Layout
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

ROOM_FOR_HINTS = 22
"""Lines of a screen below which the rows matter more than the hints."""
PICTURE_COLUMNS, PICTURE_LINES = 110, 30
_FETCHED_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


@dataclass(frozen=True)
class Count:
    """How much has come since the view began, and how fast it grows; `None` when it could not be read."""

    total: int | None
    per_second: float = 0.0


@dataclass(frozen=True)
class FleetView:
    """The simulated devices."""

    devices: int
    connected: int
    published: int


@dataclass(frozen=True)
class View:
    """Everything that is shown."""

    up_seconds: float
    received: Count
    stored: Count
    dead_lettered: Count
    duplicates: Count
    lag: int | None
    latency_ms: int | None
    restarts: dict[str, int] | None
    """By process; `None` when nobody counts them."""
    resent: int | None
    fleet: FleetView | None
    columns: list[str] = field(default_factory=list)
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    away: dict[str, str] = field(default_factory=dict)
    """Servers that do not answer, and why."""
    places: list[tuple[str, str]] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)
    waited: int | None = None
    """Messages that waited in Kafka when the view began."""


def duration(seconds: float) -> str:
    """A time span for people."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def farewell(
    view: View, grown: dict[str, int | None], published: int | None = None, acknowledged: int | None = None
) -> str:
    """The result: by how much each count of the view has grown, and the fleet's own totals."""
    counts = ", ".join(f"{name} {_number(number)}" for name, number in grown.items())
    waiting = f", {view.lag:,} still waiting in Kafka" if view.lag else ""
    text = f"In {duration(view.up_seconds)}: {counts}{waiting}."
    if published is not None:
        text += f"\nThe fleet published {published:,} messages, {_number(acknowledged)} of them acknowledged."
    return text


def line(view: View) -> str:
    """The view in one line, for output that is not a terminal."""
    parts = [
        f"up {duration(view.up_seconds)}",
        f"since then in {_total(view.received)} {_rate(view.received)}".rstrip(),
        f"stored {_total(view.stored)} {_rate(view.stored)}".rstrip(),
        f"dead letters {_total(view.dead_lettered)}",
        f"duplicates {_total(view.duplicates)}",
        f"lag {_number(view.lag)}",
        f"latency {_milliseconds(view.latency_ms)}",
    ]
    if view.restarts is not None:
        parts.append(f"restarts {sum(view.restarts.values())}")
    parts += [f"{name} away: {reason}" for name, reason in view.away.items()]
    return " · ".join(parts)


def screen(view: View, height: int) -> RenderableType:
    """The view as a full screen of at least 80 columns and this many lines."""
    blocks: list[tuple[RenderableType, int]] = [(_title(view), 2), (_numbers(view), 5)]
    if view.away:
        blocks.append((_away(view), len(view.away) + 1))
    below: list[tuple[RenderableType, int]] = [(_places(view), len(view.places) + 1)]
    if view.hints and height >= ROOM_FOR_HINTS:
        below.append((_hints(view), len(view.hints) + 1))
    left = height - sum(lines for _, lines in blocks) - sum(lines for _, lines in below)
    blocks.append((_rows(view, max(0, left - 3)), max(left, 1)))
    layout = Layout()
    layout.split_column(*(Layout(Padding(block, (0, 1)), size=lines) for block, lines in [*blocks, *below]))
    return layout


def picture(view: View) -> str:
    """The screen as SVG, in the reader's own monospace font."""
    console = Console(
        file=io.StringIO(),
        record=True,
        width=PICTURE_COLUMNS,
        height=PICTURE_LINES,
        force_terminal=True,
        color_system="truecolor",
    )
    console.print(screen(view, PICTURE_LINES), height=PICTURE_LINES)
    return _FETCHED_FONTS.sub("", console.export_svg(title="make run"))


def _title(view: View) -> RenderableType:
    since = duration(view.up_seconds)
    table = Table.grid(expand=True)
    table.add_column()
    table.add_column(justify="right", style="dim")
    table.add_row(
        Text.assemble(("Sluice", "bold cyan"), (f"  up {since}, counts since then", "dim")),
        "Ctrl-C ends it",
    )
    return table


def _numbers(view: View) -> RenderableType:
    table = Table.grid(expand=True, padding=(0, 1))
    table.add_column(style="dim", width=13)
    table.add_column(justify="right", style="bold", width=12)
    table.add_column(justify="right", width=10)
    table.add_column(width=4)
    table.add_column(style="dim", width=9)
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    flow = (
        ("messages in", view.received),
        ("rows stored", view.stored),
        ("dead letters", view.dead_lettered),
        ("duplicates", view.duplicates),
    )
    state = (
        ("lag", Text.assemble(_number(view.lag), (f" waiting in Kafka{_before(view)}", "dim"))),
        ("latency", Text.assemble(_milliseconds(view.latency_ms), (" of the last batch", "dim"))),
        ("restarts", _restarts(view)),
        ("fleet", _fleet(view.fleet)),
    )
    for (name, count), (title, value) in zip(flow, state, strict=True):
        table.add_row(name, _total(count), _rate(count), "", title, value)
    return table


def _before(view: View) -> str:
    return f", {view.waited:,} when this began" if view.waited else ""


def _restarts(view: View) -> Text:
    if view.restarts is None:
        text = Text("not counted here", style="dim")
    else:
        died = {name: number for name, number in view.restarts.items() if number}
        names = " ".join(f"{name} {number}" if number > 1 else name for name, number in died.items())
        text = Text.assemble(
            (str(sum(died.values())), "yellow" if died else ""), (f" {names}" if names else "", "dim")
        )
    if view.resent:
        text.append(f"  batches sent again {view.resent:,}", style="yellow")
    return text


def _fleet(fleet: FleetView | None) -> Text:
    if fleet is None:
        return Text("none", style="dim")
    style = "" if fleet.connected == fleet.devices else "yellow"
    return Text.assemble(
        (f"{fleet.connected} of {fleet.devices} devices", style), (f", {fleet.published:,} published", "dim")
    )


def _away(view: View) -> RenderableType:
    titles = {f"{name} is away": reason for name, reason in view.away.items()}
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(style="yellow", no_wrap=True, width=max(map(len, titles)))
    table.add_column(style="dim", no_wrap=True, overflow="ellipsis", ratio=1)
    for title, reason in titles.items():
        table.add_row(title, Text(reason))
    return table


def _rows(view: View, most: int) -> RenderableType:
    table = Table(box=None, expand=True, padding=(0, 1, 0, 0), header_style="dim", pad_edge=False)
    for column in view.columns:
        table.add_column(column, justify="left" if column.endswith("_id") else "right", no_wrap=True)
    if view.columns:
        table.columns[0].justify = "left"
    for row in view.rows[:most]:
        table.add_row(*(_cell(value) for value in row))
    return Group(Rule("latest rows", align="left", style="dim"), table)


def _cell(value: Any) -> Text:
    # As a Text: rich would take square brackets in a plain string, a device's name say, for its markup.
    if value is None:
        return Text()
    if isinstance(value, datetime):
        return Text(value.astimezone().strftime("%H:%M:%S.%f")[:-3])
    return Text(f"{value:g}" if isinstance(value, float) else str(value))


def _places(view: View) -> RenderableType:
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(style="dim", width=max((len(name) for name, _ in view.places), default=1))
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for name, address in view.places:
        table.add_row(name, Text(address))
    return Group(Rule(style="dim"), table)


def _hints(view: View) -> RenderableType:
    hints = [Text(hint, style="cyan", no_wrap=False) for hint in view.hints]
    return Group(Rule("try, in another terminal", align="left", style="dim"), *hints)


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _total(count: Count) -> str:
    return _number(count.total)


def _rate(count: Count) -> str:
    return f"{count.per_second:,.0f}/s" if count.total is not None else ""


def _milliseconds(value: int | None) -> str:
    if value is None:
        return "-"
    return f"{value:,} ms" if value < 10_000 else f"{value / 1000:,.0f} s"
