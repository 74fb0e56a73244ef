"""Dotted paths into a payload: `motor.phases.0` is `payload["motor"]["phases"][0]`.

A step in double quotes is one name, whatever it holds: `meter."1.8.0"` is `payload["meter"]["1.8.0"]`. Two
quotes in it stand for one.
"""

import re
from typing import Any, Final

Path = tuple[str | int, ...]

MISSING: Final = object()
# Without leading zeros, so that it can stand for a key of digits as well.
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
_QUOTED = re.compile(r'"((?:[^"]|"")*)"(?=\.|$)', re.DOTALL)


def steps(path: str) -> Path | None:
    """The steps of a dotted path; None for a path of one step, which needs no walk.

    Where the quotes do not fit, they count as parts of names.
    """
    if "." not in path and not path.startswith('"'):
        return None
    if '"' in path and (quoted := _quoted_steps(path)) is not None:
        return quoted
    return tuple(map(_step, path.split(".")))


def has_stray_quotes(path: str) -> bool:
    """Whether a step begins with a quote that does not enclose the whole step."""
    return (path.startswith('"') or '."' in path) and _quoted_steps(path) is None


def walk(payload: dict[str, Any], path: Path) -> Any:
    """The value at the end of the steps, or `MISSING`."""
    value: Any = payload
    for step in path:
        if isinstance(value, dict):
            value = value.get(step if isinstance(step, str) else str(step), MISSING)
        elif not isinstance(value, list) or isinstance(step, str) or step >= len(value):
            return MISSING
        else:
            value = value[step]
    return value


def _quoted_steps(path: str) -> Path | None:
    """The steps, some of them in quotes; None if a step begins with a quote that does not end it."""
    found: list[str | int] = []
    at = 0
    while at <= len(path):
        if path.startswith('"', at):
            quoted = _QUOTED.match(path, at)
            if quoted is None:
                return None
            found.append(quoted[1].replace('""', '"'))
            at = quoted.end() + 1
        else:
            name, _, _ = path[at:].partition(".")
            found.append(_step(name))
            at += len(name) + 1
    return tuple(found)


def _step(name: str) -> str | int:
    return int(name) if _INDEX.fullmatch(name) else name
