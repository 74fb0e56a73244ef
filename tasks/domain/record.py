"""The base of a domain's model, and what the marks of its fields say."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema

from tasks.domain.columns import FromAccessList, FromMessage, FromTopic
from tasks.domain.template import Template


def _stop_at_first_element(schema: Any) -> None:
    """Makes validation stop at the first wrong element of an array, which may have a hundred thousand."""
    if isinstance(schema, dict):
        if schema.get("type") == "list":
            schema["fail_fast"] = True
        for part in schema.values():
            _stop_at_first_element(part)


class Record(BaseModel):
    """Base of a domain's model. Null for an optional field means absent.

    Fields from the topic (`TopicLevel`, `Owner`) are neither validated nor part of the validated fields; nor
    is a `Fingerprint` validated.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: type[BaseModel], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """The schema of the payload's fields alone: the topic is parsed before the payload."""
        schema = handler(source)
        inner: Any = schema
        while inner["type"] != "model-fields":
            inner = inner["schema"]
        for name, info in cls.model_fields.items():
            if is_outside_payload(info):
                inner["fields"].pop(name, None)
        _stop_at_first_element(inner)
        return schema


RecordT = TypeVar("RecordT", bound=Record)


# How pydantic's own `model_construct` makes a model, without its look at each field.
_set_values = vars(BaseModel)["__dict__"].__set__
_set_given = vars(BaseModel)["__pydantic_fields_set__"].__set__
_set_extra = vars(BaseModel)["__pydantic_extra__"].__set__
_set_private = vars(BaseModel)["__pydantic_private__"].__set__


def record_of(record: type[RecordT], values: dict[str, Any], payload: Mapping[str, Any]) -> RecordT:
    """The record that validation makes of a payload, from its validated values.

    Only for a record whose validation does nothing besides, see `tasks.domain.schema`.
    """
    made = object.__new__(record)
    _set_values(made, values)
    _set_given(made, values.keys() & payload.keys())
    _set_extra(made, None)
    _set_private(made, None)
    return made


def levels_of(record: type[Record], templates: tuple[Template, ...], *, free: bool) -> tuple[str, ...]:
    """The fields from the topic, in its order. Raises `TypeError` if a template does not name them.

    `free` allows templates to name more.
    """
    declared = {name for name, info in record.model_fields.items() if _is(info, FromTopic)}
    for template in templates:
        named = set(template.names)
        if not declared <= named or (not free and named != declared):
            raise TypeError(f"the fields from the topic must be those in braces in {template.text}")
        if taken := (named - declared) & record.model_fields.keys():
            raise TypeError(f"{template.text} names {sorted(taken)}, which the payload's fields are called")
    return tuple(name for name in templates[0].names if name in declared)


def access_owner_of(record: type[Record], *, free: bool) -> str:
    """The field with the owner by the access lists; empty without one. Raises `TypeError`."""
    names = [name for name, info in record.model_fields.items() if _is(info, FromAccessList)]
    if len(names) > 1:
        raise TypeError(f"a record has one Owner, not {', '.join(names)}")
    if names and not free:
        raise TypeError(f"the field {names[0]} is an Owner, which needs a form")
    return names[0] if names else ""


def is_outside_payload(info: FieldInfo) -> bool:
    """Whether the field's value is from the topic, or made by Sluice."""
    return any(_is(info, kind) for kind in (FromTopic, FromMessage, FromAccessList))


def _is(info: FieldInfo, kind: type) -> bool:
    return any(isinstance(marker, kind) for marker in info.metadata)


def member_of(name: str, info: FieldInfo) -> str:
    """The name of the field in the payload. Raises `TypeError` for an invalid alias."""
    alias = name if info.validation_alias is None else info.validation_alias
    if not isinstance(alias, str):
        raise TypeError(f"the field {name} has an alias that is not a name")
    return alias
