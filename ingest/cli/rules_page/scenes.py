"""The longer examples of the page of rules: several devices, groups, commands, rules of the operator's."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from ingest.admin.rulesets.rules_rehearsal import Life
from ingest.cli.pages import table
from tasks.rules.change import Change
from tasks.rules.commands import Origin, manage, parse_command
from tasks.rules.everyone import beside, named
from tasks.rules.machine import Observation, snoozes_ended
from tasks.rules.parsing import parse_rules
from tasks.rules.rule import RuleSet
from tasks.rules.state import to_us


class Event(NamedTuple):
    """An event of a device, seconds after the start: a reading, a command, or a look of the clock."""

    second: float
    device: str
    reading: dict[str, Any] | None = None
    command: dict[str, Any] | None = None


class Scene(NamedTuple):
    """Rules of a user and of the operator, and what happens to the user's devices.

    With `never_seen` the devices had an account at the start, and have sent nothing yet.
    """

    title: str
    rules: list[dict[str, Any]]
    events: tuple[Event, ...]
    operators: Sequence[dict[str, Any]] = ()
    groups: Mapping[str, Sequence[str]] = {}
    never_seen: bool = False


def _heard(key: str, *values: tuple[float, str, Any]) -> tuple[Event, ...]:
    return tuple(Event(second, device, {key: value}) for second, device, value in values)


SCENES = (
    Scene(
        "Some devices, by a pattern and by name, with limits of their own for one of them",
        [
            {
                "id": "warm",
                "key": "temperature",
                "operator": ">",
                "threshold": -15,
                "devices": ["freezer-*", "lab1"],
                "overrides": {"freezer-7": {"threshold": -40, "severity": "critical"}},
                "message": "too warm",
            }
        ],
        _heard(
            "temperature",
            *((0, "oven", 180), (0, "freezer-1", -18), (0, "freezer-7", -38), (10, "freezer-1", -12)),
            *((10, "lab1", 20), (20, "freezer-7", -45), (20, "freezer-1", -18)),
        ),
    ),
    Scene(
        "A rule about a group, which `sluice groups add ada cold-room freezer-1 freezer-2` has filled",
        [
            {
                "id": "cold",
                "key": "temperature",
                "operator": ">",
                "threshold": 8,
                "devices": "@cold-room",
                "overrides": {"@cold-room": {"for_seconds": 60}, "freezer-2": {"threshold": 4}},
                "message": "too warm",
            }
        ],
        _heard(
            "temperature",
            *((0, "oven", 180), (0, "freezer-1", 9), (0, "freezer-2", 5)),
            *((60, "freezer-1", 9), (60, "freezer-2", 3)),
        ),
        groups={"cold-room": ("freezer-1", "freezer-2")},
    ),
    Scene(
        "Commands: seen, silent for a while, and not judged until further notice",
        [{"key": "pressure", "operator": ">", "threshold": 6, "message": "the pressure is high"}],
        (
            Event(0, "boiler", {"pressure": 7}),
            Event(30, "boiler", command={"action": "ACKNOWLEDGE", "note": "on my way"}),
            Event(60, "boiler", command={"action": "SNOOZE", "duration_minutes": 10}),
            Event(90, "boiler", {"pressure": 7.5}),
            Event(661, "boiler"),
            Event(700, "boiler", command={"action": "DISABLE"}),
            Event(710, "boiler", {"pressure": 8}),
            Event(720, "boiler", command={"action": "ENABLE"}),
            Event(730, "boiler", {"pressure": 8}),
            Event(740, "boiler", {"pressure": 5}),
        ),
    ),
    Scene(
        "A rule of the operator's, imported by `sluice rules import + rules.json`, beside a user's own of the"
        " same name. Only the former cannot be disabled by the user",
        [{"id": "air", "key": "co2", "operator": ">", "threshold": 1000, "message": "open a window"}],
        (
            Event(0, "lab1", {"co2": 1200}),
            Event(10, "lab1", {"co2": 5500}),
            Event(20, "lab1", command={"rule_id": "operator:air", "action": "ACKNOWLEDGE"}),
            Event(30, "lab1", {"co2": 800}),
        ),
        operators=(
            {
                "id": "air",
                "key": "co2",
                "operator": ">",
                "threshold": 5000,
                "severity": "critical",
                "message": "leave the room",
            },
        ),
    ),
    Scene(
        "A device that was given an account and has never sent anything, with `ABSENT_NEVER_SEEN`",
        [
            {
                "id": "missing",
                "operator": "absent",
                "for_seconds": 300,
                "devices": ["lab1"],
                "message": "nothing for five minutes",
            }
        ],
        (Event(301, "lab1"), Event(900, "lab1", {"temperature": 20})),
        never_seen=True,
    ),
)


def told_of(scene: Scene, start: datetime, user_id: str) -> Iterator[tuple[Event, list[Change]]]:
    """Each event with the changes that it makes, as the state machine makes them."""
    operators = named(parse_rules(list(scene.operators)))
    groups = {name: frozenset(devices) for name, devices in scene.groups.items()}
    rules = beside(parse_rules(scene.rules), operators).with_groups(groups)
    lives: dict[str, _Life] = {}
    for number, event in enumerate(scene.events):
        life = lives.get(event.device)
        if life is None:
            since = start if scene.never_seen else None
            life = lives[event.device] = _Life(rules.of_device(event.device), user_id, event.device, since)
        before = len(life.changes)
        life.live(event, number, start + timedelta(seconds=event.second))
        yield event, life.changes[before:]


def command_of(scene: Scene, event: Event) -> dict[str, Any]:
    """The document of a command; it is about the scene's first rule unless it says otherwise."""
    (rule,) = parse_rules(scene.rules[:1]).rules
    return {"device_id": event.device, "rule_id": rule.rule_id, **(event.command or {})}


def scenes(start: datetime, user_id: str) -> Iterator[str]:
    """The part of the page."""
    yield "\n### Several devices, commands, and rules of the operator's"
    for scene in SCENES:
        yield f"\n{scene.title}:\n"
        rules = [*scene.rules, *scene.operators]
        yield "\n".join(f"```json\n{json.dumps(rule, indent=2)}\n```\n" for rule in rules)
        rows = (_row(event, changes) for event, changes in told_of(scene, start, user_id))
        yield from table("after | device | what happens | change", rows)


def _row(event: Event, changes: Sequence[Change]) -> tuple[str, ...]:
    said = event.reading or event.command
    happens = "nothing comes" if said is None else f"`{json.dumps(said)}`"
    told = ", ".join(f"{change.status} `{change.rule_id}`" for change in changes)
    return f"{event.second} s", f"`{event.device}`", happens, told


class _Life(Life):
    """A device that also gets commands. A device that was never seen counts as absent from `since` on."""

    def __init__(self, rules: RuleSet, user_id: str, device_id: str, since: datetime | None) -> None:
        super().__init__(rules, user_id, device_id)
        self._user_id, self._device_id = user_id, device_id
        if since is not None:
            self._seen_ms = to_us(since) // 1000

    def live(self, event: Event, number: int, time: datetime) -> None:
        at_ms = to_us(time) // 1000
        if event.reading is not None:
            self.hear(Observation(0, number, at_ms, time, number, event.reading))
            return
        self.wait(at_ms)
        self._state, changes = snoozes_ended(self._state, at_ms)
        self.changes += changes
        if event.command is not None:
            first = next(iter(self._rules.by_id))
            command = parse_command({"device_id": self._device_id, "rule_id": first, **event.command})
            origin = Origin(f"command-{number}", at_ms, self._user_id)
            self._state, changes = manage(self._state, self._rules, command, origin)
            self.changes += changes
