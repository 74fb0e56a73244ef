"""Ticks of a market: the latest price of each symbol, and an alert while it is below its floor."""

from tasks.domain import Alert, Bigint, Domain, Numeric, Record, Time, TopicLevel

FLOORS = {"ACME": 100, "GLOBEX": 12}


class Tick(Record):
    """A message of the market: `{"time": "2026-05-01T10:00:00.000001Z", "price": "101.25", "volume": 300}`.

    A price in a string keeps every digit. A symbol has one tick at a time: the same one again, or
    another of the same microsecond, makes no second row.
    """

    symbol: TopicLevel
    time: Time
    price: Numeric
    volume: Bigint


def price_crash(tick: Tick) -> Alert | None:
    """Crashed while below the floor of its symbol; a symbol without one never does."""
    floor = FLOORS.get(tick.symbol, 0)
    if tick.price < floor:
        return Alert(f"{tick.symbol} is at {tick.price}, below {floor}", value=float(tick.price))
    return None


DOMAIN = Domain(
    Tick,
    name="ticks",
    topic="markets/{symbol}/ticks",
    # The market belongs to no user: its alerts go to the desk, on users/desk/alerts.
    owner="desk",
    source="{symbol}",
    table="raw_ticks",
    primary_key=("time", "symbol"),
    # Everything else in a tick is left out.
    extra=None,
    checks={"PriceCrash": price_crash},
)
