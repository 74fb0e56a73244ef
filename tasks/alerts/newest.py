"""The newest reading of each quiet device, so that an older one is not judged as the newest.

A device that violates no rule has no state, or one that is not written with every reading. This memory costs
one field of a hash for each device and half hour, is forgotten within two hours, and may be lost: without it
an older reading is judged as if it were the newest.
"""

from collections.abc import Collection, Mapping
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

# The field of a device in the hash of a span.
_FIELD = "/".join

# A hash for each half hour of arrivals, so that whole ones are forgotten.
SPAN_MS = 1_800_000
KEPT_SPANS = 3
KEEP_SECONDS = KEPT_SPANS * SPAN_MS // 1000


def recall(domain: AnyDomain, devices: Mapping[Device, int]) -> dict[Device, Newest]:
    """For each device, the newest reading kept from shortly before an arrival (ms), if the device was quiet.

    Raises `redis.RedisError`.
    """
    found = _read_spans(domain, _by_span(devices, devices))
    # A reading older than the patience does not make another one late.
    if len(found) < len(devices):
        earlier = {
            device: at_ms - SPAN_MS
            for device, at_ms in devices.items()
            if device not in found and at_ms % SPAN_MS * 1000 < PATIENCE_US
        }
        found |= _read_spans(domain, _by_span(earlier, earlier))
    return found


def recall_any(domain: AnyDomain, devices: Mapping[Device, int]) -> dict[Device, Newest]:
    """For devices with redelivered messages: the kept reading with the latest own time, of all spans.

    The clock of this gateway, or of the one that received the message first, may be wrong. Raises
    `redis.RedisError`.
    """
    found: dict[Device, Newest] = {}
    for back in range(-KEPT_SPANS, KEPT_SPANS + 1):
        shifted = {device: at_ms + back * SPAN_MS for device, at_ms in devices.items()}
        for device, newest in _read_spans(domain, _by_span(shifted, shifted)).items():
            found[device] = max(found.get(device, newest), newest, key=lambda kept: kept.own)
    return found


def _by_span(devices: Collection[Device], at_ms: Mapping[Device, int]) -> Mapping[int, Collection[Device]]:
    """The devices by the span of their arrivals (ms)."""
    spans = [at_ms[device] // SPAN_MS for device in devices]
    if len(set(spans)) == 1:
        return {spans[0]: devices}
    by_span: dict[int, list[Device]] = {}
    for device, span in zip(devices, spans, strict=True):
        by_span.setdefault(span, []).append(device)
    return by_span


def _read_spans(domain: AnyDomain, spans: Mapping[int, Collection[Device]]) -> dict[Device, Newest]:
    """The reading kept for each device in its span."""
    found: dict[Device, Newest] = {}
    for span, devices in spans.items():
        values = client().hmget(_key(domain, span), list(map(_FIELD, devices)))
        for device, value in zip(devices, values, strict=True):
            if isinstance(value, bytes):
                found[device] = unpack(value)
    return found


def note(
    commands: Pipeline, domain: AnyDomain, newest: Mapping[Device, Newest], at_ms: Mapping[Device, int]
) -> None:
    """Adds commands that keep the newest readings of quiet devices, each in the span of its arrival (ms)."""
    for span, devices in _by_span(newest.keys(), at_ms).items():
        fields: dict[Any, Any] = {_FIELD(device): pack(newest[device]) for device in devices}
        commands.hset(_key(domain, span), mapping=fields)
        commands.expire(_key(domain, span), KEEP_SECONDS)


def _key(domain: AnyDomain, span: int) -> str:
    return f"{domain.qualified(NEWEST)}:{span}"
