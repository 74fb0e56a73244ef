"""The newest reading of each quiet device, so that an older one is not judged as the newest.

A device that violates no rule has no state, or one that is not written with every reading. This memory costs
one field of a hash for each device and half hour, is forgotten within two hours, and may be lost: without it
an older reading is judged as if it were the newest.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from redis.client import Pipeline

from tasks.domain.domain import AnyDomain
from tasks.rules.order import PATIENCE_US, Newest
from tasks.servers.redis_client import NEWEST, client

Device = TypeVar("Device", bound=tuple[str, str])

# msgspec's, because each device of each batch comes by here: several times as fast as msgpack's.
pack = msgspec.msgpack.Encoder().encode
unpack = msgspec.msgpack.Decoder(Newest).decode

# A hash for each half hour of arrivals, so that whole ones are forgotten.
SPAN_MS = 1_800_000
KEPT_SPANS = 3
KEEP_SECONDS = KEPT_SPANS * SPAN_MS // 1000


def recall(domain: AnyDomain, devices: Mapping[Device, int]) -> dict[Device, Newest]:
    """For each device, the newest reading kept from shortly before an arrival (ms), if the device was quiet.

    Raises `redis.RedisError`.
    """
    found = _read_spans(domain, {device: at_ms // SPAN_MS for device, at_ms in devices.items()})
    # A reading older than the patience does not make another one late.
    earlier = {
        device: at_ms // SPAN_MS - 1
        for device, at_ms in devices.items()
        if device not in found and at_ms % SPAN_MS * 1000 < PATIENCE_US
    }
    return found | _read_spans(domain, earlier)


def recall_any(domain: AnyDomain, devices: Mapping[Device, int]) -> dict[Device, Newest]:
    """For devices with redelivered messages: the kept reading with the latest own time, of all spans.

    The clock of this gateway, or of the one that received the message first, may be wrong. Raises
    `redis.RedisError`.
    """
    found: dict[Device, Newest] = {}
    for back in range(-KEPT_SPANS, KEPT_SPANS + 1):
        spans = {device: at_ms // SPAN_MS + back for device, at_ms in devices.items()}
        for device, newest in _read_spans(domain, spans).items():
            found[device] = max(found.get(device, newest), newest, key=lambda kept: kept.own)
    return found


def _read_spans(domain: AnyDomain, spans: Mapping[Device, int]) -> dict[Device, Newest]:
    """The reading kept for each device in its span; most devices have the same span."""
    by_span: dict[int, list[Device]] = {}
    for device, span in spans.items():
        by_span.setdefault(span, []).append(device)
    found: dict[Device, Newest] = {}
    for span, devices in by_span.items():
        values = client().hmget(_key(domain, span), [_field(device) for device in devices])
        for device, value in zip(devices, values, strict=True):
            if isinstance(value, bytes):
                found[device] = unpack(value)
    return found


def note(
    commands: Pipeline, domain: AnyDomain, newest: Mapping[Device, Newest], at_ms: Mapping[Device, int]
) -> None:
    """Adds commands that keep the newest readings of quiet devices, each in the span of its arrival (ms)."""
    by_span: dict[int, dict[Any, Any]] = {}
    for device, one in newest.items():
        by_span.setdefault(at_ms[device] // SPAN_MS, {})[_field(device)] = pack(one)
    for span, fields in by_span.items():
        commands.hset(_key(domain, span), mapping=fields)
        commands.expire(_key(domain, span), KEEP_SECONDS)


def _key(domain: AnyDomain, span: int) -> str:
    return f"{domain.qualified(NEWEST)}:{span}"


def _field(device: tuple[str, str]) -> str:
    return "/".join(device)
