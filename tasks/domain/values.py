"""Values as devices write them: what counts as absent, numbers in text, booleans as words. Pure."""

import re
from decimal import Decimal
from typing import Any

# Words of off-the-shelf firmware for "no value", in lower case. Null is always absent.
NO_VALUE = frozenset(
    ["", "nan", "-nan", "+nan", "inf", "-inf", "+inf", "none", "null", "unavailable", "unknown"]
)

LONGEST_NUMBER = 64
# A double has every integer up to here; beyond, its digits are not those that were sent.
EXACT = 2**53

# Possessive, so that the cost is linear in the length of the text.
_NUMBER = re.compile(r"([-+]?+(?:\d++(?:[.,]\d*+)?+|[.,]\d++)(?:[eE][-+]?+\d{1,3}+)?+)\s*+(.*+)", re.DOTALL)
_UNIT = re.compile(r"[^\W\d_](?:[^\W\d_]|[23/²³·^%°-]){0,11}|[%‰°℃℉Ω\"'](?:[^\W\d_]|[23/²³·^%°-]){0,11}")
_INTEGER = re.compile(r"[-+]?[0-9]+")


def is_absent(value: Any, words: frozenset[str]) -> bool:
    """Whether this stands for no value: null, and if there are words, one of them or an empty array."""
    if value is None:
        return True
    if not words:
        return False
    if isinstance(value, str):
        return len(value) <= LONGEST_NUMBER and value.strip().lower() in words
    # The text of a number that is none is among the words: nan, inf.
    return value == [] or (isinstance(value, float) and str(value) in words)


def number(text: str, *, comma: bool = False, unit: bool = False) -> tuple[int | float, str] | None:
    """The number in a text and its unit, empty without one; None if the text is not a number.

    Blanks around it do not count. `comma` allows a decimal comma besides the point.
    """
    if len(text) > LONGEST_NUMBER:
        return None
    found = _NUMBER.fullmatch(text.strip())
    if found is None or not text.isprintable():
        return None
    digits, behind = found[1], found[2]
    if (behind and not (unit and _UNIT.fullmatch(behind))) or ("," in digits and not comma):
        return None
    if not digits.isascii():
        return None
    if _INTEGER.fullmatch(digits):
        return int(digits), behind
    value = float(Decimal(digits.replace(",", ".")))
    return (value, behind) if value - value == 0 else None


def integral(value: Any) -> int | None:
    """The integer that a float such as 5922.0 stands for; None if it has a fraction or is not exact."""
    if type(value) is float and -EXACT <= value <= EXACT and value == int(value):
        return int(value)
    return None


def boolean(value: Any, true: frozenset[str], false: frozenset[str]) -> Any:
    """The boolean that a declared word stands for; any other value as it is."""
    if isinstance(value, str):
        word = value.strip()
        if word in true:
            return True
        if word in false:
            return False
    return value
