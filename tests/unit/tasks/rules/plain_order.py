"""The law of late readings, written a second time and plainly."""

TEN_MINUTES = 600

DAY = 86_400


def is_late(newest: tuple[float, float, float] | None, now: float, time: float, *, redelivered: bool) -> bool:
    """Whether a reading is older than the newest, which is given as judged time, arrival and own time."""
    if newest is None:
        return False
    judged, came, measured = newest
    if redelivered and time < (measured if measured - came <= DAY else judged):
        return True
    if time >= now or time >= judged:
        return False
    return -DAY <= now - came <= TEN_MINUTES
