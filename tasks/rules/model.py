"""One alert rule as a user writes it: the fields, what each may be, and which of them go together.

The database checks types, lengths, ranges and operators, too, by `sql/0098_rules_check.always.sql`, which
`ingest.admin.rulesets.rules_check` generates from this model.
"""

import re
from typing import Annotated, Any, Literal, TypeAlias, cast, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema

Number: TypeAlias = int | float
Scalar: TypeAlias = bool | int | float | str
Threshold: TypeAlias = Scalar | list[Scalar]
Operator = Literal[">", "<", ">=", "<=", "==", "!=", "in", "unchanged", "absent"]
Judging = Literal[Operator, "check"]
Measure = Literal["delta", "rate"]
Fault = dict[Literal["path", "message"], str]

MAX_RULES = 100
MAX_SECONDS = 30 * 86_400
BEYOND_NUMBERS = 2**63
DEFAULT_SEVERITY = "warning"
# The rule_id of a rule without an `id` about the absence of the whole device.
DEVICE_ABSENT = "absent"
# How the `rule_id` of the operator's rules begins, and no other.
FOR_EVERYONE = "operator:"
MIN_ABSENT_SECONDS = 1
# How deep conditions may be nested, and how many comparisons a rule may have.
MAX_DEPTH = 3
MAX_COMPARISONS = 16
MAX_LISTED = 100
MAX_TEXT = 256
MAX_OVERRIDES = 1000
OVERRIDABLE = ("threshold", "clear_threshold", "for_seconds", "severity", "escalate")
# By how many steps the severity of one alert may rise.
MAX_STEPS = 4
MAX_READINGS = 1000
# Of `flapping`: how many changes are counted, and over how many minutes.
MIN_CHANGES, MAX_CHANGES = 2, 50
MAX_FLAPPING_MINUTES = 1440
# Keys of all rules of a user whose values are remembered from reading to reading.
MAX_REMEMBERED = 32
# More fields than a rule has: each unknown one is compared with all known ones.
MAX_FIELDS = 32
ORDERING = (">", "<", ">=", "<=")
GROUPS = ("all", "any")
# Fields of a single comparison, which a group must not have.
OF_ONE = ("key", "operator", "threshold", "clear_threshold", "threshold_key", "change")
# Fields that a rule with the operator `absent` or `unchanged` must not have.
NOT_FOR_ABSENT = ("threshold", "clear_threshold", "threshold_key", "change", "for_readings")
NOT_FOR_UNCHANGED = ("threshold", "clear_threshold", "threshold_key", "change")

_DOMAIN = re.compile(r"[a-z][a-z0-9_]{0,31}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")
EXPECTED = {
    "id": "a string of 1 to 128 characters, not blank and without control characters, which does not begin"
    " with `operator:`",
    "key": 'the path of a value, such as "temperature" or "motor.phases.0", of 1 to 256 characters',
    "operator": "one of " + ", ".join(get_args(Operator)),
    "threshold": "a finite number (of at most 64 bits); for == and != also a string or a boolean; for in an"
    " array of them",
    "threshold_key": "the path of the value to compare with, as `key`",
    "change": "one of " + ", ".join(get_args(Measure)),
    "all": f"an array of 1 to {MAX_COMPARISONS} conditions",
    "any": f"an array of 1 to {MAX_COMPARISONS} conditions",
    "message": "a string of 1 to 500 characters that says what is wrong",
    "severity": 'a string of 1 to 32 characters, such as "critical"',
    "escalate": f"an array of 1 to {MAX_STEPS} steps, each an object of severity and threshold",
    "for_seconds": f"a number of seconds from 0 to {MAX_SECONDS} (30 days)",
    "for_readings": f"a whole number from 1 to {MAX_READINGS}",
    "flapping": 'an object of changes and minutes, such as {"changes": 4, "minutes": 10}',
    "clear_threshold": "a finite number (of at most 64 bits)",
    "devices": 'the id of a device, a pattern such as "freezer-*", a group such as "@cold-room", or an array'
    f" of 1 to {MAX_LISTED} of them",
    "overrides": f"an object of at most {MAX_OVERRIDES} devices, patterns or groups, each with fields of its"
    " own",
    "domain": 'the name of a domain, such as "telemetry"',
}


def _number(value: Any) -> Number:
    # A float beyond 64 bits would come back from the database as an integer of any size.
    if type(value) in {int, float} and -BEYOND_NUMBERS <= value < BEYOND_NUMBERS:
        return cast("Number", value)
    raise ValueError


def _threshold(value: Any) -> Threshold:
    if type(value) is list and 1 <= len(value) <= MAX_LISTED:
        return [_scalar(one) for one in value]
    return _scalar(value)


def _scalar(value: Any) -> Scalar:
    if type(value) is bool:
        return value
    if type(value) is str and len(value) <= MAX_TEXT and not _UNSTORABLE.search(value):
        return value
    return _number(value)


def _devices(value: Any) -> str | list[str]:
    if type(value) is list and 1 <= len(value) <= MAX_LISTED:
        return [_pattern(one) for one in value]
    return _pattern(value)


def _pattern(value: Any) -> str:
    if type(value) is str and 1 <= len(value) <= 128:
        return _name(value)
    raise ValueError


def _name(text: str) -> str:
    if _CONTROL.search(text) or text.isspace():
        raise ValueError
    return text


def prose(text: str) -> str:
    """The text, unless it is blank or cannot be stored. Raises `ValueError`."""
    if _UNSTORABLE.search(text) or text.isspace():
        raise ValueError
    return text


def _domain(text: str) -> str:
    if not _DOMAIN.fullmatch(text):
        raise ValueError
    return text


_NUMBER = {"type": "number", "minimum": -BEYOND_NUMBERS, "exclusiveMaximum": BEYOND_NUMBERS}
_SCALARS = [_NUMBER, {"type": "string", "maxLength": MAX_TEXT}, {"type": "boolean"}]
_LIST = {"type": "array", "minItems": 1, "maxItems": MAX_LISTED, "items": {"anyOf": _SCALARS}}
_Number = Annotated[Number, PlainValidator(_number), WithJsonSchema(_NUMBER)]
_Threshold = Annotated[Threshold, PlainValidator(_threshold), WithJsonSchema({"anyOf": [*_SCALARS, _LIST]})]
_PATTERN = {"type": "string", "minLength": 1, "maxLength": 128}
_PATTERNS = {"type": "array", "minItems": 1, "maxItems": MAX_LISTED, "items": {"anyOf": [_PATTERN]}}
_Devices = Annotated[
    str | list[str], PlainValidator(_devices), WithJsonSchema({"anyOf": [_PATTERN, _PATTERNS]})
]
_Key = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_name)]
_Severity = Annotated[str, Field(min_length=1, max_length=32), AfterValidator(_name)]
_Seconds = Annotated[float, Field(ge=0, le=MAX_SECONDS, allow_inf_nan=False)]
_Group = Annotated[list["Condition"], Field(min_length=1, max_length=MAX_COMPARISONS)]


class Condition(BaseModel):
    """One comparison, or a group of conditions."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    key: _Key | None = Field(
        None,
        description="Path of the value to compare. A dot leads into an object or, with a number, into"
        " an array; a name with dots stands in double quotes. `absent` without a key is about the whole"
        " device.",
    )
    operator: Operator | None = Field(
        None, description="How the value is compared with `threshold`; see the operators."
    )
    threshold: _Threshold | None = Field(None, description="The limit of the value.")
    clear_threshold: _Number | None = Field(
        None,
        description="The value must pass this before an open alert is resolved, so that a value near the"
        " threshold does not flap; by default `threshold`.",
    )
    threshold_key: _Key | None = Field(
        None, description="Path of a value of the same reading, to compare with in place of `threshold`."
    )
    change: Measure | None = Field(
        None,
        description="Compares the change since the reading before: `delta` is the difference, `rate` the"
        " difference per minute. The first reading has no change.",
    )
    all: _Group | None = Field(
        None, description="Conditions that must all hold, in the place of `key` and `operator`."
    )
    any: _Group | None = Field(None, description="Conditions of which one must hold, likewise.")


class Step(BaseModel):
    """A severity to which an open alert rises, and beyond which value."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    severity: _Severity
    threshold: _Number


class Flapping(BaseModel):
    """How many changes of an alert within how many minutes are published as one."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    changes: int = Field(ge=MIN_CHANGES, le=MAX_CHANGES)
    minutes: float = Field(gt=0, le=MAX_FLAPPING_MINUTES, allow_inf_nan=False)


EXPECTED_OF_FLAPPING = {
    "changes": f"a whole number from {MIN_CHANGES} to {MAX_CHANGES}",
    "minutes": f"a number of minutes above 0, up to {MAX_FLAPPING_MINUTES} (a day)",
}

_Steps = Annotated[list[Step], Field(min_length=1, max_length=MAX_STEPS)]


class Override(BaseModel):
    """The values that a rule overrides for some devices."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    threshold: _Threshold | None = None
    clear_threshold: _Number | None = None
    severity: _Severity | None = None
    escalate: _Steps | None = None
    for_seconds: _Seconds | None = None


_Overrides = Annotated[
    dict[Annotated[str, AfterValidator(_pattern)], Override], Field(max_length=MAX_OVERRIDES)
]


class Rule(Condition):
    """One rule, as the user wrote it. Made by `parse_rules`, which also checks its fields together."""

    id: Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_name)] | None = Field(
        None,
        description="Name of the rule in alerts and commands; by default its `key`. A rule with `all` or"
        " `any` must have one.",
    )
    message: Annotated[str, Field(min_length=1, max_length=500), AfterValidator(prose)] = Field(
        description="The text of the alert."
    )
    severity: _Severity = Field(
        DEFAULT_SEVERITY, description="A word of the user's own, which the alert repeats."
    )
    escalate: _Steps | None = Field(
        None,
        description="Higher severities, each with the `threshold` beyond which a value raises the alert to"
        " it. Each threshold lies beyond the one before. An alert keeps its highest severity to its end.",
    )
    for_seconds: _Seconds = Field(
        0.0,
        description="How long the rule must be violated before it triggers, by the times of the readings; for"
        " `absent`, how long the silence must last.",
    )
    for_readings: int = Field(
        1,
        ge=1,
        le=MAX_READINGS,
        description="How many readings in a row must violate the rule before it triggers, besides"
        " `for_seconds`.",
    )
    flapping: Flapping | None = Field(
        None,
        description="An alert that would begin although it has changed (TRIGGERED, RESOLVED) at least"
        " `changes` times within `minutes` is published as one `FLAPPING`, and nothing more until it is calm."
        " By default every change is published.",
    )
    devices: _Devices | None = Field(
        None,
        description="The devices that the rule is about; by default all. `*` stands for any characters,"
        " `@NAME` for the devices of a [group](#groups-of-devices).",
    )
    overrides: _Overrides | None = Field(
        None,
        description="For single devices, patterns or groups, `threshold`, `clear_threshold`, `for_seconds`,"
        " `severity` or `escalate` of their own. A name counts before a group, a group before a pattern, a"
        " longer pattern before a shorter one.",
    )
    domain: Annotated[str, AfterValidator(_domain)] | None = Field(
        None, description="Domain of the readings; by default the first of `DOMAINS`."
    )

    @property
    def rule_id(self) -> str:
        """The name of the rule in alerts and commands."""
        return id_of(self.id, self.key)


def is_for_everyone(rule_id: str) -> bool:
    """Whether this is the name of a rule of the operator's."""
    return rule_id.startswith(FOR_EVERYONE)


def id_of(own: str | None, key: str | None) -> str:
    """The `rule_id` of a rule with this `id` and `key`."""
    return own or key or DEVICE_ABSENT
