"""What alerts must do, written a second time and plainly: lists of readings, no positions, no bytes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeGuard

Told = tuple[Any, ...]

VIOLATES: dict[str, Callable[[float, float], bool]] = {
    ">": lambda value, threshold: value > threshold,
    "<": lambda value, threshold: value < threshold,
    ">=": lambda value, threshold: not value < threshold,
    "<=": lambda value, threshold: not value > threshold,
    "==": lambda value, threshold: value == threshold,
    "!=": lambda value, threshold: value < threshold or value > threshold,
}
KINDS = {bool: "boolean", int: "number", float: "number", str: "text"}
ORDERING = {">", "<", ">=", "<="}
TEN_MINUTES = 600
DAY = 86_400
KEYS = 8


def is_number(value: Any) -> TypeGuard[float]:
    """As JSON sees it."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def kind(value: Any) -> str | None:
    """Of which type a value is; None if none can be compared with it."""
    return KINDS.get(type(value))


def equal(one: Any, other: Any) -> bool:
    """Also of one type."""
    return kind(one) == kind(other) and not one < other and not one > other


def leaves(rule: dict[str, Any]) -> list[dict[str, Any]]:
    """The comparisons of a condition."""
    inner = [leaf for name in ("all", "any") for one in rule.get(name, []) for leaf in leaves(one)]
    return inner or [rule]


def is_plain(rule: dict[str, Any]) -> bool:
    """Whether it compares one number with a fixed one."""
    return is_number(rule.get("threshold")) and "change" not in rule


def shape(rule: dict[str, Any]) -> Any:
    """What makes two rules of one name the same one."""
    groups = [(name, [shape(one) for one in rule[name]]) for name in ("all", "any") if name in rule]
    own = [rule.get(name) for name in ("key", "operator", "threshold_key", "change")]
    return groups or (own, is_plain(rule))


def limits(rule: dict[str, Any]) -> Any:
    """With what it compares."""
    return [(type(leaf.get("threshold")) is bool, leaf.get("threshold")) for leaf in leaves(rule)]


def minutes(rule: dict[str, Any]) -> float:
    """For how long changes count, in seconds; not at all where the rule says nothing."""
    return rule.get("flapping", {"minutes": 0})["minutes"] * 60  # type: ignore[no-any-return]


def highest(rule: dict[str, Any], known: str | None = None, value: Any = None) -> str:
    """The highest severity of a rule that is known, or that the value reaches."""
    found: str = rule.get("severity", "warning")
    for step in rule.get("escalate", ()):
        reached = value is not None and VIOLATES[rule["operator"]](value, step["threshold"])
        if reached or step["severity"] == known:
            found = step["severity"]
    return found


@dataclass
class Story:
    """One rule of the device. `about` is the rule as it was when it was last looked at."""

    about: dict[str, Any]
    run: list[tuple[float, Any, Any]] = field(default_factory=list)  # time, value, values of each violation
    began: float = 0  # when the run began
    alert: int | None = None
    silent_until: float | None = None
    woken: bool = False  # its snooze ended, and it is to be announced again
    disabled: bool = False
    commands: list[tuple[float, str]] = field(default_factory=list)
    severity: str = "warning"  # the highest of the run
    flips: list[float] = field(default_factory=list)  # when its alerts changed, as far as that counts
    flapping: bool = False
    over: bool = False  # of one that is flapping, whether it is not violated
    last: Any = None  # of one that is over, value and values

    def remembers(self) -> bool:
        """Whether anything is not in order."""
        return bool(self.run or self.disabled or self.alert is not None or self.silent_until is not None)

    def is_calm(self, rule: dict[str, Any], now: float) -> bool:
        """Whether nothing has changed for as long as the rule says."""
        return now - self.flips[-1] >= minutes(rule)


class PlainModel:
    """The same device, told as (status, rule_id, alert, count, first, last, value, reason, values, severity).

    Alerts are numbered in the order in which they are told; commands on no alert have the number None.
    """

    def __init__(self) -> None:
        self.rules: dict[str, dict[str, Any]] = {}
        self.stories: dict[str, Story] = {}
        self.offsets: set[int] = set()
        self.newest: tuple[float, float, float] | None = None  # judged, came, measured
        self.keys: list[int] = []
        self.before: dict[str, tuple[Any, float, float]] = {}  # by key: value, when, the same since when
        self.alerts = 0
        self.told: list[Told] = []

    def reading(
        self,
        offset: int,
        now: float,
        time: float,
        payload: dict[str, Any],
        key: int,
        *,
        redelivered: bool = False,
    ) -> None:
        """A record; one that came before is nothing."""
        if offset in self.offsets:
            return
        self.offsets.add(offset)
        late = self.late(now, time, key, redelivered=redelivered)
        if self.stories:
            self.look_at_rules(now)
        for rule_id, rule in self.rules.items():
            if rule.get("operator") == "absent":
                self.something_came(rule_id, rule, now, payload)
        if late:
            return
        if self.newest and abs((time - now) - (self.newest[2] - self.newest[1])) > DAY:
            self.wait_again(now, min(time, now))
        for rule_id, rule in sorted(self.rules.items(), key=lambda item: not is_plain(item[1])):
            if rule.get("operator") != "absent":
                self.judge(rule_id, rule, now, min(time, now), payload)
        self.remember(payload, min(time, now))
        if self.newest is None or (time <= now and time > self.newest[0]):
            self.keys = []
        self.keys = [*self.keys, key][-KEYS:]
        self.newest = (min(time, now), now, time)

    def late(self, now: float, time: float, key: int, *, redelivered: bool) -> bool:
        """Whether a reading is of before the newest, or is one that was judged."""
        if key in self.keys:
            return True
        if redelivered and self.newest is not None:
            judged, came, measured = self.newest
            if time < (measured if measured - came <= DAY else judged):
                return True
        if self.newest is None or time >= now or time >= self.newest[0]:
            return False
        return -DAY <= now - self.newest[1] <= TEN_MINUTES

    def wait_again(self, now: float, time: float) -> None:
        """The clock was set: no violation is known to have lasted, and nothing came before."""
        self.before = {}
        for story in self.stories.values():
            if story.about.get("operator") != "absent":
                story.flips = [time] if story.flapping else []
            if story.alert is None and story.run:
                story.run = []
                if not self.snoozed(story, now):
                    story.silent_until = None

    def remembered(self) -> bool:
        """Whether any rule is not in order."""
        return any(story.remembers() for story in self.stories.values())

    def compared(self, leaf: dict[str, Any], payload: dict[str, Any], time: float) -> Any:
        """The value that a comparison is about, None if there is none."""
        value, before = payload.get(leaf["key"]), self.before.get(leaf["key"])
        if "change" not in leaf:
            return value if kind(value) else None
        if before is None or not is_number(value) or not is_number(before[0]):
            return None
        if leaf["change"] == "delta":
            return value - before[0]
        return (
            (value - before[0]) * 60_000_000 / ((time - before[1]) * 1_000_000) if time > before[1] else None
        )

    def holds(self, rule: dict[str, Any], payload: dict[str, Any], time: float, name: str) -> bool | None:
        """Whether a condition holds by its thresholds of this name; None if nobody knows."""
        if "all" in rule or "any" in rule:
            every = [self.holds(one, payload, time, name) for one in rule.get("all", rule.get("any", []))]
            decisive = "any" in rule
            if decisive in every:
                return decisive
            return None if None in every else not decisive
        value = self.compared(rule, payload, time)
        return None if value is None else self.fits(rule, value, payload, name)

    def fits(self, rule: dict[str, Any], value: Any, payload: dict[str, Any], name: str) -> bool | None:
        """Whether a comparison holds of a value."""
        if rule["operator"] == "unchanged":
            before = self.before.get(rule["key"])
            return None if before is None else equal(value, before[0])
        if rule["operator"] == "in":
            alike = [one for one in rule["threshold"] if kind(one) == kind(value)]
            return any(equal(one, value) for one in alike) if alike else None
        limit: Any = payload.get(rule["threshold_key"]) if "threshold_key" in rule else rule["threshold"]
        if name in rule:
            limit = rule[name]
        if kind(limit) != kind(value) or (rule["operator"] in ORDERING and not is_number(value)):
            return None
        return VIOLATES[rule["operator"]](value, limit)

    def values(self, rule: dict[str, Any], payload: dict[str, Any], time: float) -> dict[str, Any]:
        """Everything that a condition compares."""
        found = {}
        for leaf in leaves(rule):
            name = f"{leaf['change']}({leaf['key']})" if "change" in leaf else leaf["key"]
            found[name] = self.compared(leaf, payload, time)
            if "threshold_key" in leaf:
                found[leaf["threshold_key"]] = payload.get(leaf["threshold_key"])
        return {name: value for name, value in found.items() if kind(value)}

    def remember(self, payload: dict[str, Any], time: float) -> None:
        """What the next reading may be compared with."""
        for key in self.forget_unasked():
            value = payload.get(key)
            if not kind(value):
                continue
            old = self.before.get(key)
            same = old is not None and equal(old[0], value) and time >= old[2]
            self.before[key] = (value, time, old[2] if old and same else time)

    def forget_unasked(self) -> set[str]:
        """The keys that rules compare with the reading before; of others nothing is remembered."""
        asked = {
            leaf["key"]
            for rule in self.rules.values()
            for leaf in leaves(rule)
            if "change" in leaf or leaf.get("operator") == "unchanged"
        }
        self.before = {key: one for key, one in self.before.items() if key in asked}
        return asked

    def judge(self, rule_id: str, rule: dict[str, Any], now: float, time: float, payload: Any) -> None:
        """A reading and a rule."""
        holds = self.holds(rule, payload, time, "threshold")
        if holds is None:
            return
        over = not holds and self.holds(rule, payload, time, "clear_threshold") is False
        group = "all" in rule or "any" in rule
        value = None if group else self.compared(rule, payload, time)
        values = self.values(rule, payload, time) if group or "threshold_key" in rule else None
        before = self.before.get(rule.get("key", ""))
        since = min(before[2], time) if before and rule.get("operator") == "unchanged" else time
        story = self.stories.setdefault(rule_id, Story(rule))
        if story.disabled:
            return
        snoozed = story.silent_until is not None and now < story.silent_until
        if story.alert is None:
            if not holds:
                story.run = []
            else:
                other = limits(story.about) != limits(rule)
                if other:
                    story.run = []
                # When the clock was set back, only the time counts anew.
                if not story.run or story.began > time:
                    story.began = since
                story.severity = highest(rule, story.severity if story.run else None, value)
                story.run.append((time, value, values))
                story.about = rule
            if not snoozed:
                story.silent_until = None
                long = holds and time - story.began >= rule.get("for_seconds", 0)
                if long and len(story.run) >= rule.get("for_readings", 1):
                    self.trigger(rule_id, story, at=time)
            return
        if story.flapping:
            self.flap(rule_id, story, rule, (holds, over), time, since, (value, values))
            return
        severe = highest(rule, story.severity)
        if over:
            story.severity = severe
            self.resolve(rule_id, story, snoozed, value, values=values, at=time)
            return
        if holds:
            story.severity = highest(rule, story.severity, value)
            story.run.append((time, value, values))
            story.about = rule
        if story.woken or (story.silent_until is not None and not snoozed):
            self.trigger(rule_id, story, "snooze_ended")
        elif holds and story.silent_until is None and story.severity != severe:
            self.tell("ESCALATED", rule_id, story)

    def clock(self, now: float, seen: dict[str, float], listening: float) -> None:
        """Snoozes that end, and silence; `seen` has the time of each key, and of the device under ""."""
        for rule_id, story in sorted(self.stories.items()):
            if story.woken or (story.silent_until is not None and now >= story.silent_until):
                if story.alert is not None:
                    self.trigger(rule_id, story, "snooze_ended")
                story.silent_until = None
        for rule_id, story in sorted(self.stories.items()):
            if self.lasted(story, self.rules.get(rule_id), now, listening):
                assert self.newest
                silent = now - self.newest[1] - max(0, listening - self.newest[1])
                self.trigger(rule_id, story, at=self.newest[0] + silent)
        for rule_id, story in sorted(self.stories.items()):
            rule = self.rules.get(rule_id)
            if rule is not None and shape(rule) == shape(story.about):
                self.calm(rule_id, story, rule, now, listening)
        if any(rule.get("operator") == "absent" for rule in self.rules.values()):
            self.look_at_rules(now)
        for rule_id, rule in self.rules.items():
            last = seen.get(rule.get("key", ""))
            if rule.get("operator") != "absent" or last is None:
                continue
            story = self.stories.setdefault(rule_id, Story(rule))
            if story.disabled:
                continue
            if story.alert is not None and not story.over:
                reason = "returned" if last > story.began else None
                if reason or now - last < rule["for_seconds"]:
                    self.came_back(rule_id, story, rule, now, None, reason)
            elif not self.snoozed(story, now) and now - max(last, listening) >= rule["for_seconds"]:
                story.run, story.began, story.severity = [(last, None, None)], last, highest(rule)
                story.about = rule
                if story.flapping:
                    self.turned(rule_id, story, rule, now, over=False)
                else:
                    self.trigger(rule_id, story, at=now)

    def calm(self, rule_id: str, story: Story, rule: dict[str, Any], now: float, listening: float) -> None:
        """The end of what flaps, and of what counts, by the clock: of readings by their own times."""
        if not story.flips or story.disabled or story.silent_until is not None:
            return
        if not story.flapping and (story.alert is not None or story.run):
            return
        if self.newest is None or rule.get("operator") == "absent":
            quiet = now - max(story.flips[-1], listening)
        else:
            silent = now - self.newest[1] - max(0, listening - self.newest[1])
            quiet = self.newest[0] + silent - story.flips[-1]
        if quiet < minutes(rule):
            return
        if story.flapping:
            story.severity = highest(rule, story.severity)
            self.settle(rule_id, story, now)
        story.flips = []

    def flap(
        self,
        rule_id: str,
        story: Story,
        rule: dict[str, Any],
        found: tuple[bool, bool],
        time: float,
        since: float,
        last: Any,
    ) -> None:
        """A reading of a rule whose alert flaps."""
        (holds, over), was_over, calm = found, story.over, story.is_calm(rule, time)
        if holds:
            if was_over:
                story.run, story.began, story.severity = [], since, highest(rule)
            story.severity = highest(rule, story.severity, last[0])
            story.run.append((time, *last))
            story.about = rule
        elif over and (calm or not was_over):
            story.last = last
        story.over = not holds and (over or was_over)
        if story.over != was_over:
            story.flips = [time]
        if calm:
            story.severity = highest(rule, story.severity)
            self.settle(rule_id, story, time)

    def turned(self, rule_id: str, story: Story, rule: dict[str, Any], now: float, *, over: bool) -> None:
        """An absence whose alert flaps begins, or ends."""
        calm = story.is_calm(rule, now)
        story.over, story.flips = over, [now]
        if calm:
            self.settle(rule_id, story, now)

    def came_back(
        self, rule_id: str, story: Story, rule: dict[str, Any], now: float, value: Any, reason: str | None
    ) -> None:
        """The end of an absence."""
        story.severity = highest(rule)
        if not story.flapping:
            self.resolve(rule_id, story, self.snoozed(story, now), value, reason, at=now)
        elif not story.over:
            story.last = (value, None)
            self.turned(rule_id, story, rule, now, over=True)

    def settle(self, rule_id: str, story: Story, now: float) -> None:
        """What flapped is calm: it goes on, or is over."""
        if story.over:
            self.resolve(rule_id, story, self.snoozed(story, now), story.last[0], "calm", story.last[1])
        else:
            self.tell("TRIGGERED", rule_id, story, reason="calm")
            story.flapping, story.flips = False, []

    def lasted(self, story: Story, rule: dict[str, Any] | None, now: float, listening: float) -> bool:
        """Whether a violation has lasted, though no further reading says so."""
        if rule is None or self.newest is None or story.alert is not None or not story.run:
            return False
        same = shape(rule) == shape(story.about) and limits(rule) == limits(story.about)
        if not same or story.disabled or story.silent_until is not None or not rule.get("for_seconds"):
            return False
        silent = max(0, now - max(self.newest[1], listening))
        lasted = self.newest[0] - story.began + silent >= rule["for_seconds"]
        if lasted and len(story.run) >= rule.get("for_readings", 1):
            story.about, story.severity = rule, highest(rule, story.severity)
            return True
        return False

    def something_came(self, rule_id: str, rule: dict[str, Any], now: float, payload: dict[str, Any]) -> None:
        """A record ends an absence that began before it."""
        story = self.stories.get(rule_id)
        if story is None or story.alert is None or ("key" in rule and payload.get(rule["key"]) is None):
            return
        if now > story.began:
            value = payload.get(rule["key"]) if "key" in rule else None
            number = value if is_number(value) else None
            self.came_back(rule_id, story, rule, now, number, "returned")

    def look_at_rules(self, now: float) -> None:
        """Ends what its rule no longer stands for, and forgets what no rule compares any more."""
        self.forget_unasked()
        for rule_id, story in sorted(self.stories.items()):
            rule = self.rules.get(rule_id)
            if rule is not None and shape(rule) == shape(story.about):
                continue
            reason = "rule_removed" if rule is None else "rule_changed"
            if story.alert is not None:
                value, values = story.last if story.over else story.run[-1][1:]
                self.resolve(rule_id, story, self.snoozed(story, now), value, reason, values)
            if rule is None:
                del self.stories[rule_id]
                continue
            story.run, story.about, story.flips = [], rule, []
            if not self.snoozed(story, now):
                story.silent_until = None

    def command(self, action: str, rule_id: str, now: float, seconds: float, name: str) -> bool:
        """A command; False if it is refused."""
        if rule_id not in self.rules:
            return False
        story = self.stories.setdefault(rule_id, Story(self.rules[rule_id]))
        if story.commands and (now < story.commands[-1][0] or name == story.commands[-1][1]):
            return True
        muted = story.silent_until is not None and not story.woken
        if action == "SNOOZE":
            if story.disabled:
                return False
            last = story.last if story.over else None
            story.silent_until, story.woken, story.flips = now + seconds, False, []
            self.tell("SNOOZED", rule_id, story, last)
            if story.over:
                value, values = story.last
                self.resolve(rule_id, story, snoozed=True, value=value, values=values)
            story.flapping = False
        elif action == "ACKNOWLEDGE":
            if story.alert is None:
                return False
            self.tell("ACKNOWLEDGED", rule_id, story, story.last if story.over else None)
        elif action == "DISABLE" and not story.disabled:
            self.tell("DISABLED", rule_id, story, story.last if story.over else None)
            story.disabled, story.alert, story.run = True, None, []
            story.flapping, story.over, story.flips = False, False, []
            story.silent_until, story.woken = None, False
        elif action == "ENABLE" and (story.disabled or muted):
            self.tell("ENABLED", rule_id, story)
            story.disabled, story.silent_until = False, None
            story.woken = story.alert is not None
        else:
            return True
        story.commands.append((now, name))
        return True

    def trigger(self, rule_id: str, story: Story, reason: str | None = None, at: float | None = None) -> None:
        """A new alert; `at` is the time of one that counts as a change."""
        self.alerts += 1
        story.alert, story.silent_until, story.woken = self.alerts, None, False
        flapping: dict[str, Any] | None = self.rules.get(rule_id, {}).get("flapping")
        if flapping and at is not None and len(story.flips) >= flapping["changes"]:
            story.flapping = at - story.flips[-flapping["changes"]] < minutes(self.rules[rule_id])
        story.flips = [] if story.flapping else story.flips
        self.changed(rule_id, story, at)
        self.tell("FLAPPING" if story.flapping else "TRIGGERED", rule_id, story, reason=reason)

    def resolve(
        self,
        rule_id: str,
        story: Story,
        snoozed: bool,
        value: Any,
        reason: str | None = None,
        values: Any = None,
        at: float | None = None,
    ) -> None:
        """The end of an alert; only a snooze goes on. `at` is the time of one that counts as a change."""
        self.tell("RESOLVED", rule_id, story, (value, values), reason)
        counts = at is not None and story.silent_until is None and not story.woken
        self.changed(rule_id, story, at if counts else None)
        story.flapping, story.over = False, False
        story.alert, story.run, story.woken = None, [], False
        if not snoozed:
            story.silent_until = None

    def changed(self, rule_id: str, story: Story, at: float | None) -> None:
        """An alert has begun or ended. As many changes are remembered as the rule counts."""
        limit = self.rules.get(rule_id, {}).get("flapping")
        story.flips = [*story.flips, at][-limit["changes"] :] if limit and at is not None else []

    def snoozed(self, story: Story, now: float) -> bool:
        """Whether nothing may trigger."""
        return story.silent_until is not None and now < story.silent_until

    def tell(
        self, status: str, rule_id: str, story: Story, last: Any = None, reason: str | None = None
    ) -> None:
        """One change; `last` has the value and the values, unless they are those of the run."""
        times = [time for time, _, _ in story.run]
        value, values = last or (story.run[-1][1:] if story.run else (None, None))
        first, latest = (story.began, max(times)) if times else (None, None)
        severity = story.severity if times else self.rules[rule_id].get("severity", "warning")
        self.told.append(
            (status, rule_id, story.alert, len(times), first, latest, value, reason, values, severity)
        )
