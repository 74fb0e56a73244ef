"""Blocks and tables of the page."""

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ingest.cli.pages import table


def block(document: Any) -> str:
    """The document as JSON."""
    return f"```json\n{json.dumps(document, ensure_ascii=False, indent=2)}\n```\n"


def meanings(head: str, meaning: str, of: dict[str, str]) -> Iterator[str]:
    """A table of names and what they mean."""
    return table(f"{head} | {meaning}", ((f"`{name}`", text) for name, text in of.items()))


def fields(model: type[BaseModel], expected: dict[str, str]) -> Iterator[str]:
    """A table of the fields of a document, with the values that each takes."""
    rows = (
        (f"`{name}`", expected[name], _default(field), field.description or "")
        for name, field in model.model_fields.items()
    )
    return table("field | value | default | meaning", rows)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is None:
        return ""
    return f"`{json.dumps(field.default)}`" if type(field.default) is bool else f"`{field.default}`"
