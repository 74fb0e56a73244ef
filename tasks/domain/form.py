"""How a domain's messages look when they are not one strict JSON object: declared once, beside the record.

A `Form` is given to the `Domain`; `at` gives a field its place in the payload. Without a form a message is
one JSON object whose members are the fields, as strict as the record says.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from pydantic import Field
from pydantic.fields import FieldInfo

from tasks.domain.codecs import ENCODINGS, Encoding
from tasks.domain.moments import Clock, When
from tasks.domain.presence import Presence
from tasks.domain.template import Template
from tasks.domain.values import NO_VALUE

# Readings that one message may hold: each costs a row, however few bytes it has in the message.
MOST_READINGS = 1000

Unpack = Callable[[Any, Mapping[str, str]], Iterable[Any]]


@dataclass(frozen=True, slots=True)
class Form:
    """The form of a domain's messages.

    - `encodings`: of the payload, the first where neither its content type nor its beginning decides.
    - `times`: where the time is, the first that is present; without one the arrival counts. By default the
      field of the time, as ISO 8601, and none for text. `clock` says which times are plausible.
    - `numbers`: `strict`, `text` (also in strings), or `unit` (also with a unit behind them).
      `decimal_comma` allows one in strings.
    - `absent`: words that stand for no value, in lower case. Null always does. With the default also NaN and
      infinities do. A reading that holds no value is ignored.
    - `each`: the path of the readings, where a message holds many: `*` stands for each element, and `{name}`
      for each member of an object, whose key becomes the field `name`. As in `*`, `metrics.*`, `{device}.*`.
    - `unpack`: a function for what no path describes: from the decoded payload, and what the topic names, to
      the readings, a dict each. The encoding `text` gives it the text; `scalar` makes a number of one. None
      of them means that the message is ignored; a `ValueError` refuses it with its words. It must depend on
      its arguments alone.
    - `value`: the name of a payload that is one bare value: a name, or `{name}` of a part of the topic.
    - `extras`: what the extra column keeps, by name and path; by default everything that no field has taken.
    - `ignored`: templates of neighbouring topics that hold no readings.
    - `presence`: topics whose messages say whether a device is there, such as its last will.

    Names of the topic that are not fields go to the extra column, without names that begin with `_`.

    Raises `TypeError` for what cannot be.
    """

    encodings: tuple[Encoding, ...] = ("json",)
    times: tuple[When, ...] = ()
    clock: Clock = field(default_factory=Clock)
    numbers: Literal["strict", "text", "unit"] = "strict"
    decimal_comma: bool = False
    absent: frozenset[str] = NO_VALUE
    each: str = ""
    unpack: Unpack | None = None
    value: str = "value"
    extras: Mapping[str, str] | None = None
    ignored: tuple[str, ...] = ()
    presence: tuple[Presence, ...] = ()
    templates: tuple[Template, ...] = field(
        default=(), init=False, repr=False, compare=False
    )  # of the ignored

    def __post_init__(self) -> None:
        if unknown := set(self.encodings) - set(ENCODINGS):
            raise TypeError(f"{sorted(unknown)} is not an encoding: {', '.join(ENCODINGS)}")
        if self.numbers not in {"strict", "text", "unit"}:
            raise TypeError(f"numbers must be strict, text or unit, not {self.numbers!r}")
        if self.each and self.unpack:
            raise TypeError("a form has either `each` or `unpack`")
        object.__setattr__(self, "templates", tuple(map(Template, self.ignored)))


class Place(NamedTuple):
    """Where the value of a field is, and how it is read."""

    paths: tuple[str, ...]
    default: Any = None
    true: frozenset[str] = frozenset()
    false: frozenset[str] = frozenset()
    keep_others: bool = False


def at(
    *paths: str,
    default: Any = None,
    true: Iterable[str] = (),
    false: Iterable[str] = (),
    keep_others: bool = False,
) -> Any:
    """A field whose value is at the first of these paths that has one.

    Paths begin at the reading, or with a `/` at the payload. `default` counts where there is no value. `true`
    and `false` are the words of a boolean. With `keep_others` a value of another kind than the column's stays
    in the extra column, instead of refusing the reading.
    """
    place = Place(paths, default, frozenset(true), frozenset(false), keep_others)
    return Field(json_schema_extra={"place": place})  # type: ignore[dict-item]  # pydantic only keeps it


def place_of(member: str, info: FieldInfo) -> Place:
    """The place of a field: as declared by `at`, or the member of its name."""
    extra = info.json_schema_extra
    place = extra.get("place") if isinstance(extra, dict) else None
    if not isinstance(place, Place):
        return Place((member,))
    return place if place.paths else place._replace(paths=(member,))
