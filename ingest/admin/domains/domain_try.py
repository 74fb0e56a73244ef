"""Tries a domain on one message, without any server: its rows, or why it is refused."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_core import to_jsonable_python

from ingest.admin.errors import OperatorError
from tasks import registry
from tasks.domain.declaration import Reading
from tasks.domain.domain import AnyDomain, Domain
from tasks.domain.payload import Limits, Refused

_UNESCAPED = {"t": "\t", "n": "\n", "r": "\r", "\\": "\\"}


class Tried(NamedTuple):
    """The rows of a message, by their columns, and what was refused: `index`, `error_type`, `reason`."""

    rows: list[dict[str, Any]]
    ignored: bool
    refused: list[dict[str, Any]]


def load(file: str) -> AnyDomain:
    """The domain in a file or a module. Raises `OperatorError`, `InvalidDomains`."""
    if not file.endswith(".py"):
        return registry.load(file)[0]
    path = Path(file)
    spec = importlib.util.spec_from_file_location(f"sluice_try_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise OperatorError(f"There is no file {file}.")
    module = importlib.util.module_from_spec(spec)
    # Annotations are looked up in the module by its name.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise OperatorError(f"{file} cannot be loaded: {type(error).__name__}: {error}.") from error
    domain = getattr(module, "DOMAIN", None)
    if not isinstance(domain, Domain):
        raise OperatorError(f"{file} has no Domain by the name DOMAIN.")
    return domain


def attempt(
    domain: AnyDomain,
    topic: str,
    payload: bytes,
    arrival_ms: int,
    limits: Limits,
    content_type: str = "",
    owner: str = "",
) -> Tried:
    """The outcome of a message that arrives at `arrival_ms` since 1970."""
    try:
        found = domain.read(topic, payload, arrival_ms, limits, content_type=content_type, owner=owner)
    except Refused as refused:
        return Tried([], ignored=False, refused=[refusal(None, refused)])
    rows = [row_of(domain, topic, reading) for _, reading in found.readings]
    return Tried(rows, found.is_ignored, [refusal(index, refused) for index, refused in found.wrong])


def row_of(domain: AnyDomain, topic: str, reading: Reading[Any, Any]) -> dict[str, Any]:
    """The row of a reading as JSON, by its columns."""
    whole = domain.whole(topic, reading)
    row = {name: getattr(whole, name) for name in domain.columns if name != domain.extra}
    if domain.extra is not None:
        row[domain.extra] = json.loads(extra_of(reading))
    shown: dict[str, Any] = to_jsonable_python(row)
    return shown


def extra_of(reading: Reading[Any, Any]) -> str:
    """The JSON text of a reading's other members, of a domain that keeps them."""
    return _unescaped(reading.copy_line[:-1].rsplit(b"\t", 1)[1].decode())


def refusal(index: int | None, refused: Refused) -> dict[str, Any]:
    """A refusal as JSON, by the index of the reading; None for the whole message."""
    return {"index": index, "error_type": refused.error_type, "reason": refused.reason}


def _unescaped(text: str) -> str:
    """The inverse of the escapes of COPY's text format."""
    first, *others = text.split("\\")
    # An empty piece follows an escaped backslash, whose second half begins the next.
    parts, pending = [first], False
    for piece in others:
        if pending:
            parts.append(piece)
            pending = False
        elif piece:
            parts.append(_UNESCAPED.get(piece[0], piece[0]) + piece[1:])
        else:
            parts.append("\\")
            pending = True
    return "".join(parts)
