"""Quiet windows hold back channels, and nothing else: alerts still open at their end are sent then, once."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from compose.local.stack import Stack
from ingest.admin.alerting import channels
from tasks import deliver_channels
from tasks.channels import tables, turns, wake
from tasks.rules.parsing import parse_rules
from tests.integration.changes import Database, deliver_and_die, history, judge, rows, write_tables
from tests.integration.commands import sluice
from tests.integration.quiet_model import Plain, Row
from tests.integration.receivers import Answer, Receiver, http_receiver
from tests.integration.user_channels import OF_USER, Set, add, setting, user

__all__ = ["setting", "user"]

STEPS = [{"severity": "critical", "threshold": 100}]
RISING = parse_rules(
    {"rules": [{"key": "temperature", "operator": ">", "threshold": 80, "message": "hot", "escalate": STEPS}]}
)
Window = Callable[..., None]


@pytest.fixture
def window(user: str, database: Database) -> Any:
    """Adds windows, of the user where nothing else is said; all go with the test."""

    def add_window(name: str, **columns: Any) -> None:
        given = {"user_id": user, "name": name, **columns}
        if "time_zone" not in given:
            given = {"starts_at": "2026-01-01T00:00Z", "ends_at": "2027-01-01T00:00Z", **given}
        names, places = ", ".join(given), ", ".join(["%s"] * len(given))
        database.execute(f"INSERT INTO quiet_windows ({names}) VALUES ({places})", list(given.values()))

    yield add_window
    database.execute("DELETE FROM quiet_windows")


def change(user: str, device: str, *readings: tuple[int, float]) -> None:
    """Judges readings, writes the changes, and looks as beat has it done."""
    judge(user, device, *readings, rules=RISING)
    write_tables()
    deliver_channels.watch()


def told(receiver: Receiver, path: str = "/hook") -> list[tuple[str, str, str]]:
    """Device, status and severity of what the channel was told, in order."""
    notices = [call.notice for call in receiver.told(path)]
    return [(one["device_id"], one["status"], one["severity"]) for one in notices]


def states(database: Database, user: str) -> dict[tuple[str, str], tuple[str, str | None]]:
    """State and reason of each delivery of the channel `hook`, by device and status."""
    query = f"SELECT device_id, status, state, why {OF_USER} AND name = 'hook'"
    return {(device, status): (state, why) for device, status, state, why in database.execute(query, [user])}


def close(database: Database, user: str) -> None:
    """Ends the user's windows, as if they had been meant to end now."""
    with database.transaction():
        database.execute("ALTER TABLE quiet_windows DISABLE TRIGGER quiet_window_changes")
        database.execute(
            "UPDATE quiet_windows SET ends_at = now() WHERE user_id = %s AND ends_at > now()", [user]
        )
        database.execute("ALTER TABLE quiet_windows ENABLE TRIGGER quiet_window_changes")
        database.execute(
            "UPDATE channel_deliveries SET held_until = now() WHERE state = 'held'"
            " AND channel_id IN (SELECT id FROM channels WHERE user_id = %s)",
            [user],
        )


def test_channels_are_silent_until_the_window_ends_and_told_then_what_is_open(
    user: str, database: Database, setting: Set, window: Window
) -> None:
    """Each alert's newest change, under its own key; nothing of alerts that began and ended meanwhile.

    What ended and was told before is told to have ended. MQTT's way and the tables have every change at once.
    """
    del setting
    with http_receiver() as receiver:
        add(database, user, "hook", "webhook", receiver.url())
        add(database, user, "begins", "webhook", receiver.url("/begins"), statuses=["TRIGGERED"])
        change(user, "before", (0, 90.0))
        deliver_channels.deliver()
        window("nights")
        before = [("before", "TRIGGERED", "warning")]
        assert told(receiver) == told(receiver, "/begins") == before

        change(user, "stays", (0, 90.0))
        change(user, "rises", (0, 90.0), (1, 105.0))
        change(user, "over", (0, 90.0), (1, 105.0), (2, 20.0))
        change(user, "before", (1, 20.0))
        deliver_channels.deliver()
        assert told(receiver) == before
        assert history(database, user) == [
            *(("before", "TRIGGERED"), ("before", "RESOLVED")),
            *(("over", "TRIGGERED"), ("over", "ESCALATED"), ("over", "RESOLVED")),
            *(("rises", "TRIGGERED"), ("rises", "ESCALATED"), ("stays", "TRIGGERED")),
        ]
        assert [device for device, *_ in rows(database, user)] == ["rises", "stays"]
        found = states(database, user)
        held = "held back by the window nights"
        assert found["stays", "TRIGGERED"] == found["rises", "ESCALATED"] == ("held", held)
        assert found["rises", "TRIGGERED"] == ("superseded", f"{held}; a later change replaces it")
        assert found["over", "RESOLVED"] == ("superseded", f"{held}; its alert began and ended meanwhile")
        look = wake.seen()
        assert look is not None
        assert (look.untaken, look.waiting, look.held) == (None, 0, 5)

        close(database, user)
        deliver_channels.watch()
        deliver_channels.deliver()
        deliver_channels.deliver()
        at_end = [("stays", "TRIGGERED", "warning"), ("rises", "ESCALATED", "critical")]
        assert told(receiver) == [*before, *at_end, ("before", "RESOLVED", "warning")]
        assert told(receiver, "/begins") == [*before, at_end[0], ("rises", "TRIGGERED", "warning")]
        for call in receiver.calls:
            assert call.key.startswith(f"{call.notice['alert_id']}/{call.notice['status']}")
        assert {state for state, _ in states(database, user).values()} == {"sent", "superseded"}
        # The window is over: what comes now is told.
        change(user, "stays", (2, 20.0))
        deliver_channels.deliver()
        assert told(receiver)[-1] == ("stays", "RESOLVED", "warning")


def test_what_nobody_looked_at_during_a_window_is_judged_by_it_afterwards(
    stack: Stack, user: str, database: Database, setting: Set, window: Window
) -> None:
    """Workers were dead all night: the outcome is the same, also where one is killed while it sends."""
    del setting
    with http_receiver() as receiver:
        add(database, user, "hook", "webhook", receiver.url())
        judge(user, "tried", (0, 90.0))
        write_tables()
        deliver_and_die(stack)
        database.execute("UPDATE channel_states SET lease_until = now()")
        window("nights")
        for device, *readings in (
            ("tried", (1, 20.0)),
            ("over", (0, 90.0), (1, 20.0)),
            ("ends", (0, 90.0)),
        ):
            judge(user, device, *readings)
        write_tables()
        close(database, user)
        judge(user, "ends", (1, 20.0))
        write_tables()
        deliver_and_die(stack)
        database.execute("UPDATE channel_states SET lease_until = now()")
        deliver_channels.deliver()
    by_device: dict[str, list[str]] = {"tried": [], "over": [], "ends": []}
    for key, device in {call.key: call.notice["device_id"] for call in receiver.calls}.items():
        by_device[device].append(key.split("/")[1])
    # Once more where a worker died.
    assert len(receiver.calls) == 5
    # The first may have been told before the worker died, so its end is told.
    assert by_device == {
        "tried": ["TRIGGERED", "RESOLVED"],
        "over": [],
        "ends": ["TRIGGERED", "RESOLVED"],
    }
    assert {state for state, _ in states(database, user).values()} == {"sent", "superseded"}


def test_what_is_sent_again_may_have_been_heard_before(
    user: str, database: Database, setting: Set, window: Window
) -> None:
    """`sluice channels retry` begins to count again, and still the end of what was tried is told."""
    setting(CHANNEL_ATTEMPTS="1")

    def answer(_path: str, number: int) -> Answer:
        return Answer(500) if number == 0 else Answer()

    with http_receiver(answer) as receiver:
        add(database, user, "hook", "webhook", receiver.url())
        change(user, "d", (0, 90.0))
        deliver_channels.deliver()
        assert states(database, user)["d", "TRIGGERED"][0] == "failed"
        window("nights")
        assert channels.retry(database, user, "hook") == (1, 0)
        change(user, "d", (1, 20.0))
        close(database, user)
        deliver_channels.watch()
        deliver_channels.deliver()
        assert told(receiver) == [("d", "RESOLVED", "warning")]


class Died(Exception):
    """A worker is gone before it has noted what it told."""


READINGS = st.tuples(st.just("reading"), st.integers(0, 2), st.sampled_from([20.0, 90.0, 105.0]))
# A window begins or ends; of one that ends, whether it goes once it was looked at.
WINDOWS = st.tuples(st.just("window"), st.booleans())
DELIVERIES = st.sampled_from([("look",), ("deliver",), ("die",)])
NIGHTS = st.lists(st.one_of(*[READINGS] * 5, WINDOWS, DELIVERIES, DELIVERIES), min_size=20, max_size=60)


class Nights:
    """A user of their own, whose windows and deliveries are as the events say, and the plain model."""

    def __init__(self, database: Database, window: Window, receiver: Receiver) -> None:
        self.user, self.database, self.add_window, self.receiver = uuid4().hex[:8], database, window, receiver
        self.plain, self.offset, self.windows, self.is_open = Plain(), 0, 0, False
        add(database, self.user, "hook", "webhook", receiver.url())

    def reading(self, number: int, value: float) -> None:
        """A reading of one of three devices."""
        device, self.offset = f"d{number}", self.offset + 1
        changes = judge(self.user, device, (self.offset, value), rules=RISING)
        self.plain.rows += [Row(device, one.alert_id, one.status) for one in changes]
        write_tables()

    def window(self, goes: bool) -> None:
        """The other way; once it was looked at, one that is over may go: rows say what was held back."""
        self.is_open = not self.is_open
        if self.is_open:
            self.windows += 1
            self.add_window(f"w{self.windows}", user_id=self.user)
            return
        close(self.database, self.user)
        self.plain.window_ends()
        if goes:
            deliver_channels.watch()
            self.database.execute("DELETE FROM quiet_windows WHERE ends_at <= now()")

    def look(self) -> None:
        """As beat has it done."""
        deliver_channels.watch()

    def deliver(self) -> None:
        """As a worker does."""
        deliver_channels.deliver()
        if not self.is_open:
            self.plain.deliver()

    def die(self) -> None:
        """A worker that dies after it has sent to the channel."""

        def dies(*_: object) -> str:
            raise Died

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tables, "finish", dies)
            with suppress(Died):
                deliver_channels.deliver()
        if not self.is_open:
            self.plain.die()
        self.database.execute("UPDATE channel_states SET lease_until = now()")

    def check(self) -> None:
        """The messages sent so far."""
        told_keys = {call.key for call in self.receiver.calls}
        assert {tuple(key.split("/")[:2]) for key in told_keys} == {
            (alert, status) for _, alert, status in self.plain.told()
        }

    def end(self) -> None:
        """All that waits is told, each device's in order."""
        if self.is_open:
            self.window(goes=False)
        self.deliver()
        for device in ("d0", "d1", "d2"):
            own = [call for call in self.receiver.calls if call.notice["device_id"] == device]
            in_order = list(dict.fromkeys(call.key for call in own))
            assert [tuple(key.split("/")[:2]) for key in in_order] == [
                (alert, status) for one, alert, status in self.plain.told() if one == device
            ]
        states = {state for (state,) in self.database.execute(f"SELECT state {OF_USER}", [self.user])}
        assert states <= {"sent", "superseded"}


@settings(
    max_examples=10,
    # A failure is reported as it was found: to shrink one on real servers would take many minutes.
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(near=st.sampled_from([0, turns.NEAR]), events=NIGHTS)
def test_nights_as_they_come_are_told_as_a_plain_model_says(
    user: str, database: Database, setting: Set, window: Window, near: int, events: list[tuple[Any, ...]]
) -> None:
    """Whatever happens in between: looks, none at all, workers that die after they have sent to a channel.

    It is the same whether what is next is among the oldest or has to be looked for further on.
    """
    del user, setting
    with http_receiver() as receiver, pytest.MonkeyPatch.context() as patch:
        patch.setattr(turns, "NEAR", near)
        nights = Nights(database, window, receiver)
        try:
            for event in events:
                getattr(nights, event[0])(*event[1:])
                nights.check()
            nights.end()
        finally:
            database.execute("DELETE FROM channels WHERE user_id = %s", [nights.user])
            database.execute("DELETE FROM quiet_windows")


def test_windows_are_of_a_device_a_rule_a_severity_and_of_everyone(
    user: str, database: Database, setting: Set, window: Window
) -> None:
    """A change that the window is not about passes at once, also a rise that overtakes held changes."""
    del setting
    with http_receiver() as receiver:
        add(database, user, "hook", "webhook", receiver.url())
        window("mild", device_id="d1", severities=["warning"])
        window("other", rule_id="humidity")
        window("theirs", user_id=f"{user}x")
        change(user, "d1", (0, 90.0))
        change(user, "d2", (0, 90.0))
        deliver_channels.deliver()
        assert told(receiver) == [("d2", "TRIGGERED", "warning")]
        change(user, "d1", (1, 105.0))
        deliver_channels.deliver()
        assert told(receiver)[1:] == [("d1", "ESCALATED", "critical")]
        window("works", user_id=None)
        change(user, "d1", (2, 20.0))
        deliver_channels.deliver()
        assert len(receiver.calls) == 2
        assert states(database, user)["d1", "RESOLVED"] == (
            "held",
            "held back by the operator's window works",
        )
        # Removed, it holds nothing back any more; the mild one goes on, and what it held has been replaced.
        database.execute("DELETE FROM quiet_windows WHERE name = 'works'")
        deliver_channels.deliver()
        assert told(receiver)[2:] == [("d1", "RESOLVED", "critical")]
        assert states(database, user)["d1", "TRIGGERED"][0] == "superseded"


def test_the_operators_commands_and_what_the_table_refuses(
    stack: Stack, user: str, database: Database, window: Window
) -> None:
    """Windows are added, shown and removed; what cannot work is refused with a sentence, also by SQL."""

    def run(*arguments: str) -> str:
        done = sluice(stack, "quiet", *arguments)
        return done.stdout + done.stderr if done.returncode == 0 else f"refused: {done.stderr}"

    night = ("--from", "22:00", "--until", "06:00", "--zone", "Europe/Berlin")
    assert "added" in run("add", "nights", "--user", user, "--days", "mon-fri", *night, "--device", "d1")
    assert "added" in run("add", "works", "--everyone", "--for", "2h")
    assert f"{user} has a window nights" in run("add", "nights", "--user", user, *night)
    assert "there is no time zone" in run("add", "x", "--user", user, *night[:-1], "Europe/Berlim").lower()
    assert "no window x" in run("remove", "x", "--everyone")
    shown = run("list", "--user", user)
    assert f"{user}/nights  device d1  mon,tue,wed,thu,fri 22:00-06:00 Europe/Berlin" in shown
    assert "(everyone)/works  all" in shown
    assert "open until" in shown
    assert "removed" in run("remove", "works", "--everyone")
    assert '"opens_at"' in run("list", "--json")

    recurring = {"time_zone": "UTC", "weekdays": ["mon"], "from_time": "22:00", "until_time": "06:00"}
    wrong: dict[str, Any]
    for wrong in (
        {"ends_at": "2026-01-01T00:00Z"},
        {"ends_at": "2029-01-01T00:00Z"},
        {"ends_at": "infinity"},
        {"ends_at": None},
        {"severities": []},
        {"name": "../x"},
        {**recurring, "weekdays": []},
        {**recurring, "weekdays": ["monday"]},
        {**recurring, "until_time": "22:00"},
        {**recurring, "from_time": "24:00"},
        {**recurring, "time_zone": "Europe/Berlim"},
        {**recurring, "starts_at": "2026-01-01T00:00Z", "ends_at": "2026-01-02T00:00Z"},
    ):
        with pytest.raises(psycopg.errors.CheckViolation):
            window(**{"name": "w", **wrong})
    for number in range(19):
        window(f"w{number}", **recurring)
    with pytest.raises(psycopg.errors.CheckViolation, match="maximum"):
        window("one-more", **recurring)
    trail = "SELECT action FROM operator_audit WHERE subject = 'quiet_windows' AND key = %s"
    assert len(database.execute(trail, [user]).fetchall()) == 20
