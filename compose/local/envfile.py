"""The file `env` of a stack: `KEY=VALUE` lines that a shell, a Procfile runner and pydantic read alike."""

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from compose.local.errors import StackError

# Names, by fingerprint, the values in this file that are servers of a local stack.
OWN = "SLUICE_OWN_SERVERS"

_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./~-]*\Z")
_KEY = re.compile(r"[A-Z][A-Z0-9_]*\Z")


def fingerprint(value: str) -> str:
    """A short digest that recognises a value of ours without repeating it."""
    return hashlib.sha256(value.encode()).hexdigest()[:16]


def own_values(*environments: Mapping[str, str]) -> frozenset[str]:
    """The fingerprints that these environments declare as servers of a local stack.

    An environment made by `. .local/env` is full of addresses, and none of them is the user's wish to
    have Sluice use a server of theirs.
    """
    return frozenset(mark for env in environments for mark in env.get(OWN, "").split(",") if mark)


def render(values: Mapping[str, str]) -> str:
    """The text of an env file.

    Raises `StackError` for a value that not all readers would read alike (quotes, line breaks, `\\`, `${`).
    """
    return "".join(f"{key}={_quote(key, value)}\n" for key, value in values.items())


def parse(lines: Iterable[str]) -> dict[str, str]:
    """The values of an env file that `render` wrote; `StackError` for a line it cannot have written."""
    values = {}
    for number, line in enumerate(lines, 1):
        text = line.rstrip("\n")
        if not text or text.startswith("#"):
            continue
        key, equals, value = text.partition("=")
        if not equals or not _KEY.match(key):
            raise StackError(f"line {number} of the env file is not KEY=VALUE")
        quoted = len(value) >= 2 and value[0] == value[-1] == "'"
        values[key] = value[1:-1] if quoted else value
    return values


def read(path: Path) -> dict[str, str]:
    """The values of the env file at `path`, none if there is no such file."""
    try:
        with path.open() as lines:
            return parse(lines)
    except FileNotFoundError:
        return {}


def write(path: Path, values: Mapping[str, str]) -> None:
    """Replaces the env file in one step, readable by its owner alone."""
    write_private(path, render(values))


def write_private(path: Path, text: str) -> None:
    """Writes `text` to `path` in one step, readable by its owner alone."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


def _quote(key: str, value: str) -> str:
    if not _KEY.match(key):
        raise StackError(f"{key!r} is not the name of an environment variable in capitals")
    if _PLAIN.match(value):
        return value
    if re.search(r"['\\\x00-\x1f\x7f]|\$\{", value):
        raise StackError(f"the value of {key} contains a quote, a backslash, '${{' or a control character")
    return f"'{value}'"
