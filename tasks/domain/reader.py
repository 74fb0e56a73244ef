"""Reads a payload by a domain's form: its readings, and the values of each for the record. Pure."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from tasks.domain.codecs import decode
from tasks.domain.columns import Column, time_text
from tasks.domain.form import MOST_READINGS, Form, Place
from tasks.domain.moments import When, implausible
from tasks.domain.payload import Limits, Refused
from tasks.domain.values import boolean, integral, is_absent, number
from tasks.text.paths import MISSING, Path, steps, walk
from tasks.text.wording import describe

_NUMBERS = {"bigint", "integer", "double precision", "numeric"}
_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(_NUMBERS, (int, float)),
    "boolean": (bool,),
    "text": (str,),
}


class Element(NamedTuple):
    """One reading of a message as it came: its own part, the whole payload, and keys that name it.

    The key of a value that the topic names is empty.
    """

    own: dict[str, Any]
    root: Any
    keys: dict[str, str]


class Values(NamedTuple):
    """The values of one reading.

    `fields` are by their member names, for the record to validate. `payload` is what rules see: the reading
    as it came, with the fields by their names.
    """

    fields: dict[str, Any]
    extra: dict[str, Any]
    payload: dict[str, Any]
    time: datetime  # UTC
    timed: bool  # whether it is the device's own


class _Field(NamedTuple):
    name: str
    member: str
    column: Column
    nullable: bool
    counts: bool  # whether a value of it makes a reading
    place: Place
    paths: tuple[tuple[bool, Path], ...]  # whether from the root, and the steps


class Reader:
    """A form, with the fields of a record: `(name, member, column, nullable, place)` each.

    `time` is the name of the field of the time, and `key` those of the primary key: neither alone makes a
    reading. `names` are the parts of the topic that are not fields; they go to the extra column.
    """

    def __init__(
        self,
        form: Form,
        fields: Iterable[tuple[str, str, Column, bool, Place]],
        *,
        time: str,
        key: tuple[str, ...],
    ) -> None:
        self.form = form
        self._nan = "nan" in form.absent
        self._each = _pattern(form.each)
        self._fields: list[_Field] = []
        self._times: tuple[tuple[When, bool, Path], ...] = ()
        self._time_member = time
        for name, member, column, nullable, place in fields:
            if name == time:
                self._time_member = member
                # A bare value has no time beside it.
                times = form.times or (() if "text" in form.encodings else (When(place.paths[0]),))
                self._times = tuple((when, *_steps(when.path)) for when in times)
                continue
            paths = tuple(_steps(path) for path in place.paths)
            # A value that the readings of a message share says nothing about one of them.
            counts = name not in key and not all(from_root for from_root, _ in paths)
            self._fields.append(_Field(name, member, column, nullable, counts, place, paths))
        self._extras = None
        if form.extras is not None:
            self._extras = {name: _steps(path) for name, path in form.extras.items()}

    @property
    def labels(self) -> dict[str, str]:
        """The path of each field by its member, to name it in a reason."""
        return {one.member: one.place.paths[0].lstrip("/") for one in self._fields}

    def elements(
        self, payload: bytes, names: Mapping[str, str], limits: Limits, content_type: str = ""
    ) -> list[Element | Refused]:
        """The readings in a payload, in its order, or why one is none. Raises `Refused` for the payload."""
        form = self.form
        if not payload.strip() and "" in form.absent:
            return []
        value = decode(
            payload,
            form.encodings,
            limits,
            content_type=content_type,
            nan=self._nan,
            comma=form.decimal_comma,
            raw_text=form.unpack is not None,
        )
        if is_absent(value, form.absent):
            return []
        return self._found(value, names)

    def values(
        self, element: Element, all_names: Mapping[str, str], names: Mapping[str, str], arrival: datetime
    ) -> Values | None:
        """The values of a reading; None if it holds none. Raises `Refused`.

        `names` are those of the topic's parts that are not fields.
        """
        taken: list[Path] = []
        time, device_time = self._time(element, arrival, taken)
        fields: dict[str, Any] = {}
        counts = False
        for one in self._fields:
            value = element.keys.get(one.name, MISSING)
            if value is MISSING:
                value = self._value(one, element, taken)
            if value is not MISSING:
                counts = counts or (one.counts and value is not None and value is not one.place.default)
                fields[one.member] = value
        if time is not None:
            fields[self._time_member] = time_text(time)
        extra = {key: value for key, value in self._extra(element, taken).items() if value is not None}
        if not counts and not _holds(extra, self.form.absent):
            return None
        extra |= {name: text for name, text in names.items() if name not in extra}
        if device_time is not None:
            extra["device_time"] = device_time
        payload = element.own | {one.name: fields.get(one.member) for one in self._fields}
        if "value" in payload and self.form.value.startswith("{"):
            # So that rules can name one of the values that a source sends on topics of their own.
            payload[self._value_name(all_names)] = payload["value"]
        return Values(fields, extra, payload, time or arrival, time is not None)

    def _found(self, value: Any, names: Mapping[str, str]) -> list[Element | Refused]:
        found: list[tuple[Any, dict[str, str]]] = [(value, {})]
        if self.form.unpack is not None:
            found = [(one, {}) for one in self._unpacked(value, names)]
        for step in self._each:
            found = [pair for one, keys in found for pair in _children(one, keys, step)]
        if len(found) > MOST_READINGS:
            raise Refused(
                "TooLarge", f"the payload holds {len(found)} readings; at most {MOST_READINGS} are allowed"
            )
        return [self._element(one, value, keys, names) for one, keys in found]

    def _unpacked(self, value: Any, names: Mapping[str, str]) -> list[Any]:
        assert self.form.unpack is not None
        try:
            return list(self.form.unpack(value, names))
        except Refused:
            raise
        except ValueError as error:
            raise Refused("InvalidField", f"the payload {error}") from None
        except Exception as error:  # noqa: BLE001 - the payload may be of any form, and the function a user's
            reason = f"the payload is not of the declared form ({type(error).__name__}: {error})"
            raise Refused("InvalidField", reason) from None

    def _element(
        self, own: Any, root: Any, keys: dict[str, str], names: Mapping[str, str]
    ) -> Element | Refused:
        if isinstance(own, dict):
            if own.keys() == {"value", "unit"} and "text" in self.form.encodings:
                return Element({self._value_name(names): own["value"], "unit": own["unit"]}, root, keys)
            if "value" in own and self.form.value.startswith("{"):
                keys = {**keys, "": self._value_name(names)}
            return Element(own, root, keys)
        if "text" in self.form.encodings and not isinstance(own, list):
            return Element({self._value_name(names): own}, root, keys)
        return Refused("NotAnObject", f"a reading must be a JSON object, got {describe(own)}")

    def _value_name(self, names: Mapping[str, str]) -> str:
        name = self.form.value
        return names.get(name[1:-1], name) if name.startswith("{") else name

    def _time(self, element: Element, arrival: datetime, taken: list[Path]) -> tuple[datetime | None, Any]:
        """The device's time, and its text if it is not plausible and the arrival counts."""
        for when, from_root, path in self._times:
            value = walk(element.root if from_root else element.own, path)
            if value is MISSING:
                continue
            if not from_root:
                taken.append(path)
            if is_absent(value, self.form.absent):
                continue
            time = when.read(value, arrival, self.form.clock)
            if self.form.clock.holds(time, arrival):
                return time, None
            if self.form.clock.outside == "refuse":
                raise implausible(time, arrival, when.path)
            return None, value
        return None, None

    def _value(self, one: _Field, element: Element, taken: list[Path]) -> Any:
        """The value of a field; `MISSING` where it is required and has none."""
        present = False
        for from_root, path in one.paths:
            raw = walk(element.root if from_root else element.own, path)
            if raw is MISSING:
                continue
            present = True
            keep = (taken.append, path) if not from_root else None
            structured = one.column.element is not None or one.column.sql_type == "jsonb"
            if is_absent(raw, frozenset() if structured else self.form.absent):
                _note(keep)
                continue
            value = self._converted(raw, one)
            if one.place.keep_others and not _fits(value, one.column):
                continue
            _note(keep)
            return value
        if one.nullable or one.place.default is not None:
            return one.place.default
        return None if present else MISSING

    def _converted(self, raw: Any, one: _Field) -> Any:
        sql_type = one.column.sql_type
        if sql_type == "boolean":
            return boolean(raw, one.place.true, one.place.false)
        if sql_type not in _NUMBERS:
            return raw
        if isinstance(raw, str) and self.form.numbers != "strict":
            read = number(raw, comma=self.form.decimal_comma, unit=self.form.numbers == "unit")
            if read is not None and sql_type == "numeric":
                return raw.strip().removesuffix(read[1]).strip().replace(",", ".")
            raw = raw if read is None else read[0]
        if sql_type in {"bigint", "integer"} and (whole := integral(raw)) is not None:
            return whole
        return raw

    def _extra(self, element: Element, taken: list[Path]) -> dict[str, Any]:
        if self._extras is None:
            return without(element.own, taken)
        found: dict[str, Any] = {}
        for name, (from_root, path) in self._extras.items():
            value = walk(element.root if from_root else element.own, path)
            if value is not MISSING:
                found[name] = value
        return found


def pick(value: Any, path: str) -> Any:
    """The value at a dotted path, `rx.0.rssi`; None if there is none."""
    found = walk(value, _steps(path)[1])
    return None if found is MISSING else found


def without(payload: dict[str, Any], taken: list[Path]) -> dict[str, Any]:
    """The payload without the values at these paths, and without objects that are empty by that.

    Values in an array stay, because the places of their neighbours would change.
    """
    rest = payload.copy()
    for path in taken:
        _remove(rest, path)
    return rest


def _remove(rest: dict[str, Any], path: Path) -> None:
    key = str(path[0])
    if len(path) == 1:
        rest.pop(key, None)
    elif isinstance(inner := rest.get(key), dict):
        rest[key] = inner = inner.copy()
        _remove(inner, path[1:])
        if not inner:
            del rest[key]


def _note(keep: tuple[Callable[[Path], None], Path] | None) -> None:
    if keep is not None:
        keep[0](keep[1])


def _fits(value: Any, column: Column) -> bool:
    kinds = _KINDS.get(column.sql_type)
    if kinds is None:
        return True
    if isinstance(value, bool) and bool not in kinds:
        return False
    return isinstance(value, kinds) and not (
        column.sql_type in {"bigint", "integer"} and not isinstance(value, int)
    )


def _holds(extra: Any, absent: frozenset[str]) -> bool:
    """Whether there is any value in it."""
    waiting = [extra]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
        elif not is_absent(one, absent):
            return True
    return False


def _steps(path: str) -> tuple[bool, Path]:
    from_root, text = path.startswith("/"), path.removeprefix("/")
    return from_root, steps(text) or (text,)


def _pattern(each: str) -> tuple[str, ...]:
    return tuple(each.split(".")) if each else ()


def _children(value: Any, keys: dict[str, str], step: str) -> list[tuple[Any, dict[str, str]]]:
    if step == "*":
        if isinstance(value, list):
            return [(one, keys) for one in value]
        # One reading in the place of an array of them is common.
        return [(value, keys)] if isinstance(value, dict) else _refuse(value, "an array")
    if step.startswith("{"):
        if not isinstance(value, dict):
            return _refuse(value, "an object")
        return [(one, {**keys, step[1:-1]: key}) for key, one in value.items()]
    if not isinstance(value, dict):
        return _refuse(value, f"an object with `{step}`")
    found = value.get(step, MISSING)
    return [] if found is MISSING or found is None else [(found, keys)]


def _refuse(value: Any, expected: str) -> list[tuple[Any, dict[str, str]]]:
    raise Refused(
        "InvalidField", f"where the readings are declared, there must be {expected}, got {describe(value)}"
    )
