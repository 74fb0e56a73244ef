"""One rule of a device, and what rules say of themselves, written a second time and plainly."""

from dataclasses import dataclass, field
from typing import Any

from tests.unit.tasks.rules.plain_conditions import VIOLATES, is_number, leaves


def is_plain(rule: dict[str, Any]) -> bool:
    """Whether it compares one number with a fixed one."""
    return is_number(rule.get("threshold")) and "change" not in rule


def shape(rule: dict[str, Any]) -> Any:
    """The parts that make two rules of one name the same one."""
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
    seen: tuple[float, str | None, str | None] | None = None  # an open alert: when, by whom, note

    def remembers(self) -> bool:
        """Whether anything is not in order."""
        return bool(self.run or self.disabled or self.alert is not None or self.silent_until is not None)

    def is_calm(self, rule: dict[str, Any], now: float) -> bool:
        """Whether nothing has changed for as long as the rule says."""
        return now - self.flips[-1] >= minutes(rule)
