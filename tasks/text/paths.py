"""Dotted paths into a payload: `motor.phases.0` is `payload["motor"]["phases"][0]`."""

import re
from typing import Any, Final

Path = tuple[str | int, ...]

MISSING: Final = object()
# Without leading zeros, so that it can stand for a key of digits as well.
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")


def steps(path: str) -> Path | None:
    """The steps of a dotted path; None for a path of one step, which needs no walk."""
    if "." not in path:
        return None
    return tuple(int(step) if _INDEX.fullmatch(step) else step for step in path.split("."))


def walk(payload: dict[str, Any], path: Path) -> Any:
    """The value at the end of the steps, or `MISSING`."""
    value: Any = payload
    for step in path:
        if isinstance(value, list):
            if not isinstance(step, int) or step >= len(value):
                return MISSING
            value = value[step]
        elif isinstance(value, dict):
            value = value.get(str(step), MISSING)
        else:
            return MISSING
    return value
