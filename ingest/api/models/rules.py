"""The answers of the routes of rules."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field


class Rules(BaseModel):
    """A user's rules as they are stored, and what is wrong with those that are not in force."""

    user_id: str
    rules: list[Any]
    updated_at: datetime | None
    faults: list[dict[str, Any]]
    operator_rules: list[dict[str, Any]] = Field(
        description="Those of the operator, in force for every user; their ids begin with `operator:`."
    )


class Fault(BaseModel):
    """A fault or a warning, with its place in the document."""

    path: str
    message: str


class RulesSet(BaseModel):
    """The user's rules are those of the document."""

    rules: int = Field(description="How many.")
    warnings: list[Fault] = Field(description="Rules that are accepted and can never fire, for example.")


class Firing(BaseModel):
    """One alert that a rule would have raised."""

    device_id: str
    begin: datetime
    end: datetime | None = Field(description="Null where it would be open still.")
    value: Any = Field(description="The value that triggered it; null for an absence.")
    flap: bool = Field(description="Whether it came within five minutes of the end of the one before.")
    flapping: bool = Field(description="Whether it began as FLAPPING: then only that change is published.")


class RehearsedRule(BaseModel):
    """How often a rule would have fired, and when."""

    rule_id: str
    fired: int
    flaps: int
    flapping: int
    seconds: float = Field(description="For how long its alerts would have been open, all together.")
    firings: list[Firing] = Field(description="The first of them, 100 at most.")


class Rehearsal(BaseModel):
    """The outcome of rules on stored readings. Nothing was changed and nobody was notified."""

    user_id: str
    begin: datetime = Field(serialization_alias="from")
    end: datetime = Field(serialization_alias="to")
    readings: int
    devices: int
    rules: list[RehearsedRule] = Field(description="Those that are about the domain.")
