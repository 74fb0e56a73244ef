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
TEN_MINUTES = 600
DAY = 86_400
KEYS = 8


def is_number(value: Any) -> TypeGuard[float]:
    """As JSON sees it."""
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass
class Story:
    """One rule of the device. `about` is the rule as it was when it was last looked at."""

    about: dict[str, Any]
    run: list[tuple[float, float]] = field(default_factory=list)  # time and value of each violation
    alert: int | None = None
    silent_until: float | None = None
    woken: bool = False  # its snooze ended, and it is to be announced again
    disabled: bool = False
    commands: list[tuple[float, str]] = field(default_factory=list)

    def remembers(self) -> bool:
        """Whether anything is not in order."""
        return bool(self.run or self.disabled or self.alert is not None or self.silent_until is not None)


class PlainModel:
    """The same device, told as (status, rule_id, alert, count, first, last, value, reason).

    Alerts are numbered in the order in which they are told; commands on no alert have the number None.
    """

    def __init__(self) -> None:
        self.rules: dict[str, dict[str, Any]] = {}
        self.stories: dict[str, Story] = {}
        self.offsets: set[int] = set()
        self.newest: tuple[float, float, float] | None = None  # judged, came, measured
        self.keys: list[int] = []
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
            if rule["operator"] == "absent":
                self.something_came(rule_id, rule, now, payload)
        if late:
            return
        if self.newest and abs((time - now) - (self.newest[2] - self.newest[1])) > DAY:
            self.wait_again(now)
        for rule_id, rule in self.rules.items():
            value = payload.get(rule.get("key", ""))
            if rule["operator"] != "absent" and is_number(value):
                self.judge(rule_id, rule, now, min(time, now), value)
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

    def wait_again(self, now: float) -> None:
        """The clock was set: no violation is known to have lasted."""
        for story in self.stories.values():
            if story.alert is None and story.run:
                story.run = []
                if not self.snoozed(story, now):
                    story.silent_until = None

    def remembered(self) -> bool:
        """Whether any rule is not in order."""
        return any(story.remembers() for story in self.stories.values())

    def judge(self, rule_id: str, rule: dict[str, Any], now: float, time: float, value: float) -> None:
        """A value and its rule."""
        story = self.stories.setdefault(rule_id, Story(rule))
        if story.disabled:
            return
        violates = VIOLATES[rule["operator"]]
        snoozed = story.silent_until is not None and now < story.silent_until
        over = not violates(value, rule["threshold"])
        if story.alert is None:
            if over:
                story.run = []
            else:
                other = story.about["threshold"] != rule["threshold"]
                if story.run and (other or story.run[0][0] > time):
                    story.run = []
                story.run.append((time, value))
                story.about = rule
            if not snoozed:
                story.silent_until = None
                if not over and time - story.run[0][0] >= rule.get("for_seconds", 0):
                    self.trigger(rule_id, story)
            return
        clear = rule.get("clear_threshold", rule["threshold"])
        if over and not violates(value, clear):
            self.resolve(rule_id, story, snoozed, value)
            return
        if not over:
            story.run.append((time, value))
            story.about = rule
        if story.woken or (story.silent_until is not None and not snoozed):
            self.trigger(rule_id, story, "snooze_ended")

    def clock(self, now: float, seen: dict[str, float], listening: float) -> None:
        """Snoozes that end, and silence; `seen` has the time of each key, and of the device under ""."""
        for rule_id, story in sorted(self.stories.items()):
            if story.woken or (story.silent_until is not None and now >= story.silent_until):
                if story.alert is not None:
                    self.trigger(rule_id, story, "snooze_ended")
                story.silent_until = None
        if any(rule["operator"] == "absent" for rule in self.rules.values()):
            self.look_at_rules(now)
        for rule_id, rule in self.rules.items():
            last = seen.get(rule.get("key", ""))
            if rule["operator"] != "absent" or last is None:
                continue
            story = self.stories.setdefault(rule_id, Story(rule))
            if story.disabled:
                continue
            if story.alert is not None:
                if last > story.run[0][0]:
                    self.resolve(rule_id, story, self.snoozed(story, now), None, "returned")
                elif now - last < rule["for_seconds"]:
                    self.resolve(rule_id, story, self.snoozed(story, now), None)
            elif not self.snoozed(story, now) and now - max(last, listening) >= rule["for_seconds"]:
                story.run = [(last, float("nan"))]
                self.trigger(rule_id, story)

    def something_came(self, rule_id: str, rule: dict[str, Any], now: float, payload: dict[str, Any]) -> None:
        """A record ends an absence that began before it."""
        story = self.stories.get(rule_id)
        if story is None or story.alert is None or ("key" in rule and payload.get(rule["key"]) is None):
            return
        if now > story.run[0][0]:
            value = payload.get(rule["key"]) if "key" in rule else None
            number = value if is_number(value) else None
            self.resolve(rule_id, story, self.snoozed(story, now), number, "returned")

    def look_at_rules(self, now: float) -> None:
        """Ends what its rule no longer stands for."""
        for rule_id, story in sorted(self.stories.items()):
            rule = self.rules.get(rule_id)
            same = rule is not None and all(
                rule.get(name) == story.about.get(name) for name in ("key", "operator")
            )
            if same:
                continue
            reason = "rule_removed" if rule is None else "rule_changed"
            if story.alert is not None:
                value = story.run[-1][1]
                self.resolve(rule_id, story, self.snoozed(story, now), value, reason)
            if rule is None:
                del self.stories[rule_id]
                continue
            story.run, story.about = [], rule
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
            if story.disabled or (story.alert is None and not muted):
                return False
            story.silent_until, story.woken = now + seconds, False
            self.tell("SNOOZED", rule_id, story)
        elif action == "DISABLE" and not story.disabled:
            self.tell("DISABLED", rule_id, story)
            story.disabled, story.alert, story.run = True, None, []
            story.silent_until, story.woken = None, False
        elif action == "ENABLE" and (story.disabled or muted):
            self.tell("ENABLED", rule_id, story)
            story.disabled, story.silent_until = False, None
            story.woken = story.alert is not None
        else:
            return True
        story.commands.append((now, name))
        return True

    def trigger(self, rule_id: str, story: Story, reason: str | None = None) -> None:
        """A new alert."""
        self.alerts += 1
        story.alert, story.silent_until, story.woken = self.alerts, None, False
        self.tell("TRIGGERED", rule_id, story, reason=reason)

    def resolve(
        self, rule_id: str, story: Story, snoozed: bool, value: float | None, reason: str | None = None
    ) -> None:
        """The end of an alert; only a snooze goes on."""
        self.tell("RESOLVED", rule_id, story, value, reason)
        story.alert, story.run, story.woken = None, [], False
        if not snoozed:
            story.silent_until = None

    def snoozed(self, story: Story, now: float) -> bool:
        """Whether nothing may trigger."""
        return story.silent_until is not None and now < story.silent_until

    def tell(
        self, status: str, rule_id: str, story: Story, value: Any = "latest", reason: str | None = None
    ) -> None:
        """One change."""
        times = [time for time, _ in story.run]
        if value == "latest":
            value = story.run[-1][1] if story.run else None
        value = None if isinstance(value, float) and value != value else value  # noqa: PLR0124 - is it NaN?
        first, last = (times[0], max(times)) if times else (None, None)
        self.told.append((status, rule_id, story.alert, len(times), first, last, value, reason))
