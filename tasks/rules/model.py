"""One alert rule as a user writes it: the fields, what each may be, and which of them go together.

The database checks types, lengths, ranges and operators, too, by `sql/0098_rules_check.always.sql`, which
`ingest.admin.rules_check` generates from this model.
"""

import re
from typing import Annotated, Any, Literal, TypeAlias, cast, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema

Number: TypeAlias = int | float
Operator = Literal[">", "<", ">=", "<=", "==", "!=", "absent"]
Judging = Literal[Operator, "check"]
Fault = dict[Literal["path", "message"], str]

MAX_RULES = 100
MAX_SECONDS = 30 * 86_400
BEYOND_NUMBERS = 2**63
DEFAULT_SEVERITY = "warning"
# The rule_id of a rule without an `id` about the absence of the whole device.
DEVICE_ABSENT = "absent"
# Fields that a comparison must have, and a rule with the operator `absent` must not.
FOR_COMPARING = ("key", "threshold")
NOT_FOR_ABSENT = ("threshold", "clear_threshold")
MIN_ABSENT_SECONDS = 1

_DOMAIN = re.compile(r"[a-z][a-z0-9_]{0,31}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")
EXPECTED = {
    "id": "a string of 1 to 128 characters, not blank and without control characters",
    "key": 'the path of a value, such as "temperature" or "motor.phases.0", of 1 to 256 characters',
    "operator": "one of " + ", ".join(get_args(Operator)),
    "threshold": "a finite number (of at most 64 bits)",
    "message": "a string of 1 to 500 characters that says what is wrong",
    "severity": 'a string of 1 to 32 characters, such as "critical"',
    "for_seconds": f"a number of seconds from 0 to {MAX_SECONDS} (30 days)",
    "clear_threshold": "a finite number (of at most 64 bits)",
    "domain": 'the name of a domain, such as "telemetry"',
}


def _number(value: Any) -> Number:
    # A float beyond 64 bits would come back from the database as an integer of any size.
    if type(value) in {int, float} and -BEYOND_NUMBERS <= value < BEYOND_NUMBERS:
        return cast("Number", value)
    raise ValueError


def _name(text: str) -> str:
    if _CONTROL.search(text) or text.isspace():
        raise ValueError
    return text


def _prose(text: str) -> str:
    if _UNSTORABLE.search(text) or text.isspace():
        raise ValueError
    return text


def _domain(text: str) -> str:
    if not _DOMAIN.fullmatch(text):
        raise ValueError
    return text


_Number = Annotated[
    Number,
    PlainValidator(_number),
    WithJsonSchema({"type": "number", "minimum": -BEYOND_NUMBERS, "exclusiveMaximum": BEYOND_NUMBERS}),
]


class Rule(BaseModel):
    """One rule, as the user wrote it. Made by `parse_rules`, which also checks its fields together."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    id: Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_name)] | None = Field(
        None, description="Name of the rule in alerts and commands; by default its `key`."
    )
    key: Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_name)] | None = Field(
        None,
        description="Path of the value to compare. A dot leads into an object or, with a number, into"
        " an array; a name with dots stands in double quotes. `absent` without a key is about the whole"
        " device.",
    )
    operator: Operator = Field(description="How the value is compared with `threshold`; see the operators.")
    threshold: _Number | None = Field(None, description="The limit of the value.")
    message: Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_prose)] = Field(
        description="The text of the alert."
    )
    severity: Annotated[str, Field(min_length=1, max_length=32), AfterValidator(_name)] = Field(
        DEFAULT_SEVERITY, description="A word of the user's own, which the alert repeats."
    )
    for_seconds: float = Field(
        0.0,
        ge=0,
        le=MAX_SECONDS,
        allow_inf_nan=False,
        description="How long the rule must be violated before it triggers, by the times of the readings; for"
        " `absent`, how long the silence must last.",
    )
    clear_threshold: _Number | None = Field(
        None,
        description="The value must pass this before an open alert is resolved, so that a value near the"
        " threshold does not flap; by default `threshold`.",
    )
    domain: Annotated[str, AfterValidator(_domain)] | None = Field(
        None, description="Domain of the readings; by default the first of `DOMAINS`."
    )

    @property
    def rule_id(self) -> str:
        """The name of the rule in alerts and commands."""
        return id_of(self.id, self.key)


def id_of(own: str | None, key: str | None) -> str:
    """The `rule_id` of a rule with this `id` and `key`."""
    return own or key or DEVICE_ABSENT
