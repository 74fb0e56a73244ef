"""Lives of alerts: events drawn at random, lived by the state machine and by the plain model."""

from collections import defaultdict
from typing import Any

from hypothesis import strategies as st

from tasks.rules.active_alerts import ActiveAlert, rebuild, row_changes
from tasks.rules.change import Change
from tasks.rules.commands import CannotManage
from tasks.rules.order import Newest
from tasks.rules.state import EPOCH, DeviceState
from tests.unit.tasks.rules.as_sent import KEY, QUOTED, flat, nested, overriding, own_rules, quoted, short
from tests.unit.tasks.rules.device import START, Device
from tests.unit.tasks.rules.plain_conditions import ORDERING
from tests.unit.tasks.rules.plain_model import PlainModel

Event = tuple[Any, ...]

RULE_IDS = ("r0", "r1", "r2", "r3")
VALUES = st.sampled_from([0, 1, 2, 3, 1.5, True, None, "2"])


@st.composite
def rule_sets(draw: st.DrawFn, *, remembering: bool = True, flapping: bool = False) -> list[dict[str, Any]]:
    """Up to four rules about two keys, of every kind; `remembering` ones compare with the reading before,
    and with `flapping` all have that field.
    """
    rules = []
    for rule_id in draw(st.lists(st.sampled_from(RULE_IDS), min_size=int(flapping), unique=True)):
        given: dict[str, Any] = {
            "id": rule_id,
            "message": "m",
            "for_seconds": draw(st.sampled_from([0, 0, 20])),
        }
        kind = draw(st.sampled_from(["plain", "plain", "absent", "condition", "condition"]))
        if kind == "absent":
            key = draw(st.sampled_from(["a", "b", None]))
            given |= {} if key is None else {"key": key}
            given |= {"operator": "absent", "for_seconds": draw(st.sampled_from([30, 90]))}
        elif kind == "plain":
            given |= draw(PLAIN)
        else:
            given |= draw(CONDITIONS if remembering else FORGETFUL)
        if given.get("operator") in ORDERING and "threshold" in given and draw(st.booleans()):
            given |= draw(escalations(1 if ">" in given["operator"] else -1, given["threshold"]))
        if kind != "absent" and draw(st.booleans()):
            given["for_readings"] = draw(st.integers(1, 3))
        if flapping or draw(st.booleans()):
            given["flapping"] = {"changes": draw(st.integers(2, 3)), "minutes": draw(st.sampled_from([2, 3]))}
        rules.append(draw(overriding(given)) if draw(st.booleans()) else given)
    return rules


KEYS = st.sampled_from(["a", "b"])


@st.composite
def plain(draw: st.DrawFn, *, change: bool = False) -> dict[str, Any]:
    """A comparison with a number."""
    operator = draw(st.sampled_from([">", "<", ">=", "<=", "==", "!="]))
    given: dict[str, Any] = {"key": draw(KEYS), "operator": operator, "threshold": draw(st.integers(0, 2))}
    if operator in {">", ">=", "<", "<="}:
        step = -1 if ">" in operator else 1
        given["clear_threshold"] = given["threshold"] + step * draw(st.integers(0, 2))
    if change:
        given["change"] = draw(st.sampled_from(["delta", "rate"]))
    return given


@st.composite
def escalations(draw: st.DrawFn, step: int, threshold: int) -> dict[str, Any]:
    """One or two higher severities, and sometimes a lowest one of its own."""
    names = draw(
        st.lists(st.sampled_from(["high", "higher", "highest"]), min_size=1, max_size=2, unique=True)
    )
    steps = [{"severity": name, "threshold": threshold + (n + 0.5) * step} for n, name in enumerate(names)]
    lowest = draw(st.sampled_from([{}, {"severity": "low"}]))
    return {"escalate": steps, **lowest}


PLAIN = plain()
MIXED = st.sampled_from([0, 1, True, False, "2", "3"])
OTHERS = (
    st.fixed_dictionaries(
        {"key": KEYS, "operator": st.sampled_from(["==", "!="]), "threshold": st.sampled_from([True, "2"])}
    )
    | st.fixed_dictionaries(
        {"key": KEYS, "operator": st.just("in"), "threshold": st.lists(MIXED, min_size=1, max_size=3)}
    )
    | st.fixed_dictionaries(
        {"key": KEYS, "operator": st.sampled_from([">", "<=", "==", "!="]), "threshold_key": KEYS}
    )
)
REMEMBERING = plain(change=True) | st.fixed_dictionaries({"key": KEYS, "operator": st.just("unchanged")})


def grouped(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Conditions that hold together, or one of them."""
    members = st.lists(inner, min_size=1, max_size=3)
    return st.builds(lambda name, of: {name: of}, st.sampled_from(["all", "any"]), members)


def conditions(leaf: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Groups of comparisons, one in the other."""
    return grouped(leaf | PLAIN | grouped(leaf | PLAIN))


FORGETFUL = OTHERS | conditions(OTHERS)
CONDITIONS = OTHERS | REMEMBERING | conditions(OTHERS | REMEMBERING)

PAYLOADS = st.dictionaries(st.sampled_from(["a", "b"]), VALUES)

# Mostly in order, sometimes late, sometimes with a clock that is wrong by hours or days.
SKEWS = st.sampled_from([0, 0, 0, 0, -7, -25, -700, -9000, -100_000, -200_000, 40, 5000, 200_000])
PAUSES = st.integers(0, 40) | st.sampled_from([0, 5, 700])
READINGS = st.tuples(st.just("reading"), PAUSES, SKEWS, PAYLOADS)
REPEATED = st.tuples(st.just("repeated"), PAUSES, st.integers(0, 4), PAYLOADS)
REDELIVERED = st.tuples(st.just("redelivered"), PAUSES, st.integers(1, 12))
IN_ORDER = st.tuples(st.just("reading"), st.integers(0, 40), st.just(0), PAYLOADS)

COMMANDS = st.tuples(
    st.just("command"),
    st.integers(0, 20),
    st.sampled_from(["SNOOZE", "SNOOZE", "DISABLE", "ENABLE", "ACKNOWLEDGE"]),
    st.sampled_from(RULE_IDS),
    st.integers(1, 100),
)

REPEATED_COMMANDS = st.tuples(st.just("command again"), st.integers(0, 5))
RULES = st.tuples(st.just("rules"), rule_sets(), st.booleans())
FORGETFUL_RULES = st.tuples(st.just("rules"), rule_sets(remembering=False), st.booleans())
# A value that goes to and fro.
FLIPS = st.tuples(
    st.just("flips"),
    st.sampled_from([1, 10, 25, 45]),
    st.sampled_from([0, 0, 0, -100, -10_000]),
    st.lists(st.sampled_from([0, 3, 1]), min_size=2, max_size=8),
)
FLIPS_IN_ORDER = FLIPS.map(lambda event: (*event[:2], 0, event[3]))
FLAPPING_RULES = st.tuples(st.just("rules"), rule_sets(remembering=False, flapping=True), st.booleans())
CLOCK = st.tuples(st.just("clock"), st.integers(0, 120), st.integers(0, 100))
LONG_CLOCK = st.tuples(st.just("clock"), st.integers(60, 400), st.integers(100, 1000))
AGAIN = st.tuples(st.just("again"), st.integers(0, 12), st.integers(1, 12))
LOST = st.tuples(st.just("lost"), st.integers(0, 12))


class Life:
    """One device, and beside it the plain model, through the same events."""

    def __init__(self, rules: list[dict[str, Any]], *, packed: bool = False, model: bool = True) -> None:
        self.device = Device()
        self.device.change_rules(*map(quoted, rules))
        self.model = PlainModel() if model else None
        if self.model:
            self.model.rules = own_rules(rules)
        self.packed = packed
        self.now = 0
        self.seen: dict[str, float] = {}
        self.forgotten: set[int] = set()  # offsets that must not come again
        self.commands: list[Event] = []
        self.rows: dict[str, ActiveAlert] = {}
        self.written = self.device.state

    def live(self, events: list[Event]) -> "Life":
        """Goes through the events."""
        for event in events:
            getattr(self, event[0].replace(" ", "_"))(*event[1:])
            if self.packed:
                # The newest reading of a quiet device is remembered beside the states.
                newest = self.device.state.newest
                self.device.state = DeviceState.unpack("u", "d", self.device.state.pack())
                assert self.device.state.is_blank or self.device.state.newest == newest
                self.device.state = self.device.state._replace(newest=newest)
        return self

    def reading(self, seconds: int, skew: int, payload: dict[str, Any]) -> None:
        """A new record."""
        self.now += seconds
        self._send(self.now + skew, payload, None)

    def flips(self, seconds: int, skew: int, values: list[float]) -> None:
        """Records that come one after the other."""
        for value in values:
            self.reading(seconds, skew, {"a": value, "b": value})

    def repeated(self, seconds: int, back: int, payload: dict[str, Any]) -> None:
        """A new record with the time and key of an earlier one."""
        self.now += seconds
        if back < len(self.device.sent):
            earlier = self.device.sent[-1 - back]
            self._send(round((earlier.time - EPOCH).total_seconds()) - START, payload, earlier.key)

    def redelivered(self, seconds: int, back: int) -> None:
        """The last records once more, as new ones: a gateway has ended without acknowledging them."""
        self.now += seconds
        for earlier in self.device.sent[-back:]:
            time = round((earlier.time - EPOCH).total_seconds()) - START
            self._send(time, flat(earlier.payload), earlier.key, redelivered=True)

    def _send(
        self, time: int, payload: dict[str, Any], key: int | None, *, redelivered: bool = False
    ) -> None:
        before = self.device.state.newest
        self.device.send(nested(payload), self.now, time, key, redelivered=redelivered)
        self._forget_if_set_back(before)
        self.seen |= {key: self.now for key in payload if payload[key] is not None} | {"": self.now}
        if self.model:
            sent_key = self.device.sent[-1].key
            assert sent_key is not None
            self.model.reading(self.device.offset, self.now, time, payload, sent_key, redelivered=redelivered)

    def _forget_if_set_back(self, before: Newest | None) -> None:
        """Where the device's clock was set back, some readings are newer than those whose keys are known."""
        after = self.device.state.newest
        if before is None or after is None:
            return
        gone = set(before.keys) - set(after.keys)
        newer = (one.moment.time >= after.time for one in self.device.sent if one.key in gone)
        if after.time < before.time or any(newer):
            self.forget()

    def again(self, back: int, length: int) -> None:
        """A slice of the records once more, but for those that the device forgot."""
        first = max(0, len(self.device.sent) - back)
        again = self.device.sent[first : first + length]
        self.device.judge(*[record for record in again if record.offset not in self.forgotten])

    def forget(self, *, everything: bool = False) -> None:
        """Something other than a reading happens: of what a quiet device sent before, nothing is known."""
        judged = self.device.state.has_judged
        self.forgotten |= {
            record.offset
            for record in self.device.sent
            if everything or not judged(record.partition, record.offset)
        }

    def anything_again(self, back: int, length: int) -> None:
        """Any slice, once more."""
        first = max(0, len(self.device.sent) - back)
        self.device.judge(*self.device.sent[first : first + length])

    def command(self, seconds: int, action: str, rule_id: str, duration: int) -> None:
        """A command, obeyed or refused."""
        self.now += seconds
        self.forget()
        self.commands.append((action, rule_id, duration, self.now, f"c{len(self.commands)}"))
        self._command(*self.commands[-1])

    def command_again(self, back: int) -> None:
        """An earlier command once more."""
        if back < len(self.commands):
            self._command(*self.commands[-1 - back])

    def _command(self, action: str, rule_id: str, duration: int, at: int, name: str) -> None:
        obeyed = True
        minutes = duration / 60 if action == "SNOOZE" else None
        by = "anna" if duration % 3 else "operator/bob"
        note = f"note {duration}" if action == "ACKNOWLEDGE" and duration % 2 else None
        try:
            self.device.command(action, at, minutes, rule_id=rule_id, command_id=name, by=by, note=note)
        except CannotManage:
            obeyed = False
        if self.model:
            assert self.model.command(action, rule_id, at, duration, name, by, note) == obeyed

    def rules(self, rules: list[dict[str, Any]], noticed: bool) -> None:
        """Other rules, noticed at once or at the next reading."""
        self.forget()
        self.device.change_rules(*map(quoted, rules), at=self.now if noticed else None)
        if self.model:
            self.model.rules = own_rules(rules)
            if noticed:
                self.model.notice_rules(self.now)

    def clock(self, seconds: int, listening: int) -> None:
        """Time passes; everything could arrive for the last `listening` seconds."""
        self.now += seconds
        self.forget()
        if self.seen:
            seen = {"" if key == "" else key: at for key, at in self.seen.items()}
            named = {QUOTED if key == KEY else key: at for key, at in seen.items() if key}
            self.device.tick(self.now, seen[""], self.now - listening, **named)
            if self.model:
                self.model.clock(self.now, seen, self.now - listening)

    def write(self) -> None:
        """The rows of `active_alerts` as the evaluation writes them after a batch."""
        changes = row_changes(self.written, self.device.state)
        for rule_id in changes.gone:
            del self.rows[rule_id]
        self.rows |= {row.rule_id: row for row in changes.written}
        self.written = self.device.state

    def lost(self, back: int) -> None:
        """Redis is flushed; what was not committed comes again, to its end."""
        self.write()
        made = [change for change in self.device.changes if change.position is not None]
        self.device.state = self.written = rebuild(
            "u",
            "d",
            self.rows.values(),
            changed=[(change.position, change.time) for change in made if change.position],
            number=max((change.number for change in self.device.changes), default=0),
        )
        self.again(back, back)


def told(changes: list[Change], model: PlainModel) -> None:
    """The device's changes are the model's: the same, in the same order, under ids that belong together."""
    ids: dict[str, int] = {}
    assert len(changes) == len(model.told)
    for change, expected in zip(changes, model.told, strict=True):
        alert = expected[2]
        if alert is not None:
            assert ids.setdefault(change.alert_id, alert) == alert
        seen = [
            None if time is None else (time - EPOCH).total_seconds() - START
            for time in (change.first_seen, change.last_seen)
        ]
        reason = None if change.status == "SNOOZED" else change.reason
        rest = (change.count, *seen, change.value, reason, short(change.values), change.severity)
        rest += (change.by, change.note)
        if change.operator == "absent":
            # The model knows of an absence only since when it lasts.
            rest = (rest[0], rest[1], expected[5], *rest[3:])
        assert (change.status, change.rule_id, alert, *rest) == expected
    assert len(set(ids.values())) == len(ids)


def seen_by(state: DeviceState, model: PlainModel) -> None:
    """Each open alert has who has seen it, as the model has."""
    noted = {
        rule_id: (one.at_ms / 1000 - START, one.by, one.note)
        for rule_id, entry in state.entries.items()
        if (one := entry.acknowledged)
    }
    assert noted == {rule_id: story.seen for rule_id, story in model.stories.items() if story.seen}


def well_formed(changes: list[Change]) -> None:
    """Numbers without a gap; of each alert one TRIGGERED or FLAPPING, first, and at most one RESOLVED, last.

    One that was FLAPPING may be TRIGGERED once, later.

    Of one that is refused nothing else is ever said.
    """
    assert [change.number for change in changes] == list(range(1, len(changes) + 1))
    by_alert: dict[str, list[str]] = defaultdict(list)
    for change in changes:
        by_alert[change.alert_id].append(change.status)
    for statuses in by_alert.values():
        assert "REFUSED" not in statuses or len(statuses) == 1
        if {"TRIGGERED", "FLAPPING", "RESOLVED"} & {*statuses}:
            begins = "FLAPPING" if "FLAPPING" in statuses else "TRIGGERED"
            assert statuses[0] == begins
            assert statuses.count(begins) == 1
            assert statuses.count("TRIGGERED") <= 1
            assert statuses.count("RESOLVED") <= 1
            if "RESOLVED" in statuses:
                assert statuses[-1] == "RESOLVED"
    open_alerts: dict[str, str] = {}
    for change in changes:
        if change.status in {"TRIGGERED", "FLAPPING"}:
            open_alerts[change.rule_id] = change.alert_id
        elif change.status == "RESOLVED":
            assert open_alerts.pop(change.rule_id) == change.alert_id


def lives(*events: st.SearchStrategy[Event]) -> st.SearchStrategy[list[Event]]:
    """Short lives, which are easy to read when they fail, and long ones, in which things meet."""
    return st.lists(st.one_of(events), max_size=10) | st.lists(st.one_of(events), min_size=25, max_size=80)
