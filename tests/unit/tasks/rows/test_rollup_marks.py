"""Marks of hours: those that are long over name the devices of the rows, as far as they are few."""

from examples.finance import DOMAIN as TICKS
from tasks.batch.messages import Row
from tasks.rows.marks import MOST_DEVICES, Mark, made
from tasks.telemetry import DOMAIN


def rows(*sources: tuple[str, str], hour: str = "2026-01-01T05") -> list[Row]:
    """A row of each source, as `process` makes them."""
    return [
        Row(0, number, f"{hour}:00:{number % 60:02}Z\t{user}\t{device}\t1\t2.5\t3\t{{}}\n".encode())
        for number, (user, device) in enumerate(sources)
    ]


def marks(given: list[Row]) -> list[Mark]:
    """Their marks."""
    return made(DOMAIN, given, {row.line[:13] for row in given})


def test_the_devices_of_a_late_hour_are_named_once_each() -> None:
    """In order, whatever else the rows hold."""
    (mark,) = marks(rows(("u", "d2"), ("u", "d1"), ("u", "d2"), ("a", "d3")))
    assert (mark.users, mark.devices) == (["a", "u", "u"], ["d3", "d1", "d2"])


def test_each_late_hour_has_its_own_devices() -> None:
    """An hour with many devices does not make another one whole."""
    many = rows(*(("u", f"d{number}") for number in range(MOST_DEVICES + 1)))
    few = rows(("u", "d1"), hour="2026-01-01T06")
    first, second = sorted(marks(many + few))
    assert first.devices is None
    assert second == Mark(first.hour + 1, ["u"], ["d1"])


def test_an_hour_with_an_escaped_id_is_whole() -> None:
    """The line has the id in another form than the tables."""
    (mark,) = marks(rows(("u", "d1"), ("u", "d\\\\1")))
    assert mark == Mark(mark.hour)


def test_a_domain_with_one_owner_has_no_column_of_it() -> None:
    """The marks name that owner."""
    cells = [b"x"] * len(TICKS.columns)
    cells[0], cells[TICKS.columns.index(TICKS.source)] = b"2026-01-01T05:00:00Z", b"ACME"
    line = b"\t".join(cells) + b"\n"
    (mark,) = made(TICKS, [Row(0, 0, line)], {line[:13]})
    assert (mark.users, mark.devices) == (["desk"], ["ACME"])


def test_the_present_hour_names_nobody() -> None:
    """It is rolled up as a whole."""
    (mark,) = marks(rows(("u", "d1"), hour="9999-12-31T23"))
    assert mark == Mark(mark.hour)
