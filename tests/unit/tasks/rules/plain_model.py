"""The laws of alerts, written a second time and plainly: lists of readings, no positions, no bytes."""

from typing import Any

from tests.unit.tasks.rules.plain_conditions import Before, is_number
from tests.unit.tasks.rules.plain_order import DAY, is_late
from tests.unit.tasks.rules.plain_story import Story, highest, is_plain, limits, minutes, shape

Told = tuple[Any, ...]

KEYS = 8


class PlainModel:
    """The same device, as (status, rule_id, alert, count, first, last, value, reason, values, severity,
    by, note).

    Alerts are numbered in the order in which they are told; commands on no alert have the number None.
    """

    def __init__(self) -> None:
        self.rules: dict[str, dict[str, Any]] = {}
        self.stories: dict[str, Story] = {}
        self.offsets: set[int] = set()
        self.newest: tuple[float, float, float] | None = None  # judged, came, measured
        self.keys: list[int] = []
        self.before = Before()
        self.alerts = 0
        self.by: str | None = None  # who has sent the command that is obeyed
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
        late = key in self.keys or is_late(self.newest, now, time, redelivered=redelivered)
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
        self.before.remember(payload, min(time, now), self.rules)
        if self.newest is None or (time <= now and time > self.newest[0]):
            self.keys = []
        self.keys = [*self.keys, key][-KEYS:]
        self.newest = (min(time, now), now, time)

    def wait_again(self, now: float, time: float) -> None:
        """The clock was set: no violation is known to have lasted, and nothing came before."""
        self.before.forget()
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

    def judge(self, rule_id: str, rule: dict[str, Any], now: float, time: float, payload: Any) -> None:
        """A reading and a rule."""
        holds = self.before.holds(rule, payload, time, "threshold")
        if holds is None:
            return
        over = not holds and self.before.holds(rule, payload, time, "clear_threshold") is False
        group = "all" in rule or "any" in rule
        value = None if group else self.before.compared(rule, payload, time)
        values = self.before.values(rule, payload, time) if group or "threshold_key" in rule else None
        since = self.before.same_since(rule, time)
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
                # When the clock was set back, only the time counts again.
                if not story.run or story.began > time:
                    story.began = since
                    story.run = [(time, *last) for _, *last in story.run]
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
        """An alert that flapped is calm: it goes on, or is over."""
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

    def notice_rules(self, now: float) -> None:
        """New rules, looked at at once: what none of them compares is forgotten."""
        self.before.forget_unasked(self.rules)
        self.look_at_rules(now)

    def look_at_rules(self, now: float) -> None:
        """Ends what its rule no longer stands for."""
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

    def command(
        self,
        action: str,
        rule_id: str,
        now: float,
        seconds: float,
        name: str,
        by: str = "anna",
        note: str | None = None,
    ) -> bool:
        """A command; False if it is refused."""
        self.by = by
        obeyed = self.obey(action, rule_id, now, seconds, name, note)
        self.by = None
        return obeyed

    def obey(
        self, action: str, rule_id: str, now: float, seconds: float, name: str, note: str | None
    ) -> bool:
        """The same, of one whose author is known."""
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
            story.seen = (now, self.by, note)
            self.tell("ACKNOWLEDGED", rule_id, story, story.last if story.over else None, note=note)
        elif action == "DISABLE" and not story.disabled:
            self.tell("DISABLED", rule_id, story, story.last if story.over else None)
            story.disabled, story.alert, story.run, story.seen = True, None, [], None
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
        story.alert, story.silent_until, story.woken, story.seen = self.alerts, None, False, None
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
        story.alert, story.run, story.woken, story.seen = None, [], False, None
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
        self,
        status: str,
        rule_id: str,
        story: Story,
        last: Any = None,
        reason: str | None = None,
        note: str | None = None,
    ) -> None:
        """One change; `last` has the value and the values, unless they are those of the run."""
        times = [time for time, _, _ in story.run]
        value, values = last or (story.run[-1][1:] if story.run else (None, None))
        first, latest = (story.began, max(times)) if times else (None, None)
        severity = story.severity if times else self.rules[rule_id].get("severity", "warning")
        run = (len(times), first, latest, value, reason, values, severity)
        self.told.append((status, rule_id, story.alert, *run, self.by, note))
