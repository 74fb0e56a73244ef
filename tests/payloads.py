"""Generated telemetry: payloads that must be accepted, and places in them where a fault can be put."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st

DECLARED = ("sequence_id", "time", "temperature", "battery", "user_id", "device_id")
HOLE = "put the fault here"

INTEGERS_32 = st.integers(-(2**31), 2**31 - 1)
BIGINTS = st.integers(-(2**63), 2**63 - 1)
DOUBLES = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
INTEGERS = st.integers() | st.sampled_from([2**53 + 1, 2**63, 2**64, -(10**30), 10**4299, -(10**4299)])
SCALARS = st.none() | st.booleans() | INTEGERS | DOUBLES | TEXTS


def _nested(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(values, max_size=4) | st.dictionaries(TEXTS, values, max_size=4)


VALUES = st.recursive(SCALARS, _nested, max_leaves=12)
EXTRAS = st.dictionaries(TEXTS.filter(lambda key: key not in DECLARED), VALUES, max_size=6)
IDS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="+#/"), min_size=1, max_size=128
).filter(lambda text: not text.isspace())


@st.composite
def times(draw: st.DrawFn) -> tuple[str, datetime]:
    """A time as a device writes it, and the instant in UTC that it means."""
    instant = draw(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)))  # noqa: DTZ001
    offset = draw(st.just(0) | st.integers(-23 * 60 - 59, 23 * 60 + 59))
    text = instant.astimezone(timezone(timedelta(minutes=offset))).isoformat()
    if offset == 0:
        text = text[: -len("+00:00")] + draw(st.sampled_from(["Z", "z", "+00:00", "-00:00"]))
    return text.replace("T", draw(st.sampled_from(["T", "t", " "]))), instant


def written(document: Any, *, ascii_only: bool = False) -> bytes:
    """The document as JSON."""
    return json.dumps(document, ensure_ascii=ascii_only).encode()


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Payloads that must be accepted, with every mixture of optional fields and their nulls."""
    document = {"sequence_id": draw(BIGINTS), **draw(EXTRAS)}
    optional: dict[str, st.SearchStrategy[Any]] = {
        "time": st.none() | times().map(lambda pair: pair[0]),
        "temperature": st.none() | DOUBLES | BIGINTS,
        "battery": st.none() | INTEGERS_32 | INTEGERS_32.map(float),
    }
    for name in draw(st.sets(st.sampled_from(sorted(optional)))):
        document[name] = draw(optional[name])
    return dict(draw(st.permutations(list(document.items()))))


@st.composite
def with_hole(draw: st.DrawFn, *, keys: bool) -> bytes:
    """An acceptable payload but for `"HOLE"`, somewhere in what goes to `extra_data`, or as a key there."""
    document = draw(documents())
    node: Any = HOLE
    if keys and draw(st.booleans()):
        node = {HOLE: draw(SCALARS)}
    for in_list in draw(st.lists(st.booleans(), max_size=6)):
        before = draw(st.lists(SCALARS, max_size=2))
        node = (
            [*before, node] if in_list else {**{str(i): value for i, value in enumerate(before)}, "in": node}
        )
    document["hole"] = node
    return written(document, ascii_only=draw(st.booleans()))


def filled(payload: bytes, json_text: bytes) -> bytes:
    """The payload with its hole filled by a piece of JSON."""
    return payload.replace(written(HOLE), json_text)
