"""The fast way knows all of a declaration, or it is not used."""

import json
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, create_model, field_validator, model_validator

from ingest.admin.domains.domain_try import load
from tasks.domain import Bigint, Domain, Double, Form, Record, Text, Time, TopicLevel
from tasks.domain.fast import fast_way
from tasks.domain.payload import Limits, Refused
from tasks.telemetry import Telemetry
from tests.device_page import promises
from tests.payloads import written
from tests.unit.tasks.domain.ways import LIMITS, TOPIC, USUAL, assert_same, domain


class Base(Record):
    """The fields that every record here has."""

    user_id: TopicLevel
    device_id: TopicLevel
    time: Time | None = None


class WithValidator(Telemetry):
    """A validator of its own."""

    @field_validator("temperature")
    @classmethod
    def colder(cls, value: float | None) -> float | None:
        """Changes the value."""
        return None if value is None else value - 1


class WithModelValidator(Base):
    """A look at all fields."""

    sequence_id: Bigint

    @model_validator(mode="after")
    def odd(self) -> "WithModelValidator":
        """Refuses an even number."""
        if self.sequence_id % 2 == 0:
            raise ValueError("must be odd")
        return self


class WithPostInit(Base):
    """Work after validation."""

    sequence_id: Bigint

    def model_post_init(self, _context: Any) -> None:
        """Changes the value."""
        self.__dict__["sequence_id"] += 1


class WithConfig(Base, str_max_length=3):
    """A rule for all fields."""

    name: Text


FIELDS: dict[str, tuple[Any, Any, Any]] = {  # kind, default and a valid value of a field
    "least and most": (Annotated[Double, Field(ge=-50, lt=90)], ..., 1.5),
    "multiple": (Annotated[Bigint, Field(multiple_of=5)], ..., 5),
    "more than": (Annotated[Bigint, Field(gt=3)], ..., 5),
    "length": (Annotated[Text, Field(max_length=3)], ..., "abc"),
    "pattern": (Annotated[Text, Field(pattern="^a")], ..., "abc"),
    "default": (Bigint, 5, 6),
    "optional with a default": (Bigint | None, 5, 6),
    "required but nullable": (Bigint | None, ..., 6),
    "made by a function": (Bigint | None, Field(default_factory=lambda: None), 6),
    "alias": (Bigint, Field(validation_alias="value"), 6),
    "choice": (Literal["red", "green"], ..., "red"),
    "array": (list[Bigint], ..., [1]),
    "another time": (Time, ..., "2026-05-01T10:00:00Z"),
}


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_that_is_not_known_has_no_fast_way(name: str) -> None:
    """Not even for its valid values: what it does with others is left to the validator."""
    kind, default, value = FIELDS[name]
    fields: Any = {"field" if name == "alias" else "value": (kind, default)}
    of = domain(create_model("Made", __base__=Base, **fields))
    payload = written({"value": value})
    assert of.validate(TOPIC, payload, 0, LIMITS)
    assert fast_way(of)(TOPIC, payload, 0, LIMITS) is None
    assert fast_way(of)(TOPIC, b"{}", 0, LIMITS) is None


@pytest.mark.parametrize("record", [WithValidator, WithModelValidator, WithPostInit, WithConfig])
def test_a_record_that_is_not_known_has_no_fast_way(record: type[Record]) -> None:
    """A declaration that says more than the fast way knows is left to the validator."""
    of = domain(record)
    for document in (json.loads(USUAL), {"sequence_id": 2, "name": "longer"}):
        assert not assert_same(of, written(document))


def test_a_domain_with_a_form_has_no_fast_way() -> None:
    """Not even where its messages look like those of a domain without one."""
    assert fast_way(domain(Telemetry))(TOPIC, USUAL, 0, LIMITS) is not None
    assert fast_way(domain(Telemetry, form=Form()))(TOPIC, USUAL, 0, LIMITS) is None


@pytest.mark.parametrize("promise", promises(), ids=lambda one: f"{one.file} {one.payload[:30]!r}")
def test_no_example_has_a_fast_way(promise: Any) -> None:
    """Each has a form, by which alone its messages are read."""
    assert fast_way(load(promise.file))(promise.topic, promise.payload, 0, LIMITS) is None


class Stricter(Domain[Telemetry]):
    """A domain whose class refuses more."""

    def validate(self, topic: str, payload: bytes, timestamp_ms: int, limits: Limits) -> Any:
        """The same, without a battery."""
        if b"battery" in payload:
            raise Refused("InvalidField", "the battery is not wanted")
        return super().validate(topic, payload, timestamp_ms, limits)


def test_a_class_with_a_validation_of_its_own_has_no_fast_way() -> None:
    """A domain that overrides `validate` decides alone."""
    assert not assert_same(domain(Telemetry, Stricter), USUAL)
