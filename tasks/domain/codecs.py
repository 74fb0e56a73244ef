"""From the bytes of a payload to a value as JSON has it: JSON, text, CBOR, MessagePack, gzip and zlib. Pure.

The value is bounded by the limits of a payload, however much the bytes expand.
"""

import io
import json
import math
import re
import zlib
from base64 import b64encode
from datetime import date
from typing import Any, Literal

import cbor2
import msgpack

from tasks.domain.looks import BOM, hint, is_compressed
from tasks.domain.payload import Limits, Refused, parse_json, refuse_faults
from tasks.domain.values import number
from tasks.text.wording import describe

Encoding = Literal["json", "text", "cbor", "msgpack", "gzip", "zlib"]
ENCODINGS: tuple[Encoding, ...] = ("json", "text", "cbor", "msgpack", "gzip", "zlib")

# By MQTT 5's content type, without its parameters.
_CONTENT_TYPES: dict[str, Encoding] = {
    "application/json": "json",
    "text/json": "json",
    "text/plain": "text",
    "application/cbor": "cbor",
    "application/msgpack": "msgpack",
    "application/x-msgpack": "msgpack",
    "application/vnd.msgpack": "msgpack",
    "application/gzip": "gzip",
    "application/x-gzip": "gzip",
    "application/zlib": "zlib",
}
# The meaning of CBOR's tags is left out: some cost far more than their bytes, and some make loops.
_TAGS = {
    tag: lambda value, _immutable: value
    for tag in (0, 1, 4, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799)
}
# Python writes no integer of more digits as text.
_MOST_BITS = 14_000
# A text that does not end takes all that is left: so no byte is looked at twice.
_BARE_NAN = re.compile(
    rb'("(?:[^"\\]++|\\.)*+(?:"|\\?\Z))|(?<![\w"])[-+]?+(?:nan|inf(?:inity)?+)(?!\w)',
    re.IGNORECASE | re.DOTALL,
)
_JSON_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None}


def decode(
    payload: bytes,
    encodings: tuple[Encoding, ...],
    limits: Limits,
    *,
    content_type: str = "",
    nan: bool = False,
    comma: bool = False,
    raw_text: bool = False,
) -> Any:
    """The value in a payload of one of these encodings: JSON's kinds, finite numbers, and no NUL characters.

    The content type decides if it is one of these. Otherwise compressed bytes are known by their beginning,
    and the first other encoding counts. `nan` makes null of numbers that are none, also bare ones in JSON;
    `comma` allows a decimal comma in text, and `raw_text` leaves text as it is. Raises `Refused`.
    """
    if len(payload) > limits.max_bytes:
        raise Refused(
            "TooLarge", f"the payload has {len(payload)} bytes; at most {limits.max_bytes} are allowed"
        )
    chosen = _chosen(encodings, content_type)
    if chosen in {"gzip", "zlib"} or (is_compressed(payload) and not {"gzip", "zlib"}.isdisjoint(encodings)):
        payload = _decompressed(payload, limits)
        chosen = _chosen(encodings, "")
    if chosen == "cbor":
        return _plain(_from_cbor(payload, limits), limits, nan=nan)
    if chosen == "msgpack":
        return _plain(_from_msgpack(payload), limits, nan=nan)
    # Harmless, and common in firmware that writes C strings.
    payload = payload.removeprefix(BOM).rstrip(b"\0")
    if chosen == "text":
        return _from_text(payload, limits, comma=comma, raw=raw_text)
    return _from_json(payload, limits, nan=nan)


def _chosen(encodings: tuple[Encoding, ...], content_type: str) -> Encoding:
    named = _CONTENT_TYPES.get(content_type.partition(";")[0].strip().lower())
    if named in encodings:
        return named
    return next((one for one in encodings if one not in {"gzip", "zlib"}), "json")


def _decompressed(payload: bytes, limits: Limits) -> bytes:
    # 32 more than the window's bits takes both headers, gzip's and zlib's.
    decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        unpacked = decoder.decompress(payload, limits.max_bytes + 1)
    except zlib.error as error:
        raise Refused("InvalidEncoding", f"the payload cannot be decompressed: {error}") from None
    if len(unpacked) > limits.max_bytes:
        raise Refused(
            "TooLarge", f"the payload decompresses to more than the {limits.max_bytes} bytes allowed"
        )
    if not decoder.eof:
        raise Refused("InvalidEncoding", "the compressed payload is cut off")
    if decoder.unused_data:
        raise Refused("InvalidEncoding", "bytes follow the compressed payload")
    return unpacked


def _from_json(payload: bytes, limits: Limits, *, nan: bool) -> Any:
    try:
        return parse_json(payload, limits)
    except Refused as refused:
        if not nan or refused.error_type not in {"InvalidJson", "NotFinite"}:
            raise
        tidied = _BARE_NAN.sub(lambda found: found[1] or b"null", payload)
        if tidied == payload:
            raise
    return parse_json(tidied, limits)


def _from_text(payload: bytes, limits: Limits, *, comma: bool, raw: bool) -> Any:
    try:
        text = payload.decode().strip()
    except UnicodeDecodeError as error:
        byte = f"byte {error.start} (0x{payload[error.start]:02x})"
        reason = f"the payload must be text in UTF-8, but {byte} is not{hint(payload)}"
        raise Refused("InvalidEncoding", reason) from None
    if text[:1] in {"{", "["}:
        return parse_json(text.encode(), limits)
    refuse_faults(text, limits)
    return text if raw else scalar(text, comma=comma)


def scalar(text: Any, *, comma: bool = False) -> Any:
    """The value of a text: a number, with a unit as `{"value", "unit"}`; a boolean, null; or itself.

    Quotes around it do not count.
    """
    if not isinstance(text, str):
        return text
    if text in _JSON_WORDS:
        return _JSON_WORDS[text]
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1].strip()
    if found := number(text, comma=comma, unit=True):
        return {"value": found[0], "unit": found[1]} if found[1] else found[0]
    return text


def _from_cbor(payload: bytes, limits: Limits) -> Any:
    decoder = cbor2.CBORDecoder(
        io.BytesIO(payload),
        tag_hook=lambda tag, _immutable: tag.value,
        semantic_decoders=_TAGS,
        # A tag is a level too.
        max_depth=2 * limits.max_depth + 2,
    )
    try:
        value = decoder.decode()
    except cbor2.CBORDecodeEOF:
        raise Refused("InvalidEncoding", "the payload is cut off: CBOR goes on beyond its end") from None
    except (cbor2.CBORDecodeError, ValueError, OverflowError, TypeError) as error:
        if "depth" in str(error):
            raise Refused("TooDeep", "the payload is nested far too deep") from None
        raise Refused("InvalidEncoding", f"the payload must be CBOR: {error}{hint(payload)}") from None
    try:
        decoder.decode()
    except (cbor2.CBORDecodeError, ValueError, OverflowError, TypeError):
        return value
    raise Refused("InvalidEncoding", "the payload holds more than one CBOR value")


def _from_msgpack(payload: bytes) -> Any:
    try:
        return msgpack.unpackb(payload, strict_map_key=False, timestamp=0)
    except msgpack.StackError:
        raise Refused("TooDeep", "the payload is nested far too deep") from None
    except msgpack.ExtraData:
        raise Refused("InvalidEncoding", "the payload holds more than one MessagePack value") from None
    except (msgpack.UnpackException, ValueError, OverflowError, TypeError) as error:
        cut = "incomplete" in str(error)
        why = "it is cut off" if cut else f"{error or type(error).__name__}{hint(payload)}"
        raise Refused("InvalidEncoding", f"the payload must be MessagePack: {why}") from None


def _plain(value: Any, limits: Limits, *, nan: bool) -> Any:
    """The value with JSON's kinds alone: bytes become base64, keys text, and what has no meaning null."""
    plain = _as_json(value, limits.max_depth + 1, nan=nan)
    refuse_faults(plain, limits)
    return plain


def _as_json(value: Any, levels: int, *, nan: bool) -> Any:
    if isinstance(value, dict | list | tuple | set | frozenset):
        if not levels:
            raise Refused("TooDeep", "the payload is nested deeper than the levels allowed")
        if isinstance(value, dict):
            return {_key(key): _as_json(one, levels - 1, nan=nan) for key, one in value.items()}
        return [_as_json(one, levels - 1, nan=nan) for one in value]
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        raise Refused("OutOfRange", f"the payload holds {describe(value)}")
    if isinstance(value, date):
        return value.isoformat()
    known = isinstance(value, str | bool | int | float)
    return value if known and not (nan and isinstance(value, float) and not math.isfinite(value)) else None


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, bytes):
        return key.decode(errors="backslashreplace")
    if key is None or isinstance(key, bool | int | float):
        return json.dumps(key) if not isinstance(key, int) or key.bit_length() < _MOST_BITS else "…"
    raise Refused("InvalidField", "a key in the payload is neither text nor a number")
